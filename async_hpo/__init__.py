"""What the notebooks of the chapter on asynchronous random search share."""

from pathlib import Path

#: The folder of the clone: `data/`, `experiments/` and `book/recordings/` lie below it.
ROOT = Path(__file__).resolve().parents[1]


def __getattr__(name: str):
    # Only when asked for: Syne Tune and Ray take seconds to import.
    if name == "ForkserverBackend":
        from async_hpo.forkserver_backend import ForkserverBackend

        return ForkserverBackend
    if name == "RayBackend":
        from async_hpo.ray_backend import RayBackend

        return RayBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
