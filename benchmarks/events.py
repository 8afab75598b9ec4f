"""What trials write down themselves, alike on every system: a line an event, in the file named by BENCH_EVENTS.

Nothing but the standard library at the top: a trial logs its first line before it imports anything.
"""

import json
import os
import threading
import time

_counter = threading.local()  # Optuna's trials are threads
FLUSH = 25  # batches


def log(event: str, **values) -> None:
    """Append an event with the time of day. One write, so that lines of several processes don't mix."""
    line = json.dumps({"event": event, "time": time.time(), "pid": os.getpid(), **values}) + "\n"
    file = os.open(os.environ["BENCH_EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read(path: str | os.PathLike) -> list[dict]:
    """All events in the order of time."""
    with open(path, encoding="utf-8") as file:
        return sorted(map(json.loads, file), key=lambda event: event["time"])


def count_images() -> None:
    """Log how many training images have been used, every `FLUSH` batches: a budget may end within an epoch."""
    from d2l import torch as d2l

    if not hasattr(d2l.DataModule, "uncounted"):
        d2l.DataModule.uncounted = d2l.DataModule.train_dataloader
        d2l.DataModule.train_dataloader = lambda data: _Counted(data.uncounted())


class _Counted:
    def __init__(self, loader):
        self.loader = loader

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for number, batch in enumerate(self.loader, 1):
            yield batch
            _counter.images = getattr(_counter, "images", 0) + len(batch[-1])
            if number % FLUSH == 0 or number == len(self.loader):
                log("images", n=_counter.images)
                _counter.images = 0
