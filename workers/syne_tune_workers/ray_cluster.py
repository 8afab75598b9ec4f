"""A Ray cluster, as a driver sees it: starting one, connecting to it, and its nodes."""

import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported: no report to its makers

import ray

# Private, and without a public alternative: see `_loopback`.
from ray._private import ray_constants
from ray.cluster_utils import Cluster

_connected: int | None = None  # the number of the process that is connected


def connect(address: str | None) -> None:
    """Connect this process to the cluster at `address`, or to one that it starts; nothing where it is connected.

    Raises:
        ConnectionError: no cluster answers there, or this process is connected to another one.
        RuntimeError: this process is a fork of one that is connected: Ray's connection does not survive that.
    """
    global _connected
    if ray.is_initialized():
        _connected = _connected or os.getpid()
        if _connected != os.getpid():
            raise RuntimeError(
                f"This process is a fork of process {_connected}, whose connection to Ray it can't use: start it in "
                "another way, such as multiprocessing.get_context('spawn')."
            )
        here = ray.get_runtime_context().gcs_address
        if address not in (None, here):
            raise ConnectionError(f"This process is connected to the cluster at {here}: ray.shutdown() ends that.")
        return
    on_loopback = address is None or _answers_on_loopback(address)
    try:
        with _loopback() if on_loopback else contextlib.nullcontext():
            if address is None:
                try_again(partial(_init, address="local", include_dashboard=False))
            else:
                _init(address=address)
    except Exception as error:  # Ray raises some that are nothing more
        where = "on this machine" if address is None else f"at {address}"
        hint = "" if address is None else ". Has it the same token, and the same versions of Ray and Python?"
        if "AF_UNIX path length" in str(error):
            hint = ". Set TMPDIR to a folder with a shorter path"
        raise ConnectionError(f"No Ray cluster can be used {where}: {error}{hint}") from error
    _connected = os.getpid()


def _init(**options: Any) -> None:
    try:
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except Exception:
        ray.shutdown()  # it may be half done
        raise


def try_again(start: Callable[[], Any]) -> Any:
    """Start a node, in some attempts: Ray gives up one whose processes are not there within 15 s, which no option
    changes (2.5x, `WaitForPersistedPort`). A busy machine takes longer the first time, when all has to be read."""
    with _loopback():
        for _ in range(4):
            with contextlib.suppress(Exception):
                return start()
        return start()


def local_cluster(names: Sequence[str], **options: Any) -> tuple[Cluster, dict[str, Any]]:
    """A cluster of several nodes on this machine, not open to others, to try things out.

    Args:
        names: of its nodes; the first one is the head.
        options: of each node, such as `num_cpus`.

    Returns:
        The cluster, and its nodes by their names; `cluster.remove_node(node)` ends one as an accident would.
    """
    options = {"node_ip_address": "127.0.0.1"} | options
    first, *others = names
    cluster = try_again(lambda: Cluster(initialize_head=True, head_node_args=options | {"node_name": first}))
    nodes = {first: cluster.head_node}
    for name in others:
        nodes[name] = try_again(partial(cluster.add_node, **options, node_name=name))
    return cluster, nodes


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Ray replaces 127.0.0.1 by the machine's address in its network, unless it believes that it can't run clusters.

    That belief is the constant below. Ray reads it from the environment when it is imported, once for the process; a
    public argument of `ray.init` for the address to listen on would replace this.
    """
    # Nor does it need uv's environment to be copied to workers, which are on this machine and have it.
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _answers_on_loopback(address: str) -> bool:
    """Whether the cluster's address is one of loopback. Ray itself would wait for minutes where none answers."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as connection:
            connection.sendall(_HTTP2_GREETING)
            if connection.recv(9)[3:4] != _HTTP2_SETTINGS and "RAY_USE_TLS" not in os.environ:
                raise ConnectionError("what answers is something else")
            return ipaddress.ip_address(connection.getpeername()[0]).is_loopback
    except (OSError, ValueError, OverflowError) as error:
        raise ConnectionError(
            f"No Ray cluster answers at {address} ({error}). `ray start --head` prints the address of its cluster."
        ) from None


_HTTP2_SETTINGS = b"\x04"  # a frame's fourth byte; either side's first frame is of this type (RFC 9113, section 3.4)
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _HTTP2_SETTINGS + b"\0\0\0\0\0"


def alive_nodes() -> list[dict[str, Any]]:
    """What Ray says of each node that it believes alive; a dead one for another 20 s."""
    return [node for node in ray.nodes() if node["Alive"]]


def is_here(node: dict[str, Any]) -> bool:
    """Whether a node is on this machine, which has its files."""
    return bool(node["NodeManagerHostname"] == socket.gethostname())


def label(node_id: str) -> str:
    """The name that was given to the node with this number, or else its address and the beginning of its number."""
    (node,) = (node for node in ray.nodes() if node["NodeID"] == node_id)
    address = node["NodeManagerAddress"]
    return str(node["NodeName"]) if node["NodeName"] != address else f"{address} ({node_id[:6]})"
