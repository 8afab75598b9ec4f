"""Back-ends of Syne Tune whose trials are calls of a Python function, in workers that stay warm.

README.md draws how a configuration travels to a trial, and a report back. `RayBackend` needs the extra `ray`.
"""

import importlib
from typing import Any

_MODULES = {"ForkserverBackend": "forkserver_backend", "RayBackend": "ray_backend"}


def __getattr__(name: str) -> Any:
    # Only when asked for: Syne Tune and Ray take seconds to import.
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
