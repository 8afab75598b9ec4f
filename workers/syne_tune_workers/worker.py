"""What happens in a worker's process before an objective runs there, and a trial from its first line to its last."""

import os
import pkgutil
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import cloudpickle
import joblib

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


def set_threads() -> None:
    """Of PyTorch, where it is imported: what OMP_NUM_THREADS says, 1 where it says nothing."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # of a list: one for each level of nesting
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(first) if first.isdecimal() and int(first) else 1)


def draw_own_numbers() -> None:
    """New seeds for the global generators: what a fork inherits would repeat in each."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()


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
    set_threads()
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


def prepare_all(preload: Sequence[str], share: Sequence[Share], made: str | None = None) -> None:
    """All that a warm process prepares: import each `module`, and call each `module:function`, in this order; then let
    what is shared be taken. It is made here, or lies in the file `made`, from where arrays are not copied."""
    for name in ["syne_tune", *preload]:  # Syne Tune would take each fork 25 ms to import
        found = pkgutil.resolve_name(name)
        if ":" in name:
            found()
    values = joblib.load(made, mmap_mode="r") if made else [pkgutil.resolve_name(make)() for make, _ in share]
    for (_, take), value in zip(share, values, strict=True):
        pkgutil.resolve_name(take)(value)
