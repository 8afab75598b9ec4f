"""Recordings: what they are made from, what is kept, and what is said of one that can't be used."""

import json
import re
import shutil
import warnings

import pandas as pd
import pytest

from async_hpo import digest as digests
from async_hpo import paths, recordings
from async_hpo.digest import digest
from tools.notebooks import PARAMETERS, ROOT, code_cells, notebooks, read, reads_recordings, tags

PACKAGE = {
    "data.py": """
        from async_hpo.fetch import fetch
        SEED = 0
        class Data:
            '''Images.'''
            def __init__(self, size: int):
                if size < 1:
                    raise ValueError("too small")
                self.images = load()
        def load():
            return fetch(SEED)
    """,
    "fetch.py": """
        def fetch(seed, timeout=300):
            return seed
    """,
    "chapter.py": """
        def train(data):
            return data  # a comment
        def objective():
            from async_hpo.chapter import train
            from async_hpo.data import Data
            return train(Data(1))
        space = {"epochs": 10}
        def unused():
            return 1
    """,
}
OF = ["async_hpo.chapter:objective", "async_hpo.chapter:space"]


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A small package in place of the book's; call it with a file and a replacement to change it."""
    (tmp_path / "async_hpo").mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / "async_hpo" / name).write_text("\n".join(line[8:] for line in text.strip("\n").splitlines()))
    monkeypatch.setattr(digests, "_CODE", tmp_path)

    def change(name, old, new):
        path = tmp_path / "async_hpo" / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        digests._module.cache_clear()

    digests._module.cache_clear()
    yield change
    digests._module.cache_clear()


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("chapter.py", "train(Data(1))", "train(Data(2))"),
        ("chapter.py", "return data", "return 2 * data"),
        ("chapter.py", '"epochs": 10', '"epochs": 11'),
        ("data.py", "SEED = 0", "SEED = 1"),
        ("data.py", "size < 1", "size < 2"),
    ],
)
def test_a_digest_sees_objective_space_and_data(package, name, old, new):
    before = digest(OF)
    package(name, old, new)
    assert digest(OF) != before


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("fetch.py", "timeout=300", "timeout=301"),
        ("data.py", "too small", "too few"),
        ("data.py", "Images.", "All images."),
        ("data.py", "size: int", "size"),
        ("chapter.py", "# a comment", "# another"),
        ("chapter.py", "return 1", "return 2"),
    ],
)
def test_a_digest_does_not_see_what_changes_no_result(package, name, old, new):
    before = digest(OF)
    package(name, old, new)
    assert digest(OF) == before


def test_a_table_has_a_digest_and_what_is_not_there_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RECORDINGS", tmp_path)
    (tmp_path / "cnn.csv").write_text("1")
    before = digest(["cnn.csv"])
    (tmp_path / "cnn.csv").write_text("2")
    assert digest(["cnn.csv"]) != before
    for name in ("none.csv", "async_hpo.chapter:nothing"):
        with pytest.raises(LookupError, match="there is no"):
            digest([name])


def test_digests_are_the_same_on_every_python(package):
    """A fixed value: `ast` of Python 3.11 to 3.14 must agree on it."""
    assert digest(OF) == "1915795fe9f681d3"


# --- keep and load ---------------------------------------------------------------------------------------------------

TABLE = pd.DataFrame({"name": ["None", "02", "x"], "value": [0.1, 1 / 3, 2e-17]})


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """A recording of the page `page`."""
    monkeypatch.setattr(paths, "RECORDINGS", tmp_path)
    (tmp_path / "cnn.csv").write_text("1")
    series = pd.Series({32: 1.5, 64: 2.5})
    made = {"table": TABLE, "series": series, "list": [1, 2.5, None, "text"], "nested": {"deep": [TABLE, TABLE[:1]]}}
    return recordings.keep(made, tmp_path / "page" / "what", ["cnn.csv"], seconds=125)


def test_what_is_kept_is_read_again(kept):
    found, about = recordings.load(kept, ["cnn.csv"])
    pd.testing.assert_frame_equal(found["table"], TABLE)
    pd.testing.assert_frame_equal(found["nested"]["deep"][1], TABLE[:1])
    assert found["series"].to_dict() == {32: 1.5, 64: 2.5} and found["list"] == [1, 2.5, None, "text"]
    assert about["cores"] >= 1 and set(about["versions"]) == {"torch", "syne-tune", "Python"}
    assert " in 2 minutes on " in recordings.described(about)


def test_runs_are_kept_as_their_own_files(kept, monkeypatch):
    monkeypatch.setattr(paths, "RECORDINGS", ROOT / "recordings")
    monkeypatch.setenv("SYNETUNE_FOLDER", str(ROOT / "recordings" / "scheduler" / "run"))
    (folder,) = (ROOT / "recordings" / "scheduler" / "run").glob("lenet-random-search-*")
    run = recordings.read_run(folder)
    again = recordings.load(recordings.keep({"runs": [run]}, kept, [], seconds=1))[0]["runs"][0]
    pd.testing.assert_frame_equal(again.reports, run.reports)
    pd.testing.assert_frame_equal(again.trials, run.trials)


def _remove_recording(folder):
    shutil.rmtree(folder)


def _remove_a_file(folder):
    (folder / "table-0.csv").unlink()


def _change_a_file(folder):
    (folder / "table-0.csv").write_text("name,value\n")


def _cut_the_description(folder):
    path = folder / recordings.FILENAME
    path.write_text(path.read_text()[:100])


def _empty_the_description(folder):
    (folder / recordings.FILENAME).write_text("[]")


def _change_what_it_is_of(folder):
    (folder.parents[1] / "cnn.csv").write_text("2")


@pytest.mark.parametrize(
    "harm, why",
    [
        (_remove_recording, "recording.json is missing"),
        (_remove_a_file, "table-0.csv is missing"),
        (_change_a_file, "it is damaged: table-0.csv is not the file that was recorded"),
        (_cut_the_description, "it is damaged: "),
        (_empty_the_description, "it is damaged: "),
        (_change_what_it_is_of, "it was recorded from other code or data than today's cnn.csv"),
    ],
)
def test_one_line_names_a_recording_that_can_not_be_used_and_the_command(kept, harm, why):
    harm(kept)
    with pytest.raises(recordings.RecordingError, match=why) as raised:
        recordings.recorded("page/what", dict, anew=False, of=["cnn.csv"])
    message = str(raised.value)
    assert message.startswith("The recording page/what can't be used: ") and message.endswith("make measure PAGE=page")
    assert "\n" not in message


def test_anew_calls_and_keeps_beside_the_book(kept, monkeypatch, tmp_path):
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path / "own"))
    before = (kept / recordings.FILENAME).read_text()
    found = recordings.recorded("page/what", lambda: {"number": 3}, anew=True, of=["cnn.csv"])
    assert found == {"number": 3} == recordings.load(tmp_path / "own" / "recordings" / "page" / "what")[0]
    assert (kept / recordings.FILENAME).read_text() == before


# --- the book's own --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recordings").glob("*/*/recording.json")), ids=lambda path: "/".join(path.parts[-3:-1])
)
def test_the_books_recordings_belong_to_todays_objectives_spaces_and_data(path):
    found, about = recordings.load(path.parent)
    assert found and about["date"] >= "2026-11-24" and about["seconds"] >= 0
    for name, now in locked().items():
        if about["versions"][name].split(".")[:2] != now.split(".")[:2]:
            warnings.warn(f"{path.parent}: made with {name} {about['versions'][name]}, not {now}", stacklevel=1)


def locked():
    """The versions in the lock of what a recording is made with."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = dict(line.split(" ")[0].split("==") for line in lines if "==" in line and not line.startswith((" ", "#")))
    return {name: pins[name] for name in ("torch", "syne-tune")}


def test_no_recording_names_a_place_of_the_machine():
    for path in (ROOT / "recordings").rglob("*.json"):
        assert not any(f'"{place}' in path.read_text() for place in ("/home", "/root", "/tmp", "/Users", "/work"))
        assert json.loads(path.read_text())


@pytest.mark.parametrize("path", [path for path in notebooks() if reads_recordings(read(path))], ids=lambda p: p.stem)
def test_a_page_says_how_long_its_recordings_took(path):
    (first, *_) = (cell.source.splitlines()[0] for cell in code_cells(read(path)) if PARAMETERS in tags(cell))
    said = int(re.search(r"(\d+) minutes?$", first)[1])
    made = re.findall(rf'"{path.stem}/([\w-]+)"', "".join(cell.source for cell in code_cells(read(path))))
    kept = [json.loads((ROOT / "recordings" / path.stem / one / "recording.json").read_text()) for one in {*made}]
    assert kept and abs(said - sum(one["seconds"] for one in kept) / 60) < max(2, 0.2 * said)
