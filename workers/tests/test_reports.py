"""A function as a trial: what is found in what it prints, and which functions can be one."""

import json
import random
from functools import partial

import numpy as np
import pytest
from syne_tune_workers.function import as_python, check_arguments
from syne_tune_workers.reports import Excerpt, Log, Reports


def line(epoch, **values):
    report = {"epoch": epoch, "error": 0.5, "st_worker_timestamp": 1.5} | values
    return f"[tune-metric]: {json.dumps(report)}\n".encode()


def epochs(*pieces):
    reports = Reports()
    return [report["epoch"] for piece in pieces for report in reports.feed(piece)]


def test_reports_are_found_among_other_text():
    text = b"hello\n" + line(1) + b"\xff\xfe no UTF-8\n" + b"progress \r 50 %" + line(2) + b"\n\n" + line(3)
    assert epochs(text) == [1, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_it_does_not_matter_in_which_pieces_the_text_comes(seed):
    draw = random.Random(seed)
    other = [b"text\n", b"[tune-", b"[tune-metric]", b"\n", b"\xc3", b"x" * 50]
    text = b"".join(line(epoch) + draw.choice(other) + b"\n" for epoch in range(50))
    cuts = sorted(draw.choices(range(len(text)), k=draw.choice([1, 30, 1000])))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert epochs(*pieces) == [*range(50)]


def test_reports_of_threads_on_one_line_are_all_found():
    assert epochs(line(1).rstrip() + b"[tune-metric]: {" + line(2).rstrip() + b"\n" + line(3)) == [1, 2, 3]


@pytest.mark.parametrize(
    "epoch", [f"as in {line(7).decode()}", "9" * 400, ""], ids=["quotes a report", "huge", "empty"]
)
def test_what_a_report_says_is_not_taken_for_something_else(epoch):
    assert epochs(line(epoch)) == [epoch]


@pytest.mark.parametrize(
    "text",
    [
        b"{'epoch': 1, 'st_worker_timestamp': 1.5}",
        b'{"epoch": 1}',
        b'{"epoch": 1, "st_worker_timestamp": "now"}',
        b'{"epoch": 1, "st_worker_timestamp": 1.5, [',
        b"[" * 100_000,
        b"[1, 2]",
        b"\xff",
        b"",
    ],
)
def test_what_bears_the_tag_but_is_no_report_is_skipped(text):
    assert epochs(line(1) + b"[tune-metric]: " + text + b"\n" + line(2)) == [1, 2]


def test_a_long_open_line_is_not_kept():
    reports = Reports()
    for _ in range(30):
        reports.feed(b"\r" + b"x" * 100_000)
        assert len(reports._open) < 100
    reports.feed(b"[tune-metric]: " + b"x" * 1_000_000)
    assert len(reports._open) < 200_000
    assert [report["epoch"] for report in reports.feed(b"\n" + line(7))] == [7]


def test_a_log_is_read_once_and_goes_on_after_it_was_closed(tmp_path):
    path = tmp_path / "std.out"
    path.touch()
    log = Log(path)
    for epoch in range(1, 6):
        with open(path, "ab") as file:
            file.write(line(epoch))
        assert [report["epoch"] for report in log.new_reports()] == [epoch]
        assert log.new_reports() == []
        if epoch % 2:
            log.close()


@pytest.mark.parametrize("seed", range(20))
def test_an_excerpt_has_the_beginning_every_report_once_and_the_end(seed, monkeypatch):
    monkeypatch.setattr(Excerpt, "MOST", 1000)
    monkeypatch.setattr(Excerpt, "TAIL", 100)
    draw = random.Random(seed)
    text = b"".join(line(epoch) + b"x" * draw.choice([10, 300]) + b"\n" for epoch in range(50)) + b"the last words\n"
    cuts = sorted(draw.choices(range(len(text)), k=draw.choice([1, 30, 1000])))
    excerpt = Excerpt()
    pieces = [excerpt.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    kept = [content for content, _ in pieces] + [excerpt.end(text[-100:])]
    assert b"".join(kept).startswith(text[:1000]) and kept[-1].endswith(b"the last words\n")
    assert epochs(*kept) == [report["epoch"] for _, reports in pieces for report in reports] == [*range(50)]
    assert f"[Here {len(text) - 1100:,} bytes are left out.]".encode() in kept[-1]
    assert len(b"".join(kept)) < 1000 + 50 * (len(line(10)) + 1) + 200


@pytest.mark.parametrize(("length", "end"), [(1000, b""), (1001, b"1"), (1010, b"1" * 10)])
def test_what_is_no_longer_than_an_excerpt_is_whole(length, end, monkeypatch):
    monkeypatch.setattr(Excerpt, "MOST", 1000)
    monkeypatch.setattr(Excerpt, "TAIL", 100)
    text = b"0" * 1000 + b"1" * (length - 1000)
    excerpt = Excerpt()
    assert excerpt.feed(text) == (text[:1000], []) and excerpt.end(text[-100:]) == end


def test_an_excerpt_of_a_line_without_an_end_is_short():
    excerpt = Excerpt()
    kept = sum(len(excerpt.feed(b"x" * 2**20)[0]) for _ in range(20))
    assert kept == Excerpt.MOST and len(excerpt.end(b"x" * 2**20)) < Excerpt.TAIL + 100


# --- arguments -------------------------------------------------------------------------------------------------------


def takes_x(x, y=1):
    pass


def test_functions_of_any_kind():
    assert check_arguments(takes_x, {"x": 1}) == ("takes_x", {"x", "y"})
    assert check_arguments(takes_x, {"x": 1, "y": 2})[1] == {"x", "y"}
    assert check_arguments(partial(takes_x, y=2), {"x": 1})[1] == {"x", "y"}
    assert check_arguments(lambda **config: None, {"anything": 1})[1] == set()
    assert check_arguments(lambda x, st_checkpoint_dir: None, {"x": 1})[1] == {"x", "st_checkpoint_dir"}


def test_arguments_by_position_only_are_refused():
    def objective(x, /):
        pass

    with pytest.raises(ValueError, match=r"objective takes 'x' by position only"):
        check_arguments(objective, {"x": 1})


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match="is a function, not 'train'"):
        check_arguments("train", {"x": 1})


def test_numbers_become_pythons():
    found = [as_python(value) for value in (np.int64(3), np.float32(0.5), np.str_("a"), np.bool_(True), 7, None, "b")]
    assert found == [3, 0.5, "a", True, 7, None, "b"]
    assert not any(isinstance(value, np.generic) for value in found)
