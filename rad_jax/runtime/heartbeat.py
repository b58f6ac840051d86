"""Notices within seconds that a process of the run is gone, and says which.

JAX notices too, but after a minute and in a page of C++ stack; and on accelerators a
sum over all devices waits for the missing one without a word. So every process keeps a
connection to the first one and sends a sign of life now and then. When one ends without
having said goodbye, the others print one line and exit with code 1: a launcher starts
them again, and they go on from the last checkpoint.
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
from jax._src import distributed  # for the coordinator's address, nothing else has it
from jax.experimental import multihost_utils

from rad_jax.errors import UserError, first_line

SECONDS_BETWEEN_SIGNS = 3.0
SECONDS_WITHOUT_SIGN = 30.0
ALIVE, GOODBYE, GONE = b"+", b".", b"!"  # GONE is followed by 4 bytes: which

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
                link.sendall(ALIVE)
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
    threading.Thread(target=_send_signs, daemon=True).start()


def _link_up() -> None:
    """Connects every process with the first one."""
    token = np.zeros(16, np.uint8)
    server = None
    port = np.int32(0)
    if jax.process_index() == 0:
        server = _open_server()
        port = np.int32(server.getsockname()[1])
        token = np.frombuffer(secrets.token_bytes(16), np.uint8)
    port, token = multihost_utils.broadcast_one_to_all((port, token))
    token = np.asarray(token).tobytes()
    if server is not None:
        _links.update(_accept(server, token))
        server.close()
    else:
        address = distributed.global_state.coordinator_address or ""
        host = address.rsplit(":", 1)[0].strip("[]")
        link = socket.create_connection((host, int(port)), timeout=60)
        link.sendall(token + jax.process_index().to_bytes(4, "big"))
        _links[0] = link


def stop_heartbeat() -> None:
    """Before a process ends because all of them do."""
    _closing.set()
    for link in _links.values():
        with contextlib.suppress(OSError):
            link.sendall(GOODBYE)


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
                links[int.from_bytes(_read(link, 4), "big")] = link
    return links


def _listen(index: int, link: socket.socket) -> None:
    """Until the process at the other end says goodbye, or is gone."""
    link.settimeout(SECONDS_WITHOUT_SIGN)
    gone, why = index, "ended without a word"
    try:
        while (sign := _read(link, 1)) == ALIVE:
            pass
        if sign == GOODBYE:
            return
        gone = int.from_bytes(_read(link, 4), "big")
    except TimeoutError:
        why = f"has not answered for {SECONDS_WITHOUT_SIGN:.0f} s"
    except OSError:
        pass
    if _closing.is_set():
        return
    for other, each in _links.items():
        if other != gone:
            with contextlib.suppress(OSError):
                each.sendall(GONE + gone.to_bytes(4, "big"))
    _leave(gone, why)


def _leave(gone: int, why: str) -> NoReturn:
    _leaving.acquire()  # once: other connections break, too, and each has a thread
    text = (
        f"rad-jax: process {gone} {why}; process {jax.process_index()} stops too. "
        f"See what process {gone} said, and run the same command again: it goes on "
        "from the last checkpoint\n"
    )
    # Not print: the main thread may hold the stream. Not exit: it may wait for a sum
    # over all devices, which will never come.
    os.write(sys.stderr.fileno(), text.encode())
    if jax.process_index() == 0:
        time.sleep(2)  # JAX aborts the others when its first process ends
    os._exit(1)


def _send_signs() -> None:
    while not _closing.wait(SECONDS_BETWEEN_SIGNS):
        for link in _links.values():
            with contextlib.suppress(OSError):
                link.sendall(ALIVE)


def _read(link: socket.socket, count: int) -> bytes:
    """Exactly so many bytes; OSError if the other end is gone."""
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data
