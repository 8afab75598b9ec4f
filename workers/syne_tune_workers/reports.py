"""Finds the reports of Syne Tune's `Reporter` in what a trial prints."""

import contextlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

from syne_tune.constants import ST_METRIC_TAG, ST_WORKER_TIMESTAMP

_TAG = f"[{ST_METRIC_TAG}]: ".encode()
_LONGEST_REPORT = 100_000  # bytes; Syne Tune's `Reporter` makes none above half of it
_AT_ONCE = 2**20  # bytes of a file in memory


class Reports:
    """Finds the reports of Syne Tune's `Reporter` in what a trial prints, which may come in pieces.

    Each byte is looked at once, and no more than the beginning of one report is kept: what else a trial prints, in any
    encoding, with or without line ends, costs next to nothing. What bears the tag but is no report is skipped.
    """

    def __init__(self) -> None:
        self._open = b""  # after the last line end: may be the beginning of a report

    def feed(self, content: bytes) -> list[dict[str, Any]]:
        """The reports that are complete with this piece, in order."""
        return _reports_in(self.lines(content))

    def lines(self, content: bytes) -> list[bytes]:
        """Complete lines that contain the tag, cut before it."""
        content, found, at = self._open + content, [], 0
        while (begin := content.find(_TAG, at)) >= 0 and (end := content.find(b"\n", begin)) >= 0:
            found.append(content[begin : end + 1])
            at = end + 1
        if begin < 0:
            begin = max(at, len(content) - len(_TAG) + 1)  # the tag itself may be cut
        self._open = content[begin:] if len(content) - begin <= _LONGEST_REPORT else b""
        return found


class Excerpt:
    """What is kept of a stream that may be long: its first `MOST` bytes, the reports after them, and its end."""

    MOST, TAIL = 2**22, 2**16

    def __init__(self) -> None:
        self.length = 0  # of the stream so far
        self._reports = Reports()

    def feed(self, content: bytes) -> tuple[bytes, list[dict[str, Any]]]:
        """What is to be kept of the stream's next piece, and the reports that are complete with it."""
        room = max(0, self.MOST - self.length)
        self.length += len(content)
        first, later = self._reports.lines(content[:room]), self._reports.lines(content[room:])
        return content[:room] + b"".join(later), _reports_in(first + later)

    def end(self, last: bytes) -> bytes:
        """What is to be kept when the stream has ended. `last`: its last `TAIL` bytes, or more."""
        if self.length <= self.MOST:
            return b""
        begin = max(self.MOST, self.length - self.TAIL)
        tail = re.sub(re.escape(_TAG) + rb"[^\n]*\n?", b"", last[begin - self.length :])
        left_out = begin - self.MOST
        return (f"\n[Here {left_out:,} bytes are left out.]\n".encode() if left_out else b"") + tail


def _reports_in(lines: list[bytes]) -> list[dict[str, Any]]:
    found, tag = [], _TAG.decode()
    for line in lines:
        text, at = line.decode(errors="replace"), 0
        while (begin := text.find(tag, at)) >= 0:  # threads that report at the same time may share a line
            at = begin + len(tag)
            with contextlib.suppress(ValueError, RecursionError):  # not JSON
                report, at = _JSON.raw_decode(text, at)  # what is quoted in a report is no report
                if isinstance(report, dict) and isinstance(report.get(ST_WORKER_TIMESTAMP), float):
                    found.append(report)
    return found


def _parse_int(digits: str) -> int | str:
    return int(digits) if len(digits) <= 300 else digits  # else it is too large to be computed with


_JSON = json.JSONDecoder(parse_int=_parse_int)


class Log:
    """A file of a trial's standard output, from which the reports are read."""

    def __init__(self, path: Path):
        self._path, self._position = path, 0
        self._file: io.FileIO | None = None
        self._reports = Reports()

    def new_reports(self) -> list[dict[str, Any]]:
        """Those that were written since the last call: what comes while it reads, the next call returns."""
        if self._file is None:
            self._file = io.FileIO(self._path)
            self._file.seek(self._position)
        found, end = [], os.fstat(self._file.fileno()).st_size
        while content := self._file.read(max(0, min(_AT_ONCE, end - self._position))):
            self._position += len(content)
            found += self._reports.feed(content)
        return found

    def close(self) -> None:
        """Let go of the file, until the next call of `new_reports`."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}
