"""What the notebooks of the chapter on asynchronous random search share."""

from pathlib import Path

#: The folder of the clone: `data/`, `experiments/` and `book/recordings/` lie below it.
ROOT = Path(__file__).resolve().parents[1]


def __getattr__(name: str):
    if name == "ForkserverBackend":  # only when asked for: Syne Tune takes seconds to import
        from async_hpo.forkserver_backend import ForkserverBackend

        return ForkserverBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
