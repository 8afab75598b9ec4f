"""What tests with real processes share."""

import time
from contextlib import contextmanager

import psutil
from jupyter_client.manager import KernelManager


def wait_for(condition, seconds, what):
    """Call `condition` until it returns something true, and return that."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return value


def alive(pids):
    """Those of the processes that run: neither gone nor zombies."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            pass
    return found


@contextmanager
def kernel():
    """A notebook's kernel: its manager, a client, and its process."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        yield manager, client, psutil.Process(manager.provisioner.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def assert_interrupted(client, request):
    """The cell that was sent by `request` ends because of the interrupt."""
    reply = client.get_shell_msg(timeout=30)
    assert reply["parent_header"]["msg_id"] == request and reply["content"]["ename"] == "KeyboardInterrupt"
