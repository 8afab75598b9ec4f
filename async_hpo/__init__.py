"""What the notebooks of the chapter on asynchronous random search share."""

from pathlib import Path

#: The folder of the clone: `data/`, `experiments/` and `book/recordings/` lie below it.
ROOT = Path(__file__).resolve().parents[1]
