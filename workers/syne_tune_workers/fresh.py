"""Where forking is missing (Windows) or unsafe (macOS, whose system libraries run threads): fresh processes."""

import contextlib
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

from . import worker
from .forkserver import kill_group


class FreshProcesses:
    """In place of `forkserver.Server`: each piece of work is a process that prepares for itself."""

    _told = False

    def __init__(self, preload: tuple[str, ...], share: tuple[worker.Share, ...]):
        self._preparation = preload, share
        if not FreshProcesses._told:
            FreshProcesses._told = True
            what = f"Forking is missing or unsafe on {sys.platform}: each trial starts as a fresh process."
            warnings.warn(what, stacklevel=5)

    def is_current(self) -> bool:
        """Each process reads the code that is on disk then."""
        return True

    def retire(self) -> None:
        """Nothing waits for work here."""
        pass

    def wait_until_ready(self) -> None:
        """Each process prepares for itself: what fails there, the work's exit code tells."""
        pass

    def stop(self) -> None:
        """The processes end with their driver by themselves."""
        pass

    def start(self, function: Callable[..., Any], *arguments: Any) -> "FreshWork":
        """Call `function(*arguments)` in a process of its own, which prepares first."""
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_run, args=(*self._preparation, function, arguments))
        process.daemon = True  # ends with its driver, which does not wait for it
        process.start()
        return FreshWork(process)


class FreshWork:
    """In place of `forkserver.Work`."""

    def __init__(self, process: Any):
        self._process, self.pid = process, process.pid

    def fileno(self) -> int:
        """For `select` and its like: ready when the process has ended."""
        return int(self._process.sentinel)

    @property
    def returncode(self) -> int | None:
        """None while it runs, then the exit code, or minus the number of the signal that killed it."""
        code: int | None = self._process.exitcode
        return code

    def poll(self) -> int | None:
        """Look whether it has ended. Returns `returncode`."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, at most `timeout` seconds. Returns `returncode`."""
        self._process.join(timeout)
        return self.returncode

    def kill(self) -> None:
        """End it, and its process group."""
        kill_group(self.pid)
        self._process.kill()


def _run(
    preload: tuple[str, ...],
    share: tuple[worker.Share, ...],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    multiprocessing.current_process().daemon = False  # the driver's word for "don't wait"; here: may have children
    if hasattr(os, "setsid"):
        os.setsid()
    threading.Thread(target=_end_with_driver, daemon=True).start()
    try:
        worker.prepare_all(preload, share)
        function(*arguments)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        connection.wait([driver.sentinel])
    kill_group(0)
    os._exit(1)
