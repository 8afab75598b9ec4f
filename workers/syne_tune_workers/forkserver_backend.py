"""Warm processes on one machine: each trial is a fork of a server process that has imported what it needs.

Syne Tune's `PythonBackend` starts a fresh interpreter for each trial, which imports torch and d2l and reads the images
anew. Here a server process does that once, and a trial is a fork of it: it starts in milliseconds, shares the images'
memory, and is isolated all the same.
"""

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
from syne_tune.backend.trial_status import Status

from . import servers
from .function_backend import MAX_WAIT, FunctionBackend, FunctionTrial
from .gpus import Rotation, visible_gpus
from .processes import FreshProcesses, Server, Work, wait_for_news
from .reports import Log
from .sources import search_path
from .worker import Job, Share, run


class ForkserverBackend(FunctionBackend):
    """Runs trials of a Python function as forks of one warm server process.

    Takes the place of Syne Tune's `PythonBackend`. Logs, checkpoints, pause, resume, stop and the rotation of GPUs are
    as there. A trial that raises, or is killed, fails alone, with the reason at the end of its `std.err`. Trials end
    with the driver (the process that made this object), however it ends. They share no state: each starts from the
    server's memory as it was after `warm_up`, and ends as any Python process does.

    The end of a trial wakes the tuner unless it sleeps: give it a short `sleep_time` (0 is fine, its default is 5 s).

    On Linux. Elsewhere fork is missing or unsafe: there each trial is a fresh process that prepares for itself, and
    scripts need `if __name__ == "__main__":` around the run, as with all of Python's `multiprocessing`.

    Args:
        tune_function: the objective. It calls Syne Tune's `Reporter`; it may be a closure, or defined in a notebook.
            An argument called `st_checkpoint_dir` gets the trial's own checkpoint folder (a path, not yet made).
        config_space: its keys are the function's arguments.
        preload: what the server prepares: names of modules to import, and `module:function` to call, in this order.
        share: what all trials share: pairs (`module:function` that makes it, `module:function` that takes it). The
            server calls both, once.
        rotate_gpus: let trials that run at the same time use different GPUs of those that this process may use.
        num_gpus_per_trial: how many GPUs a trial gets.
        gpus_to_use: positions among the GPUs that this process may use; by default all.
        delete_checkpoints: of stopped trials at once, of others at the end of the run.

    Raises:
        ValueError: the function can't be sent to another process, its arguments and `config_space` don't match, or a
            GPU in `gpus_to_use` is not there.
    """

    def __init__(
        self,
        tune_function: Callable[..., None],
        config_space: dict[str, Any],
        preload: Sequence[str] = (),
        share: Sequence[Share] = (),
        rotate_gpus: bool = True,
        num_gpus_per_trial: int = 1,
        gpus_to_use: Sequence[int] | None = None,
        delete_checkpoints: bool = False,
    ):
        super().__init__(tune_function, config_space, preload, share, delete_checkpoints)
        self.gpus = _chosen(gpus_to_use) if rotate_gpus else []
        self._rotation = Rotation(self.gpus, num_gpus_per_trial)
        self._most_workers, self._crowd_told = 0, False
        self._server: Server | FreshProcesses | None = None  # on which a start was tried

    def warm_up(self) -> None:
        """Start the server, wait until it has prepared everything, and check that a trial can start.

        Raises:
            RuntimeError: preparing failed, or the function can't be loaded in another process; the message says why.
        """
        try:
            server = servers.current(self.preload, self.share)
            if self._server is server:
                return
            with tempfile.TemporaryDirectory() as folder:
                log = Path(folder) / "log"
                log.touch()
                if server.start(run, self._job(None, log, log)).wait() != 0:
                    raise RuntimeError(log.read_text(encoding="utf-8", errors="replace"))
        except RuntimeError as error:
            lines = str(error).rstrip().splitlines() or ["no reason given"]
            raise RuntimeError("\n".join([f"No trial of {self._name} can start: {lines[-1]}", *lines])) from None
        self._server = server

    def _is_ready(self) -> bool:  # on code that was edited since then, too: a run's trials all run the same
        return self._server is not None and self._server.is_alive()

    def _job(self, arguments: bytes | None, stdout: Path, stderr: Path, **environment: str) -> Job:
        environment = dict(os.environ) | environment
        return Job(self._function, arguments, str(stdout), str(stderr), environment, os.getcwd(), search_path())

    def _start(self, trial_id: int, folder: Path, arguments: dict[str, Any]) -> "_Trial":
        stdout, stderr = folder / "std.out", folder / "std.err"
        for path in (stdout, stderr):
            path.touch()
        log = self._trials[trial_id].log if trial_id in self._trials else Log(stdout)
        gpus = self._rotation.take(trial_id)
        job = self._job(
            cloudpickle.dumps(arguments),
            stdout,
            stderr,
            **({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}),
        )
        assert self._server is not None  # since `warm_up`
        return _Trial(folder, self._server.start(run, job), log)

    def _wait(self, trial_ids: list[int]) -> None:
        # A free worker is noticed at once, not at the next poll.
        works = [self._trials[trial_id].work for trial_id in filter(self._is_running, trial_ids)]
        end = time.monotonic() + MAX_WAIT
        while all(work.returncode is None for work in works) and (left := end - time.monotonic()) > 0:
            wait_for_news(works, left)
            for work in works:
                work.poll()

    def _is_running(self, trial_id: int) -> bool:
        return trial_id in self._trials and self._trials[trial_id].status == Status.in_progress

    def _update(self, trial_ids: list[int]) -> None:
        for trial_id in filter(self._is_running, trial_ids):
            self._trials[trial_id].update()
            if not self._is_running(trial_id):
                self._rotation.release(trial_id)
        self._warn_if_crowded(sum(map(self._is_running, trial_ids)))

    def _warn_if_crowded(self, n_workers: int) -> None:
        if n_workers <= self._most_workers:
            return
        self._most_workers = n_workers
        places, kind = (len(self.gpus), "GPU") if self.gpus else (joblib.cpu_count(), "core")
        if n_workers * (self._rotation.per_trial or 1) > places and not self._crowd_told:
            self._crowd_told = True
            shared = f"{places} {kind}{'s' * (places > 1)}"
            warnings.warn(f"{n_workers} workers share {shared}: each trial gets slower.", stacklevel=2)

    def _stop(self, trial_id: int, status: str) -> None:
        self._trials[trial_id].stop(status)
        self._rotation.release(trial_id)

    def __str__(self) -> str:
        return f"forkserver {self._name}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_server": None}  # saved with the tuner; the server is its driver's


def _chosen(gpus_to_use: Sequence[int] | None) -> list[str]:
    gpus = visible_gpus()
    if gpus_to_use is None:
        return gpus
    if not set(gpus_to_use) <= set(range(len(gpus))) or len(set(gpus_to_use)) < len(gpus_to_use):
        raise ValueError(f"gpus_to_use={[*gpus_to_use]} are no positions among the {len(gpus)} GPUs that can be used")
    return [gpus[position] for position in gpus_to_use]


class _Trial(FunctionTrial):
    """A trial, and the process that it runs in."""

    def __init__(self, folder: Path, work: Work, log: Log):
        super().__init__(folder)
        self.work, self.log = work, log

    def update(self) -> None:
        code = self.work.poll()  # before the log is read
        self.add(self.log.new_reports())
        if code is not None:
            self.log.close()
            self.finish(Status.failed if code else Status.completed, self.work.reason())

    def stop(self, status: str) -> None:
        self.finish(status)
        self.work.end()  # its worker is free when this returns
        self.log.close()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"work": None}
