"""Where things lie, and what the environment says about this run: a short one, on an idle machine?"""

import os
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: The clone, or the folder that ASYNC_HPO_HOME names: `data/`, `experiments/` and `book/recordings/` lie below it.
ROOT = Path(os.environ.get("ASYNC_HPO_HOME") or Path(__file__).resolve().parents[1])
RECORDINGS = ROOT / "book" / "recordings"
DATA = ROOT / "data"
SHORT = os.environ.get("SHORT_BUDGET") == "1"
IDLE = os.environ.get("IDLE_MACHINE") == "1"


def experiments() -> Path:
    """Where runs keep their results: SYNETUNE_FOLDER, which is set to `experiments/` of the clone where it is not.

    Short runs are kept apart, so that a figure of a full run never shows one; and those of tests, with fewer images,
    from those of claims about speed.
    """
    own = ROOT / "experiments" / (("claims" if IDLE else "short") if SHORT else "full")
    return Path(os.environ.setdefault("SYNETUNE_FOLDER", str(own))).expanduser()


def shorten(full: T, to: T) -> T:
    """Return `full`, or `to` when the environment variable SHORT_BUDGET is 1, as it is in the automatic tests."""
    return to if SHORT else full


def idle_machine(claim: str) -> bool:
    """Whether a claim about speed can be checked: only on a machine with nothing else to do, and who calls says that
    this one is, by IDLE_MACHINE=1. `make claims` and `make execute` do. Elsewhere the claim is printed as not checked.
    """
    if not IDLE:
        print(f"Not checked, since this machine may be busy (`make claims` checks it): {claim}")
    return IDLE
