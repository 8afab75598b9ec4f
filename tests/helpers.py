"""What tests with a notebook's kernel share."""

from contextlib import contextmanager

import psutil
from backend_helpers import LONG
from jupyter_client.manager import start_new_kernel


@contextmanager
def kernel():
    """A notebook's kernel: its manager, a client, and its process."""
    manager, client = start_new_kernel(startup_timeout=LONG)
    try:
        yield manager, client, psutil.Process(manager.provisioner.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def assert_interrupted(client, request):
    """The cell that was sent by `request` ends because of the interrupt."""
    reply = client.get_shell_msg(timeout=LONG)
    while reply["parent_header"]["msg_id"] != request:  # an answer to an earlier "are you ready?" that came late
        reply = client.get_shell_msg(timeout=LONG)
    assert reply["content"].get("ename") == "KeyboardInterrupt", "\n".join(reply["content"].get("traceback", []))
