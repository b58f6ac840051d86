"""Servers on loopback that stand in for what is out there."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Has an address of its own, ``url``."""

    request_queue_size = 128

    def handle_error(self, *_):
        """Says nothing: clients hang up when they have what they need."""


class Handler(BaseHTTPRequestHandler):
    """Keeps connections, and logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else many answers take 40 ms

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(handler: type[Handler]) -> Iterator[Server]:
    """A server, as long as it is wanted; state that it has is set on it."""
    server = Server(("127.0.0.1", 0), handler)
    server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore
    serve = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    serve.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
