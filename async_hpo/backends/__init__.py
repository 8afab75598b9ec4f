"""Back-ends of Syne Tune whose trials are calls of a Python function, in workers that stay warm.

This folder imports nothing else of the book: it can be copied into a project of your own. It needs Linux for
`ForkserverBackend` at its best, Syne Tune and cloudpickle; `RayBackend` needs Ray.
"""

import importlib
from typing import Any

_MODULES = {"ForkserverBackend": "forkserver_backend", "RayBackend": "ray_backend"}


def __getattr__(name: str) -> Any:
    # Only when asked for: Syne Tune and Ray take seconds to import.
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
