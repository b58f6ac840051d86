"""A stand-in of the Hugging Face Hub: as much of its HTTP API as our library calls."""

import base64
import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tests.loopback import Handler, serving

WRITE, READ = "hf_aSecretThatMayWrite", "hf_aSecretThatMayRead"
LARGE = 2000
"""Bytes from which on a file goes to the store of large files."""


class File(NamedTuple):
    """A file of a commit."""

    content: bytes
    large: bool = False


class Repo:
    """Commits of a repository, and its branches."""

    def __init__(self, private: bool = False):
        """With one commit, which is empty."""
        self.private = private
        self.gated = False
        self.commits: dict[str, dict[str, File]] = {}
        self.branches: dict[str, str] = {}
        self.commit("main", {})

    def commit(self, branch: str, files: dict[str, File]) -> str:
        """Adds one."""
        text = repr((len(self.commits), sorted(files)))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def add(self, **files: bytes) -> str:
        """Adds files by names, to what the main branch holds."""
        now = self.commits[self.branches["main"]]
        return self.commit("main", now | {k: File(v) for k, v in files.items()})

    def files(self, branch: str = "main") -> dict[str, bytes]:
        """What a branch holds."""
        found = self.commits[self.branches[branch]]
        return {name: file.content for name, file in found.items()}


class FakeHub:
    """Repositories by name, and all requests."""

    def __init__(self, url: str):
        """Empty."""
        self.url = url
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.status = 0
        self.broken = ""
        self.writable = True
        self.seconds = 0.0


@contextlib.contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serves an empty Hub on loopback."""
    with serving(_Handler) as server:
        server.hub = FakeHub(server.url)  # type: ignore
        yield server.hub  # type: ignore


class _Handler(Handler):
    @property
    def hub(self) -> FakeHub:
        return self.server.hub  # type: ignore

    def _serve(self):
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        time.sleep(self.hub.seconds)
        if self.hub.status:
            return self._error(self.hub.status, "", "out of order")
        if self.hub.broken and self.hub.broken in path:
            return self._error(500, "", "broken")
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in (WRITE, READ):
            said = "Invalid credentials in Authorization header"
            return self._error(401, "", said)
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return method(self, token, body, **found.groupdict())
        self._error(404, "", "no such page")

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def whoami(self, token, body):
        role = "write" if token == WRITE else "read"
        access = {"displayName": "t", "role": role}
        answer = {"name": "owner", "type": "user", "auth": {"accessToken": access}}
        self._json(answer | {"orgs": []})

    def create(self, token, body):
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if token != WRITE or not self.hub.writable:
            return self._error(403, "", "You have no right to create a model under it")
        self.hub.repos[name] = Repo(asked.get("visibility") == "private")
        self._json({"url": f"{self.hub.url}/{name}", "name": name})

    def branch(self, token, body, repo, revision):
        found = self.hub.repos[repo]
        found.branches[revision] = found.branches["main"]
        self._json({})

    def validate(self, token, body):
        text = json.loads(body)["content"]
        wrong = "madeup" in text.split("---")[1]
        errors = [{"message": '"license" must be one of a list'}] if wrong else []
        self._json({"errors": errors, "warnings": []}, 400 if wrong else 200)

    def info(self, token, body, repo, revision="main"):
        if (found := self._files(repo, revision, token)) is None:
            return
        sha, files = found
        names = [{"rfilename": name} for name in files]
        answer = {"id": repo, "sha": sha, "siblings": names}
        self._json(answer | {"private": self.hub.repos[repo].private})

    def tree(self, token, body, repo, revision):
        if (found := self._files(repo, revision, token)) is None:
            return
        entries = []
        for name, (content, large) in found[1].items():
            oid = hashlib.sha1(content).hexdigest()
            entry = {"type": "file", "path": name, "size": len(content), "oid": oid}
            if large:
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha, "size": len(content), "pointerSize": 130}
            entries.append(entry)
        self._json(entries)

    def resolve(self, token, body, repo, revision, name):
        if (found := self._files(repo, revision, token)) is None:
            return
        if self.hub.repos[repo].gated and token != WRITE:
            return self._error(403, "GatedRepo", "ask for access")
        sha, files = found
        if name not in files:
            return self._error(404, "EntryNotFound", "no such file")
        content = files[name].content
        digest = hashlib.sha256 if files[name].large else hashlib.sha1
        head = {"X-Repo-Commit": sha, "ETag": f'"{digest(content).hexdigest()}"'}
        self._answer(200, content, head)

    def preupload(self, token, body, repo, revision):
        files = [
            {
                "path": x["path"],
                "uploadMode": "lfs" if x["size"] > LARGE else "regular",
                "shouldIgnore": False,
            }
            for x in json.loads(body)["files"]
        ]
        self._json({"files": files})

    def batch(self, token, body, repo):
        objects = []
        for x in json.loads(body)["objects"]:
            entry = {"oid": x["oid"], "size": x["size"]}
            if x["oid"] not in self.hub.large:
                place = f"{self.hub.url}/store/{x['oid']}?signature=hf_signed"
                entry["actions"] = {"upload": {"href": place}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def store(self, token, body, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self._answer(200, b"")

    def commit(self, token, body, repo, revision):
        if token != WRITE or not self.hub.writable:
            return self._error(403, "", "You may not write here")
        found = self.hub.repos[repo]
        files = dict(found.commits[found.branches[revision]])
        for line in body.splitlines():
            x = json.loads(line)
            value = x["value"]
            if x["key"] == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = File(content)
            elif x["key"] == "lfsFile":
                files[value["path"]] = File(self.hub.large[value["oid"]], True)
            elif x["key"] == "deletedFile":
                del files[value["path"]]
        sha = found.commit(revision, files)
        url = f"{self.hub.url}/{repo}/commit/{sha}"
        self._json({"success": True, "commitOid": sha, "commitUrl": url})

    def _files(self, name, revision, token):
        """Commit and files of a revision; None after an answer of an error."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not token):
            status = 404 if token else 401
            return self._error(status, "RepoNotFound", "Repository not found")
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha, repo.commits[sha]

    def _error(self, status: int, code: str, message: str) -> None:
        head = {"X-Error-Code": code} if code else {}
        head["X-Error-Message"] = message
        self._answer(status, json.dumps({"error": message}).encode(), head)

    def _json(self, value, status: int = 200) -> None:
        head = {"Content-Type": "application/json"}
        self._answer(status, json.dumps(value).encode(), head)

    def _answer(self, status: int, body: bytes, head: dict | None = None) -> None:
        self.send_response(status)
        for key, value in (head or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"

ROUTES = (
    ("GET /api/whoami-v2", _Handler.whoami),
    ("POST /api/repos/create", _Handler.create),
    ("POST /api/validate-yaml", _Handler.validate),
    (f"GET /api/models/{_REPO}", _Handler.info),
    (f"GET /api/models/{_REPO}/revision/(?P<revision>.+)", _Handler.info),
    (f"GET /api/models/{_REPO}/tree/(?P<revision>.+)", _Handler.tree),
    (f"POST /api/models/{_REPO}/branch/(?P<revision>.+)", _Handler.branch),
    (f"POST /api/models/{_REPO}/preupload/(?P<revision>.+)", _Handler.preupload),
    (f"POST /api/models/{_REPO}/commit/(?P<revision>.+)", _Handler.commit),
    (rf"POST /{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /store/(?P<oid>\w+)", _Handler.store),
    (
        f"(GET|HEAD) /{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)",
        _Handler.resolve,
    ),
)
