"""What a check prints, and its verdict."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Fault(Exception):
    """An answer is wrong; it has been printed why."""


class Checklist:
    """Prints what holds of an answer; `passed` says whether all of it does so far."""

    def __init__(self, exercise: str):
        self.exercise, self.passed = exercise, True

    def __call__(self, claim: str, holds: bool, seen: str = "", expected: str = "") -> None:
        """Print a claim; one that does not hold ends this part of the check."""
        print(f"{'✓' if holds else '✗'} {claim}")
        if not holds:
            print(f"    expected: {expected}\n" * bool(expected) + f"    seen:     {seen}")
            raise Fault

    @contextmanager
    def part(self, claim: str) -> Iterator[None]:
        """Check in a block of its own. An exception, such as an answer may raise, denies `claim`."""
        logging.disable()  # Syne Tune's messages: some trials are meant to fail
        try:
            yield
        except Exception as error:
            self.passed = False
            if not isinstance(error, Fault):
                print(f"✗ {claim}\n    expected: no exception\n    seen:     {type(error).__name__}: {error}")
        finally:
            logging.disable(logging.NOTSET)

    def verdict(self) -> bool:
        """Print whether all of it holds, else where the hint is; and return it."""
        print("All of it holds." if self.passed else f"Not there yet. The hint is below exercise {self.exercise}.")
        return self.passed
