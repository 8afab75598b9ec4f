"""A Ray cluster, as a driver sees it: connecting to it, its nodes, and how many trials they can run."""

import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported: no report to its makers

import ray

# Private, and without a public alternative: see `_loopback`.
from ray._private import ray_constants
from ray.cluster_utils import Cluster

T = TypeVar("T")
_SECONDS_TO_CONNECT = 5.0


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
    if address is not None:
        _check_answers(address)
    try:
        if address is None:
            try_again(lambda: _init(address="local", include_dashboard=False))
        else:
            with _loopback() if _is_loopback(address) else contextlib.nullcontext():
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


def try_again(start: Callable[[], T]) -> T:
    """Start a node, in some attempts: Ray gives up one whose processes are not there within 15 s, which no option
    changes (2.5x, `WaitForPersistedPort`). A busy machine takes longer the first time, when all has to be read."""
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(Exception), _loopback():
            return start()
    with _loopback():
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


_ATTEMPTS = 5


_connected: int | None = None  # the number of the process that is


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Ray replaces 127.0.0.1 by the machine's address in its network, unless it believes that it can't run clusters.

    That belief is the constant below. Ray reads it from the environment when it is imported, once for the process; a
    public argument of `ray.init` for the address to listen on would replace this.
    """
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    with contextlib.suppress(OSError, ValueError):
        return ipaddress.ip_address(socket.getaddrinfo(host, None)[0][4][0]).is_loopback
    return False


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_CONNECT) as connection:
            connection.sendall(_HTTP2_GREETING)
            if connection.recv(9)[3:4] != _HTTP2_SETTINGS and "RAY_USE_TLS" not in os.environ:
                raise ConnectionError("what answers is something else")
    except (OSError, ValueError, OverflowError) as error:
        raise ConnectionError(
            f"No Ray cluster answers at {address} ({error}). `ray start --head` prints the address of its cluster."
        ) from None


_HTTP2_SETTINGS = b"\x04"  # a frame's fourth byte; either side's first frame is of this type (RFC 9113, section 3.4)
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _HTTP2_SETTINGS + b"\0\0\0\0\0"


def alive_nodes() -> list[dict[str, Any]]:
    """What Ray says of each node that it believes alive; a dead one for another 20 s."""
    return [node for node in ray.nodes() if node["Alive"]]


def label(node: dict[str, Any]) -> str:
    """The name that was given to the node, or else its address and the beginning of its number."""
    if node["NodeName"] != node["NodeManagerAddress"]:
        return str(node["NodeName"])
    return f"{node['NodeManagerAddress']} ({node['NodeID'][:6]})"


def label_of(node_id: str) -> str:
    """The `label` of the node with this number; the number itself if Ray does not know it."""
    return next((label(node) for node in ray.nodes() if node["NodeID"] == node_id), node_id)


class Places:
    """How many trials a cluster can run at a time, as it is now.

    Args:
        num_cpus, num_gpus: what a trial needs of a node.
    """

    def __init__(self, num_cpus: float, num_gpus: float):
        if num_cpus < 0 or num_gpus < 0 or not num_cpus + num_gpus:
            raise ValueError(f"a trial needs CPUs or GPUs, not num_cpus={num_cpus} and num_gpus={num_gpus}")
        self.num_cpus, self.num_gpus = num_cpus, num_gpus
        self.lost_nodes: set[str | None] = set()  # Ray itself believes in a dead node for another 20 s
        self._most = 0

    def now(self) -> int:
        """How many trials all nodes can run at a time, but for those that are known to be lost."""
        return sum(self.on(node) for node in alive_nodes() if node["NodeID"] not in self.lost_nodes)

    def on(self, node: dict[str, Any]) -> int:
        """How many trials a node can run at a time when nothing else runs there."""
        needed = {"CPU": self.num_cpus, "GPU": self.num_gpus}
        return min(int(node["Resources"].get(kind, 0) / n) for kind, n in needed.items() if n)

    def check(self, n_workers: int) -> None:
        """Raise ValueError if the cluster can't run so many trials at a time: Ray would let the others wait, unseen."""
        self._most = max(self._most, self.now())  # a cluster that has lost a node goes on
        if n_workers > self._most:
            needs = f"{self.num_cpus} CPU" + (f" and {self.num_gpus} GPU" if self.num_gpus else "")
            raise ValueError(
                f"{n_workers} workers, but the cluster can run {self._most} trials at a time (each needs {needs}): "
                "use fewer workers, or a larger cluster."
            )
