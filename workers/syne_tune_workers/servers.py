"""The warm servers of this process: one for each preparation, however many back-ends share it."""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from .processes import FreshProcesses, Server
from .worker import ALLOCATOR, Share, prepare_all

_servers: dict[tuple[Any, ...], Server | FreshProcesses] = {}
_making = threading.Lock()


def current(
    preload: tuple[str, ...], share: tuple[Share, ...], made: Callable[[], str] | None = None
) -> Server | FreshProcesses:
    """The server that has prepared this, from the code that is on disk now. It is ready.

    Args:
        made: says in which file the values lie that are shared, for `prepare_all`; called if a server has to be made.

    Raises:
        RuntimeError: preparing failed; the message says why.
    """
    with _making:
        key = os.getpid(), preload, share  # a fork of this process has servers of its own
        if key in _servers and not _servers[key].is_current():
            _servers.pop(key).retire()
        if key not in _servers:
            arguments = preload, share, made() if made and share else None
            prepare = f"{prepare_all.__module__}:{prepare_all.__name__}", arguments
            # A thread pool that was started before a fork would hang the fork: the server has one thread.
            alone = ALLOCATOR | {"OMP_NUM_THREADS": "1"}
            _servers[key] = Server(*prepare, alone) if sys.platform == "linux" else FreshProcesses(*prepare)
        _servers[key].wait_until_ready()
        return _servers[key]


@atexit.register
def _stop_servers() -> None:
    for (pid, *_), server in _servers.items():
        if pid == os.getpid():
            server.stop()
