"""The notebooks of a translation, and the package where it speaks another language."""

import os
import re
import subprocess
import sys

import nbformat
import pytest
from helpers import kernel

from async_hpo import language
from async_hpo.check import config_space
from tools import translated
from tools.languages import TRANSLATIONS
from tools.notebooks import ROOT

KNOWN = {
    "A longer sentence about one trial of many.": "시험에 관한 긴 문장입니다.",
    "The first item": "첫째 항목",
    "A title": "제목",
    "trial": "시험",
}


@pytest.fixture(autouse=True)
def speak_english_afterwards(monkeypatch):
    for name in ("_messages", "_shown"):
        monkeypatch.setattr(language, name, getattr(language, name))


@pytest.mark.parametrize(
    "source, expected",
    [
        ("# A title", "# 제목"),
        ("A longer sentence\nabout one trial of many.\n\nIt stays", "시험에 관한 긴 문장입니다.\n\nIt stays"),
        ("- The first\n  item\n- trial", "- 첫째 항목\n- 시험"),
        ("| trial | `trial` |\n|---|---|\n| A title | 1 |", "| 시험 | `trial` |\n|---|---|\n| 제목 | 1 |"),
        ("```{exercise-start} A title\n:label: trial\n```", "```{exercise-start} 제목\n:label: trial\n```"),
        (":alt: A title", ":alt: 제목"),
        ("a trial of many", "a trial of many"),
    ],
)
def test_each_part_of_a_text_is_translated_whole(source, expected):
    longest_first = dict(sorted(KNOWN.items(), key=lambda one: -len(one[0])))
    assert translated.in_text(source, longest_first) == expected


def test_comments_and_docstrings_are_translated_and_code_is_not():
    code = '''def f(x):
    """What it does."""
    # Two lines
    # with 10 words.
    return "# no comment"  # a trial  #@save


f(1)  #@save
'''
    known = {"What it does.": "하는 일.", "Two lines\nwith {} words.": "낱말 {}개.", "a trial  #@save": "?"}
    assert translated.in_code(code, lambda text: known.get(text, text)) == (
        code.replace("What it does.", "하는 일.")
        .replace("# Two lines\n    # with 10 words.", "# 낱말 10개.")
        .replace("# a trial  #@save", "# ?")
    )


@pytest.mark.parametrize("code", TRANSLATIONS)
def test_what_has_a_translation_is_not_left_in_english(code, tmp_path):
    assert translated.write(code, tmp_path) == []
    for path in (path for places in translated.PAGES[:3] for path in ROOT.glob(places)):
        text = (tmp_path / path.relative_to(ROOT)).read_text("utf-8")
        if path.suffix == ".ipynb":
            notebook = nbformat.reads(text, as_version=4)
            text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
            remarks = {one[2] for cell in translated.code_cells(notebook) for one in translated.remarks(cell.source)}
            assert not remarks & {one for one, other in translated.messages("code", code).items() if one != other}
        text = re.sub(r"\s+", " ", text)
        known = translated.messages(translated.page_of(path), code)
        sentences = [one for one, other in known.items() if one != other and len(one.split()) > 3]
        assert not [one for one in sentences if one in text], path.name


def test_what_a_reader_wrote_stays(tmp_path, monkeypatch):
    translated.write("ko", tmp_path)
    mine, other, recipe = (
        tmp_path / name for name in ("notebooks/exercises.ipynb", "book/index.md", "recipes/start.py")
    )
    before = other.read_text("utf-8")
    for path in (mine, recipe):
        path.write_text("mine", "utf-8")
    assert translated.write("ko", tmp_path) == []
    monkeypatch.setattr(translated, "in_text", lambda source, known: "new")
    assert translated.write("ko", tmp_path) == [mine]
    assert mine.read_text("utf-8") == recipe.read_text("utf-8") == "mine"
    assert other.read_text("utf-8") == "new" != before


@pytest.mark.slow
def test_a_translated_notebook_runs_and_says_what_its_outputs_say(tmp_path):
    """Its stored outputs are translated ones; those of the run are what the package says in this language."""
    translated.write("ko", tmp_path)
    for name in ("recordings", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    notebooks = [tmp_path / "notebooks" / f"{name}.ipynb" for name in ("exercises", "overhead", "stragglers")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-c", "pyproject.toml", "--rootdir", tmp_path]
    command += ["-p", "no:cacheprovider", *notebooks]
    home = os.environ | {"ASYNC_HPO_HOME": str(tmp_path)}
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=home)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert " passed" in run.stdout and " failed" not in run.stdout


SHOWS = """
import matplotlib.pyplot as plt, pandas as pd
from IPython.display import display
from async_hpo import check, language, plots
language.use("ko")
plots.use_style()
figure, ax = plt.subplots()
ax.set(xlabel="wall-clock time [s]", ylabel="my own words", title="24 workers")
plt.show()
display(pd.DataFrame({"validation error": [0.5], "mine": ["x"]}))
check.config_space({})
"""


@pytest.mark.slow
def test_figures_tables_and_messages_are_in_the_notebooks_language():
    with kernel() as (_, client, _process):
        outputs = []
        client.execute_interactive(SHOWS, output_hook=outputs.append, timeout=300)
    contents = [message["content"] for message in outputs]
    shown = "".join(str(content.get("data", content.get("text", ""))) for content in contents)
    assert not [content for content in contents if "ename" in content]
    for words in ("벽시계 시간[초]</text>", "my own words</text>", "작업자 24개</text>", "검증 오류</th>", "mine</th>"):
        assert words in shown
    assert "✓ 딕셔너리입니다" in shown and "기대한 값: num_hiddens_1" in shown


def test_what_is_printed_is_told_in_the_language_of_use(capsys):
    config_space({})
    english = capsys.readouterr().out
    language.use("ko")
    config_space({})
    korean = capsys.readouterr().out
    assert translated.said(english, "ko") == korean != english


def test_an_unknown_language_is_refused_by_name():
    with pytest.raises(FileNotFoundError, match=r"xx.*has been translated to: ko"):
        language.use("xx")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tools.translated", "xx"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert run.returncode == 1 and "There is no 'xx'" in run.stderr
