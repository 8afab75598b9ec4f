"""What test_processes.py lets a server prepare, and its forks do. It imports little: each server imports it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def prepare(folder, number=0):
    global prepared
    prepared = number
    with open(f"{folder}/prepared", "a") as file:
        file.write(f"{os.getpid()}\n")


def end_with(code):
    sys.exit(code)


def note(path, word="done"):
    with open(path, "a") as file:
        file.write(f"{word} {prepared} {os.getpid()}\n")


def sleep_with_children(path):
    for own_group in (False, True):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=own_group)
        note(path, child.pid)
    note(path, os.getpid())
    time.sleep(600)


def leave_a_child(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note(path, child.pid)


def fork_no_more():
    def refuse():
        raise BlockingIOError("no process left")

    os.fork = refuse


def kill_itself():
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def note_search_path(path):
    Path(path).write_text("\n".join([os.environ["OF_THE_SERVER"], *sys.path[-2:]]))


def make_a_folder(parent):
    import atexit
    import tempfile
    import weakref

    global folder
    folder = tempfile.TemporaryDirectory(dir=parent)
    Path(folder.name, "file").touch()
    atexit.register(Path(parent, "end of the server").touch)
    finalizer = weakref.finalize(os, time.sleep, 0)
    gone = type("Gone", (), {})()
    globals()["proxy"] = weakref.proxy(gone)  # looks its class up in what is gone
    assert finalizer.alive


def leave_things_open(parent):
    import atexit
    import multiprocessing
    import tempfile
    import threading

    sys.kept = open(f"{parent}/file", "w")  # noqa: SIM115
    sys.kept.write("written")
    sys.folder = tempfile.TemporaryDirectory(prefix="of-work-", dir=parent)
    atexit.register(Path(parent, "atexit").touch)
    multiprocessing.get_context("fork").Process(target=Path(parent, "child").touch).start()
    threading.Timer(0.2, Path(parent, "thread").touch).start()
    assert Path(folder.name, "file").exists()
