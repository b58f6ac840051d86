"""A stand-in of Google Cloud Storage: as much of its JSON API as our libraries call.

`TensorStore` finds it by TENSORSTORE_GCS_HTTP_URL, `gcsfs` and Google's own client by
STORAGE_EMULATOR_HOST. Objects live in memory.
"""

import collections
import contextlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.loopback import Handler, serving

NAME = "bucket"


class FakeBucket:
    """The objects of one bucket, and where it is served."""

    def __init__(self, url: str):
        """Empty."""
        self.url = url
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.forbidden = False
        self.throttled = 0  # requests that are refused for now
        self.requests: collections.Counter[str] = collections.Counter()  # by verb
        self.parts: dict[str, bytes] = {}
        self.generations = itertools.count(1)
        self.lock = threading.Lock()

    @property
    def environment(self) -> dict[str, str]:
        """What makes programs take it for the cloud."""
        return {
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
            "STORAGE_EMULATOR_HOST": self.url,
            # Asks by gRPC, which is not served here.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def names(self, prefix: str = "") -> list[str]:
        """Names of objects."""
        with self.lock:
            return sorted(name for name in self.objects if name.startswith(prefix))

    def read(self, name: str) -> bytes:
        """Content of an object."""
        return self.objects[name][0]

    def write(self, name: str, data: bytes) -> None:
        """Makes or replaces an object."""
        with self.lock:
            self.objects[name] = data, next(self.generations)


@contextlib.contextmanager
def fake_bucket() -> Iterator[FakeBucket]:
    """Serves an empty bucket on loopback."""
    with serving(_Handler) as server:
        server.bucket = FakeBucket(server.url)  # type: ignore
        yield server.bucket  # type: ignore


class _Handler(Handler):
    def parse_request(self):
        """Refuses whatever it is, if the bucket is not for the caller, or too busy."""
        if not super().parse_request():
            return False
        with self.store.lock:
            throttled = self.store.throttled > 0
            self.store.throttled -= throttled
            self.store.requests[self.command] += 1
        if not (self.store.forbidden or throttled):
            return True
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        code, says = (429, "slow down") if throttled else (403, "no access")
        self._answer(code, json.dumps({"error": {"message": says}}).encode())
        return False

    def do_GET(self):
        """Lists, describes or reads."""
        kind, name, query = self._parse()
        if kind == "bucket":
            self._json({"name": NAME, "kind": "storage#bucket"})
        elif kind == "list":
            self._json(self._list(query))
        elif name not in self.store.objects:
            self._answer(404, b"{}")
        elif query.get("alt") == "media" or kind == "download":
            self._media(name)
        else:
            self._json(self._resource(name))

    def do_POST(self):
        """Writes an object."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind, _, query = self._parse()
        if kind == "none":
            return self._answer(404, b"{}")
        name = query.get("name", "")
        if query.get("uploadType") == "resumable":
            path = urlsplit(self.path).path
            place = f"{self.store.url}{path}?name={quote(name, safe='')}&part=1"
            return self._answer(200, b"", {"Location": place})
        if "part" in query:
            whole = self.store.parts.pop(name, b"") + body
            if self.headers["Content-Range"].endswith("/*"):
                self.store.parts[name] = whole
                return self._answer(308, b"", {"Range": f"bytes=0-{len(whole) - 1}"})
            body = whole
        if query.get("uploadType") == "multipart":
            described, body = _parts(body, self.headers["Content-Type"])
            name = json.loads(described)["name"]
        with self.store.lock:
            now = self.store.objects.get(name, (b"", 0))[1]
            if int(query.get("ifGenerationMatch", now)) != now:
                return self._answer(412, b"{}")
            self.store.objects[name] = body, next(self.store.generations)
        self._json(self._resource(name))

    def do_DELETE(self):
        """Deletes an object."""
        _, name, _ = self._parse()
        with self.store.lock:
            found = self.store.objects.pop(name, None)
        self._answer(204 if found else 404, b"")

    @property
    def store(self) -> FakeBucket:
        return self.server.bucket  # type: ignore

    def _parse(self) -> tuple[str, str, dict[str, str]]:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        found = re.fullmatch(r"(/\w+)?/storage/v1/b/(\w+)(/o(/(.*))?)?", url.path)
        if not found or found[2] != NAME:
            return "none", "", query
        kind = "bucket" if not found[3] else "list" if not found[5] else "object"
        return kind, unquote(found[5] or ""), query

    def _list(self, query: dict[str, str]) -> dict:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items, prefixes = [], set()
        for name in self.store.names(prefix):
            if "startOffset" in query and name < query["startOffset"]:
                continue
            if "endOffset" in query and name >= query["endOffset"]:
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                items.append(self._resource(name))
        return {"items": items, "prefixes": sorted(prefixes)}

    def _resource(self, name: str) -> dict:
        content, generation = self.store.objects[name]
        return {
            "kind": "storage#object",
            "bucket": NAME,
            "name": name,
            "size": str(len(content)),
            "generation": str(generation),
            "updated": "2026-01-01T00:00:00.000Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "contentType": "application/octet-stream",
        }

    def _media(self, name: str) -> None:
        content, generation = self.store.objects[name]
        head = {"x-goog-generation": str(generation)}
        wanted = re.match(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted or not content:
            return self._answer(200, content, head)
        if not wanted[1]:
            first, last = max(0, len(content) - int(wanted[2])), len(content) - 1
        else:
            first = int(wanted[1])
            last = min(int(wanted[2] or len(content) - 1), len(content) - 1)
        head["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._answer(206, content[first : last + 1], head)

    def _json(self, value: dict) -> None:
        head = {"Content-Type": "application/json"}
        self._answer(200, json.dumps(value).encode(), head)

    def _answer(self, code: int, body: bytes, head: dict | None = None) -> None:
        self.send_response(code)
        for key, value in (head or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _parts(body: bytes, content_type: str) -> list[bytes]:
    """The parts of a multipart body, without their headers."""
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    parts = body.split(boundary)[1:-1]
    contents = [re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1] for part in parts]
    return [content.removesuffix(b"\n") for content in contents]
