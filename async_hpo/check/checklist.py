"""What a check prints, and its verdict."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from async_hpo.language import _


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
            self._differs(seen, expected)
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
                print(f"✗ {claim}")
                self._differs(f"{type(error).__name__}: {error}", _("no exception"))
        finally:
            logging.disable(logging.NOTSET)

    def _differs(self, seen: str, expected: str) -> None:
        if expected:
            print(_("    expected: {}", expected))
        print(_("    seen:     {}", seen))

    def verdict(self) -> bool:
        """Print whether all of it holds, else where the hint is; and return it."""
        where = _("Not there yet. The hint is below exercise {}.", self.exercise)
        print(_("All of it holds.") if self.passed else where)
        return self.passed
