"""What happens in a worker's process before an objective runs there, and a trial from its first line to its last."""

import functools
import os
import pkgutil
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle

# A training step allocates and frees a few MB again and again. By default glibc returns them to the kernel each time,
# and pays a page fault for each page that comes back. Read when a process starts; 32 MB is the first one's maximum.
# Dask does the same for its workers (`distributed.nanny.pre-spawn-environ`).
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**30)}

#: What processes share: (`module:function` that makes it once, `module:function` that takes it in each process).
Share = tuple[str, str]


def check_names(preload: Sequence[str], share: Sequence[Share]) -> None:
    """Raises ValueError for what is no list of names, or no list of pairs of names."""
    if isinstance(preload, str):
        raise ValueError(f"preload is a list of names, such as [{preload!r}], not a string")
    for pair in share:
        if isinstance(pair, str) or len(pair) != 2 or not all(":" in name for name in pair):
            raise ValueError(f"share is a list of pairs ('module:makes', 'module:takes') of functions, not of {pair!r}")


def prepare(preload: Sequence[str]) -> None:
    """Import each `module`, and call each `module:function`, in this order."""
    for name in preload:
        found = pkgutil.resolve_name(name)
        if ":" in name:
            found()


def make(share: Share) -> Any:
    """Call what makes the value that is shared."""
    return pkgutil.resolve_name(share[0])()


def take(share: Share, value: Any) -> None:
    """Hand a shared value to what takes it in this process."""
    pkgutil.resolve_name(share[1])(value)


def number_of_threads() -> int:
    """What OMP_NUM_THREADS says, 1 where it says nothing: a list of numbers has one for each level of nesting."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else 1


def set_threads(n_threads: int) -> None:
    """Of PyTorch, where it is imported."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n_threads)


def draw_own_numbers() -> None:
    """New seeds for the global generators: what a fork inherits would repeat in each."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()


def check_reports() -> None:
    """Let Syne Tune's `Reporter` take a 0-d tensor or array as its number, and name what is no number or text.

    By itself it would send `null` for what JSON does not know.
    """
    from syne_tune import Reporter

    if not hasattr(Reporter.__call__, "__wrapped__"):
        call = Reporter.__call__

        @functools.wraps(call)
        def checked(self: Any, **values: Any) -> None:
            call(self, **{name: _plain(name, value) for name, value in values.items()})

        Reporter.__call__ = checked


def _plain(name: str, value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, (str, bool, float, list, tuple, dict)):
        return value
    if not isinstance(value, int):
        raise TypeError(
            f"report({name}=...) got a {type(value).__name__}: write float(...), or .item() for one element"
        )
    if value.bit_length() > _MOST_BITS:
        raise ValueError(f"report({name}=...) got an int of {value.bit_length()} bits, more than JSON's readers take")
    return value


_MOST_BITS = 10_000  # Python reads no number of more than 4,300 digits


@dataclass
class Job:
    """A trial, as its process needs to know it. `arguments` (pickled) is None where only the start is tried."""

    function: bytes
    arguments: bytes | None
    stdout: str
    stderr: str
    environment: dict[str, str]
    folder: str  # the driver's, as are the paths on which it finds modules
    paths: list[str]


def run(job: Job) -> None:
    """A trial in a process of its own; an exception goes to its standard error, and on."""
    _redirect(job.stdout, job.stderr)
    os.environ.clear()
    os.environ.update(job.environment)
    os.chdir(job.folder)
    sys.path[:] = job.paths
    draw_own_numbers()
    set_threads(number_of_threads())
    check_reports()
    function = cloudpickle.loads(job.function)
    if job.arguments is not None:
        function(**cloudpickle.loads(job.arguments))


def _redirect(stdout: str, stderr: str) -> None:
    for path, number, name in ((stdout, 1, "stdout"), (stderr, 2, "stderr")):
        with open(path, "ab") as file:
            os.dup2(file.fileno(), number)
        stream = open(number, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def prepare_all(preload: Sequence[str], share: Sequence[Share]) -> None:
    """All that a warm process prepares; what it shares is made here."""
    check_reports()  # imports Syne Tune, which would take each fork 25 ms
    prepare(preload)
    for pair in share:
        take(pair, make(pair))
