"""The server that forks, without a back-end: how work starts and ends, and what ends with what."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import psutil
import pytest
from backend_helpers import LONG, alive, wait_for, wait_until_ended
from syne_tune_workers import processes
from syne_tune_workers.processes import LOST, FreshProcesses, Server, wait_for_news

HERE = Path(__file__).parent


def pids_in(path):
    return [int(line.split()[0]) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []


@pytest.fixture
def servers():
    made = []

    def make(name, *arguments, **options):
        made.append(Server(f"forked:{name}", arguments, **options))
        return made[-1]

    yield make
    for server in made:
        with contextlib.suppress(ValueError):  # it has been stopped
            server.stop()


@pytest.fixture
def server(servers, tmp_path):
    made = servers("prepare", str(tmp_path), 7)
    made.wait_until_ready()
    return made


# --- one piece of work -----------------------------------------------------------------------------------------------


def server_behind(server):
    (process,) = psutil.Process(server.pid).children()
    return process


def test_it_prepares_once_and_each_piece_of_work_is_a_fork_of_its_own(server, tmp_path):
    works = [server.start(forked.note, str(tmp_path / "notes")) for _ in range(5)]
    assert [work.wait() for work in works] == [0] * 5
    lines = (tmp_path / "notes").read_text().splitlines()
    assert sorted(lines) == sorted(f"done 7 {work.pid}" for work in works) and len(set(lines)) == 5
    assert pids_in(tmp_path / "prepared") == [server_behind(server).pid]


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (3, 3), (-1, 255), (255, 255), ("a word", 1)])
def test_exit_codes_arrive(server, code, expected):
    assert server.start(forked.end_with, code).wait() == expected != LOST


def test_an_exception_is_exit_code_1(server):
    assert server.start(forked.note).wait() == 1


def test_news_come_at_once_and_no_news_after_the_timeout(server):
    sleeping = server.start(time.sleep, 600)
    wait_for(lambda: sleeping.poll() or sleeping.pid, LONG, "its start")
    begin = time.monotonic()
    wait_for_news([sleeping, sleeping], 0.2)
    assert time.monotonic() - begin >= 0.2 and sleeping.returncode is None
    os.kill(sleeping.pid, signal.SIGTERM)
    wait_for_news([sleeping], LONG)
    assert sleeping.wait() == -signal.SIGTERM


def test_work_is_killed_in_its_first_milliseconds_as_at_any_time(server):
    for number in range(40):
        work = server.start(time.sleep, 600)
        time.sleep(number / 10_000)
        work.kill()
        assert work.wait() == -signal.SIGKILL
        work.kill()  # it has ended: nothing happens


def test_a_fork_that_was_killed_while_it_waited_is_replaced(server):
    for _ in range(2):
        children = server_behind(server).children
        (waiting,) = wait_for(lambda: len(children()) == 1 and children(), LONG, "a fork that waits")  # noqa: B023
        waiting.kill()
        wait_until_ended([waiting.pid])
        assert server.start(forked.end_with, 3).wait() == 3


def test_all_that_came_from_killed_work_ends_with_it(server, tmp_path):
    work = server.start(forked.sleep_with_children, str(tmp_path / "pids"))
    wait_for(lambda: (tmp_path / "pids").exists() and len(pids_in(tmp_path / "pids")) == 3, LONG, "children")
    work.kill()
    wait_until_ended(pids_in(tmp_path / "pids"))


def test_a_child_that_work_leaves_behind_ends_with_it(server, tmp_path):
    assert server.start(forked.leave_a_child, str(tmp_path / "pids")).wait() == 0
    wait_until_ended(pids_in(tmp_path / "pids"))


# --- the server ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whom", ["the server", "its guard"])
def test_work_of_a_killed_server_is_lost_and_so_is_what_starts_then(server, whom, tmp_path):
    works = [server.start(forked.sleep_with_children, str(tmp_path / f"pids{n}")) for n in range(2)]
    wait_for(lambda: all(len(pids_in(tmp_path / f"pids{n}")) == 3 for n in range(2)), LONG, "their start")
    os.kill(server_behind(server).pid if whom == "the server" else server.pid, signal.SIGKILL)
    assert [work.wait() for work in works] == [LOST] * 2
    wait_until_ended([work.pid for work in works])
    if whom == "its guard":  # as when Ray ends a worker process: the server ends all that came from its work
        wait_until_ended([pid for n in range(2) for pid in pids_in(tmp_path / f"pids{n}")])
    assert server.start(time.sleep, 600).wait() == LOST
    wait_for(lambda: not server.is_alive(), LONG, "its end")
    assert not server.is_current()


def test_a_machine_without_free_processes_loses_the_work_not_the_server(servers):
    full = servers("fork_no_more")
    full.wait_until_ready()
    assert [full.start(time.sleep, 0).wait() for _ in range(2)] == [LOST] * 2
    assert full.is_alive()


def test_a_retired_server_ends_with_its_last_work(server, tmp_path):
    go = tmp_path / "go"
    os.mkfifo(go)
    work = server.start(go.read_text)
    assert server.is_alive()
    server.retire()
    assert alive([server.pid]) and work.poll() is None
    assert not server.is_alive(), "no other work starts there"
    go.write_text("")
    assert work.wait() == 0
    wait_until_ended([server.pid])


def test_a_stopped_server_ends_its_work(server):
    work = server.start(time.sleep, 600)
    wait_for(lambda: work.poll() or work.pid, LONG, "its start")
    server.stop()
    wait_until_ended([work.pid, server.pid])
    assert work.wait() == LOST


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("end_with", ["all is lost"], "SystemExit: all is lost"),
        ("note", ["/missing/file"], "No such file or directory: '/missing/file'"),
        ("kill_itself", [], "last words\n\nThe process that prepares, .*, ended with exit code -9"),
    ],
)
def test_a_preparation_that_fails_says_why(servers, name, arguments, told):
    with pytest.raises(RuntimeError, match=told):
        servers(name, *arguments).wait_until_ready()


def test_it_has_a_search_path_and_variables_of_its_own(servers, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, "__editable__.finder", os.path.relpath(tmp_path)])
    server = servers("prepare", str(tmp_path), environment={"OF_THE_SERVER": "1"})
    server.wait_until_ready()
    assert server.start(forked.note_search_path, str(tmp_path / "path")).wait() == 0
    assert (tmp_path / "path").read_text().splitlines() == ["1", "__editable__.finder", str(tmp_path)]
    assert "OF_THE_SERVER" not in os.environ


def test_a_driver_that_ignores_the_end_of_its_children(server, servers, tmp_path):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        second = servers("prepare", str(tmp_path))
        second.wait_until_ready()
        assert second.start(forked.end_with, 3).wait() == 3
    finally:
        signal.signal(signal.SIGCHLD, before)


DRIVER = """
import sys, time
sys.path.insert(0, {here!r})
import os, forked
from syne_tune_workers.processes import Server
server = Server("forked:prepare", ({folder!r},))
server.wait_until_ready()
server.start(forked.sleep_with_children, {folder!r} + "/pids")
os.fork() if {forks} else None  # a fork holds the channel open
time.sleep(600)
"""


@pytest.mark.parametrize("forks", [False, True])
def test_all_ends_with_a_killed_driver(tmp_path, forks):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER.format(here=str(HERE), folder=str(tmp_path), forks=forks)])
    wait_for(lambda: (tmp_path / "pids").exists() and len(pids_in(tmp_path / "pids")) == 3, LONG, "work", driver)
    others = [child.pid for child in psutil.Process(driver.pid).children()]
    driver.kill()
    driver.wait()
    server = pids_in(tmp_path / "prepared")
    wait_until_ended(pids_in(tmp_path / "pids") + server)
    for pid in set(alive(others)):
        os.kill(pid, signal.SIGKILL)


def test_no_other_process_is_killed_where_the_number_is_not_known():
    processes.kill_group(0)  # would be our own


# --- a fork is an ordinary Python process ----------------------------------------------------------------------------


def test_at_its_end_work_does_what_python_does_and_what_the_server_has_stays(servers, tmp_path):
    server = servers("make_a_folder", str(tmp_path))
    server.wait_until_ready()
    assert [server.start(forked.leave_things_open, str(tmp_path)).wait() for _ in range(2)] == [0, 0]
    assert (tmp_path / "file").read_text() == "written"
    assert all((tmp_path / name).exists() for name in ("atexit", "child", "thread"))
    assert not list(tmp_path.glob("of-work-*")) and not (tmp_path / "end of the server").exists()
    server.stop()
    assert (tmp_path / "end of the server").exists(), "its own exit functions have run"
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


# --- where forking is missing or unsafe ------------------------------------------------------------------------------


def test_fresh_processes_prepare_for_themselves(tmp_path):
    with pytest.warns(UserWarning, match="missing or unsafe"):
        fresh = FreshProcesses("forked:prepare", (str(tmp_path), 7))
    fresh.wait_until_ready()
    done, killed = fresh.start(forked.note, str(tmp_path / "notes")), fresh.start(time.sleep, 600)
    assert done.wait() == done.poll() == 0
    assert (tmp_path / "notes").read_text() == f"done 7 {done.pid}\n"
    assert killed.poll() is None
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    killed.kill()  # it has ended: nothing happens
    assert not fresh._running, "the files that wait for their ends are closed"
