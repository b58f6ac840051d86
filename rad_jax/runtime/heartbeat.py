"""Says in one line which process of a run is missing or gone, and ends the others.

JAX (0.10) ends them, too, but by an abort with tens of lines of C++: in `gather`'s case
they name no process, and after a kill they come as late as its heartbeat's timeout. So
every process keeps a connection to the first one. When one breaks without having been
closed, the process at its end is gone: the others print one line and exit with code 1,
a launcher starts them again, and they resume from the last checkpoint. A process that
hangs without ending is left to JAX, which names it in its abort.
"""

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from rad_jax.errors import UserError, first_line

CLOSING, GONE, READY = b".", b"!", b"+"  # GONE is followed by 4 bytes: which
ADDRESS_BYTES = 1024

_closing = threading.Event()
_leaving = threading.Lock()
_links: dict[int, socket.socket] = {}


def gather(address: str, count: int, index: int, seconds: int) -> None:
    """Waits until all processes are there, before JAX starts: it would abort in C++.

    Args:
      address: host:port of the first process, which JAX uses afterwards.
      count: how many there must be.
      index: which this is.
      seconds: how long to wait.

    Raises:
      UserError: naming those that did not come.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    if index == 0:
        _wait_for_others(_open_server(int(port)), set(range(1, count)), deadline)
        return
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            target = host.strip("[]"), int(port)
            with socket.create_connection(target, timeout=5) as link:
                link.sendall(index.to_bytes(4, "big"))
                link.settimeout(max(deadline - time.monotonic(), 1))
                _read(link, 1)
                return
        time.sleep(0.2)
    raise UserError(
        f"process 0 does not answer at {address}, or not all of the {count} processes "
        f"came within {seconds} s; check that all were started and see each other"
    )


def _wait_for_others(server: socket.socket, missing: set[int], deadline: float) -> None:
    total, links = len(missing) + 1, []
    with server, contextlib.ExitStack() as stack:
        while missing:
            server.settimeout(max(deadline - time.monotonic(), 0.1))
            try:
                links.append(stack.enter_context(server.accept()[0]))
            except TimeoutError as error:
                raise UserError(
                    f"of {total} processes {sorted(missing)} did not come in time; "
                    "check that they were started and see this host"
                ) from error
            with contextlib.suppress(OSError):
                links[-1].settimeout(10)
                missing.discard(int.from_bytes(_read(links[-1], 4), "big"))
        for link in links:
            with contextlib.suppress(OSError):
                link.sendall(READY)
                link.recv(1)  # they close first: the port is free for JAX at once


def start_heartbeat() -> None:
    """Starts watching the other processes; all of them must call it.

    Raises:
      UserError: this process does not reach the first one, or the other way round.
    """
    try:
        _link_up()
    except OSError as error:
        raise UserError(
            f"process {jax.process_index()}: no connection between process 0 and the "
            f"others ({first_line(error)}); the hosts of a run must reach each other "
            "on any port"
        ) from error
    for index, link in _links.items():
        threading.Thread(target=_listen, args=(index, link), daemon=True).start()


def _link_up() -> None:
    """Connects every process with the first one."""
    server = None
    port, token = np.int32(0), np.zeros(16, np.uint8)
    hosts = np.zeros(ADDRESS_BYTES, np.uint8)
    if jax.process_index() == 0:
        server = _open_server()
        port = np.int32(server.getsockname()[1])
        token = np.frombuffer(secrets.token_bytes(16), np.uint8)
        # Padded with zeros: a broadcast needs the same shape everywhere.
        text = "\n".join(_own_hosts()).encode()[:ADDRESS_BYTES]
        hosts[: len(text)] = np.frombuffer(text, np.uint8)
    sent = multihost_utils.broadcast_one_to_all((port, token, hosts))
    port, token, hosts = (np.asarray(x) for x in sent)
    if server is not None:
        _links.update(_accept(server, token.tobytes()))
        server.close()
    else:
        names = hosts.tobytes().rstrip(b"\0").decode().split("\n")
        _links[0] = _connect(names, int(port), token.tobytes())


def _own_hosts() -> list[str]:
    """Where others may find this host: JAX does not publish the address it uses."""
    coordinator = os.environ.get("RAD_JAX_COORDINATOR", "").rpartition(":")[0]
    found = [coordinator.strip("[]"), socket.gethostname()]
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 1))  # sends nothing: says which way packets go
        found.append(probe.getsockname()[0])
    return [host for host in found if host]


def _connect(hosts: list[str], port: int, token: bytes) -> socket.socket:
    """A connection to the first process, at the first address where it answers."""
    errors: list[OSError] = []
    for host in hosts:
        try:
            link = socket.create_connection((host, port), timeout=60 / len(hosts))
            link.sendall(token + jax.process_index().to_bytes(4, "big"))
            _read(link, 1)  # it is the one that knows the token
            link.settimeout(None)
            return link
        except OSError as error:
            errors.append(error)
    raise errors[0]


def stop_heartbeat() -> None:
    """Before a process ends because all of them do."""
    _closing.set()
    for link in _links.values():
        with contextlib.suppress(OSError):
            link.sendall(CLOSING)


def _open_server(port: int = 0) -> socket.socket:
    """Where JAX's own listens: on all interfaces, unless told otherwise."""
    bind = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", "")
    host = bind.rpartition(":")[0].strip("[]")
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
        )
    return socket.create_server((host, port), backlog=128)


def _accept(server: socket.socket, token: bytes) -> dict[int, socket.socket]:
    """One connection of each of the other processes; strangers are dropped."""
    links: dict[int, socket.socket] = {}
    server.settimeout(60)
    while len(links) < jax.process_count() - 1:
        link, _ = server.accept()
        link.settimeout(10)
        with contextlib.suppress(OSError):
            if secrets.compare_digest(_read(link, 16), token):
                index = int.from_bytes(_read(link, 4), "big")
                link.sendall(READY)
                link.settimeout(None)
                links[index] = link
    return links


def _listen(index: int, link: socket.socket) -> None:
    """Until the process at the other end closes the connection, or is gone."""
    gone = index
    with contextlib.suppress(OSError):
        if _read(link, 1) == CLOSING:
            return
        gone = int.from_bytes(_read(link, 4), "big")
    if _closing.is_set():
        return
    for other, each in _links.items():
        if other != gone:
            with contextlib.suppress(OSError):
                each.sendall(GONE + gone.to_bytes(4, "big"))
    _leave(gone)


def _leave(gone: int) -> NoReturn:
    _leaving.acquire()  # once: other connections break, too, and each has a thread
    text = (
        f"rad-jax: process {gone} ended unexpectedly; process {jax.process_index()} "
        f"stops too. See what process {gone} printed, and rerun the same command to "
        "resume\n"
    )
    # Not print: the main thread may hold the stream. Not exit: it may wait for a sum
    # over all devices, which will never come.
    os.write(sys.stderr.fileno(), text.encode())
    if jax.process_index() == 0:
        time.sleep(2)  # JAX aborts the others when its first process ends
    os._exit(1)


def _read(link: socket.socket, count: int) -> bytes:
    """Exactly so many bytes; OSError if the other end is gone."""
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data
