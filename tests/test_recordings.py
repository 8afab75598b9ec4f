"""Recordings: what they are made from, what is kept, and what is said of one that can't be used."""

import re
import textwrap

import pandas as pd
import pytest

from async_hpo import digest as digests
from async_hpo import paths, recordings
from async_hpo.digest import digest
from tools.notebooks import ROOT

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
    """A small package in place of the book's; call it to write it, with a replacement in one file."""
    (tmp_path / "async_hpo").mkdir()
    monkeypatch.setattr(digests, "_CODE", tmp_path)

    def write(changed="", old="", new=""):
        assert not changed or old in PACKAGE[changed]
        for name, text in PACKAGE.items():
            text = text.replace(old, new) if name == changed else text
            (tmp_path / "async_hpo" / name).write_text(textwrap.dedent(text))
        digests._module.cache_clear()

    yield write
    digests._module.cache_clear()


@pytest.mark.parametrize(
    "name, old, new, changes_results",
    [
        ("chapter.py", "train(Data(1))", "train(Data(2))", True),
        ("chapter.py", "return data", "return 2 * data", True),
        ("chapter.py", '"epochs": 10', '"epochs": 11', True),
        ("data.py", "SEED = 0", "SEED = 1", True),
        ("data.py", "size < 1", "size < 2", True),
        ("fetch.py", "timeout=300", "timeout=301", False),
        ("data.py", "too small", "too few", False),
        ("data.py", "Images.", "All images.", False),
        ("data.py", "size: int", "size", False),
        ("chapter.py", "# a comment", "# another", False),
        ("chapter.py", "return 1", "return 2", False),
    ],
)
def test_a_digest_sees_what_changes_results_and_nothing_else(package, name, old, new, changes_results):
    package()
    before = digest(OF)
    assert before == "1915795fe9f681d3", "`ast` of Python 3.11 to 3.14 must agree on it"
    package(name, old, new)
    assert (digest(OF) != before) == changes_results


@pytest.mark.parametrize("name", ["none.csv", "async_hpo.chapter:nothing"])
def test_what_is_not_there_has_no_digest(name):
    with pytest.raises(LookupError, match="there is no"):
        digest([name])


# --- keep and load ---------------------------------------------------------------------------------------------------

TABLE = pd.DataFrame({"name": ["None", "02", "x"], "value": [0.1, 1 / 3, 2e-17]})


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """A recording of the page `page`."""
    monkeypatch.setattr(paths, "RECORDINGS", tmp_path)
    (tmp_path / "cnn.csv").write_text("1")
    made = {"table": TABLE, "nested": {"deep": [1, None, "text", TABLE[:1]]}}
    return recordings.keep(made, tmp_path / "page" / "what", ["cnn.csv"], seconds=125)


def test_what_is_kept_is_read_again(kept):
    found, about = recordings.load(kept, ["cnn.csv"])
    pd.testing.assert_frame_equal(found["table"], TABLE)
    pd.testing.assert_frame_equal(found["nested"]["deep"][3], TABLE[:1])
    assert found["nested"]["deep"][:3] == [1, None, "text"]
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


@pytest.mark.parametrize(
    "file, content, why",
    [
        ("recording.json", None, "recording.json is missing"),
        ("recording.json", "[]", "it is damaged: "),
        ("recording.json", '{"of": ["cnn', "it is damaged: "),
        ("table-0.csv", None, "table-0.csv is missing"),
        ("table-0.csv", "name,value\n", "it is damaged: table-0.csv is not the file that was recorded"),
        ("../../cnn.csv", "2", "it was recorded from other code or data than today's cnn.csv"),
    ],
)
def test_one_line_names_a_recording_that_can_not_be_used_and_the_command(kept, file, content, why):
    if content is None:
        (kept / file).unlink()
    else:
        (kept / file).write_text(content)
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
    found, _about = recordings.load(path.parent)
    assert found
    for file in path.parent.rglob("*.json"):
        assert not re.search('"/(home|root|tmp|Users|work)', file.read_text()), "a place of the machine"
