"""What a check prints, and what the checks share."""

import contextlib
import logging
from collections.abc import Iterator


class Checklist:
    """What a check prints, and its verdict."""

    def __init__(self, hint: str):
        self.hint, self.passed = hint, True

    def __call__(self, claim: str, holds: bool, expected: str = "", seen: str = "") -> bool:
        print(f"{'✓' if holds else '✗'} {claim}")
        if not holds:
            self.passed = False
            print(f"    expected: {expected}\n    seen:     {seen}")
        return holds

    def note(self, text: str) -> None:
        """Print what is no part of the verdict."""
        print(f"– {text}")

    def verdict(self) -> bool:
        """Print whether all of it holds, else where the hint is; and return it."""
        print("All of it holds." if self.passed else f"Not there yet. The hint is below exercise {self.hint}.")
        return self.passed


@contextlib.contextmanager
def quiet_log() -> Iterator[None]:
    """Without Syne Tune's log messages: some trials are meant to fail."""
    logger = logging.getLogger("syne_tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
