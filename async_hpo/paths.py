"""Where things lie, and whether this is a run of the tests."""

import os
from pathlib import Path

#: The clone, or the folder that ASYNC_HPO_HOME names: `data/`, `experiments/` and `recordings/` lie below it.
ROOT = Path(os.environ.get("ASYNC_HPO_HOME") or Path(__file__).resolve().parents[1]).expanduser().absolute()
if os.environ.get("ASYNC_HPO_HOME"):
    os.environ["ASYNC_HPO_HOME"] = str(ROOT)  # for processes that start in another folder
RECORDINGS = ROOT / "recordings"
DATA = ROOT / "data"
#: Tests run with a short budget; those of claims about speed say that the machine is idle (`make claims`).
SHORT = os.environ.get("SHORT_BUDGET") == "1"
IDLE = os.environ.get("IDLE_MACHINE") == "1"


def experiments() -> Path:
    """Where runs keep their results: SYNETUNE_FOLDER. Where that is not set, it is set to `experiments/` of the clone;
    without a clone, where this package was installed alone, to Syne Tune's own `~/syne-tune`.

    Short runs are kept apart, so that a figure of a full run never shows one; and those of tests, with fewer images,
    from those of claims about speed.
    """
    own = ROOT / "experiments" / (("claims" if IDLE else "short") if SHORT else "full")
    if not RECORDINGS.is_dir():
        own = Path("~/syne-tune")
    folder = Path(os.environ.get("SYNETUNE_FOLDER") or own).expanduser().absolute()
    os.environ["SYNETUNE_FOLDER"] = str(folder)
    return folder
