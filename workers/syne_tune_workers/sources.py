"""Modules that somebody edits: those that are not installed."""

import os
import sys
import sysconfig

_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def installed() -> tuple[str, ...]:
    """Folders of packages: this environment's, one's that it is laid over, the user's."""
    return *_INSTALLED, *(entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages"))


def search_path() -> list[str]:
    """`sys.path` for a process that may have another working folder."""
    return [os.path.abspath(entry) if os.path.exists(entry or ".") else entry for entry in sys.path]


def own_files() -> dict[str, int]:
    """File of each such module that is loaded -> when it was modified (nanoseconds)."""
    files = {str(getattr(module, "__file__", None)) for module in [*sys.modules.values()]}
    folders = installed()
    return {file: modified(file) for file in files if os.path.isabs(file) and not file.startswith(folders)}


def modified(file: str) -> int:
    """When a file was modified (nanoseconds, Unix time); 0 if it is gone."""
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0
