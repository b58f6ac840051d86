"""A stand-in of S3: the server of `moto`, which can also deny and throttle.

Whatever asks by botocore finds it by AWS_ENDPOINT_URL. Objects live in memory.
"""

import collections
import contextlib
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    create_backend_app,
)
from werkzeug.serving import WSGIRequestHandler, make_server

NAME = "bucket"


class FakeS3:
    """The objects of one bucket, and where it is served; used as a `FakeBucket`."""

    def __init__(self):
        """Not served yet."""
        self.url = ""
        self.forbidden = False
        self.throttled = 0  # requests that are refused for now
        self.requests: collections.Counter[str] = collections.Counter()  # by verb
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()

    @property
    def environment(self) -> dict[str, str]:
        """What makes programs take it for the cloud."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            # Nothing of this machine, and no question to a cloud that it may be in.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def names(self, prefix: str = "") -> list[str]:
        """Names of objects."""
        found = self._client.list_objects_v2(Bucket=NAME, Prefix=prefix)
        assert not found["IsTruncated"]
        return [x["Key"] for x in found.get("Contents", ())]

    def read(self, name: str) -> bytes:
        """Content of an object."""
        return self._client.get_object(Bucket=NAME, Key=name)["Body"].read()

    def write(self, name: str, data: bytes) -> None:
        """Makes or replaces an object."""
        self._client.put_object(Bucket=NAME, Key=name, Body=data)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answers a request, or refuses it if it is not for the caller, or too busy."""
        verb = environ["REQUEST_METHOD"]
        with self._lock:
            throttled = self.throttled > 0
            self.throttled -= throttled
            self.requests[verb] += 1
        if not (self.forbidden or throttled):
            return self._app(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        denied = ("403 Forbidden", "AccessDenied", "no access")
        status, code, says = ("503 Busy", "SlowDown", "slow") if throttled else denied
        body = f"<Error><Code>{code}</Code><Message>{says}</Message></Error>".encode()
        head = {"Content-Type": "text/xml", "Content-Length": str(len(body))}
        start_response(status, [*head.items()])
        return [] if verb == "HEAD" else [body]

    @contextlib.contextmanager
    def at(self, url: str) -> Iterator[None]:
        """While it is served there."""
        self.url = url
        self._client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        with contextlib.closing(self._client):
            yield

    def empty(self) -> None:
        """Makes it a new bucket."""
        self.forbidden, self.throttled = False, 0
        reset = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()
        self._client.create_bucket(Bucket=NAME)
        self.requests.clear()


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        """Says nothing."""


@contextlib.contextmanager
def fake_s3() -> Iterator[FakeS3]:
    """Serves a bucket on loopback; `FakeS3.empty` makes it."""
    fake = FakeS3()
    server = make_server("127.0.0.1", 0, fake, threaded=True, request_handler=_Handler)
    serve = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    serve.start()
    try:
        with fake.at(f"http://127.0.0.1:{server.server_port}"):
            yield fake
    finally:
        server.shutdown()
        server.server_close()
