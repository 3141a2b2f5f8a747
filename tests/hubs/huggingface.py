"""A Hugging Face hub over a directory: `python -m hubs.huggingface --root DIR --port N`.

DIR/models/<owner>/<name>/ and DIR/datasets/<owner>/<name>/ are repositories. Files of at least 4 KiB count as LFS files
(a SHA-256), smaller ones as git blobs (a SHA-1). A repository's one commit is a digest of its files; revisions that
exist are `main`, that commit and the lines of a file `.revisions`. A file `.gated` or `.private` (its first line: the
token that opens it) restricts a repository.
"""

from __future__ import annotations

import hashlib
import re
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from . import server
from .server import Refused

LFS_FROM = 4096
PAGE = 50
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
STORE = re.compile(r"/_lfs/(models|datasets)/([^/]+/[^/]+)/(.+)")


class Repository:
    """A directory as the hub shows it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = {
            path.relative_to(directory).as_posix(): path
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name not in {".gated", ".private", ".revisions"}
        }

    @property
    def commit(self) -> str:
        lines = "".join(f"{name} {self.digest(name)}\n" for name in self.files)
        return hashlib.sha1(lines.encode(), usedforsecurity=False).hexdigest()

    def is_lfs(self, name: str) -> bool:
        return self.files[name].stat().st_size >= LFS_FROM

    def digest(self, name: str) -> str:
        return _digest(self.files[name], self.files[name].stat().st_mtime_ns, lfs=self.is_lfs(name))

    def entry(self, name: str) -> dict[str, Any]:
        size, digest = self.files[name].stat().st_size, self.digest(name)
        entry = {"type": "file", "oid": digest if not self.is_lfs(name) else digest[:40], "size": size, "path": name}
        if self.is_lfs(name):
            entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 134}
        return entry

    def require(self, token: str | None, *, for_files: bool) -> None:
        """Restricted repositories: a private one is hidden, a gated one shows everything but its files."""
        private, gated = self.directory / ".private", self.directory / ".gated"
        if private.is_file() and token != private.read_text().split("\n")[0]:
            raise Refused(401, "RepoNotFound", "Repository not found")
        if gated.is_file() and for_files and token != gated.read_text().split("\n")[0]:
            raise Refused(401 if token is None else 403, "GatedRepo", "Access to this repository is restricted")

    def require_revision(self, revision: str) -> None:
        listed = self.directory / ".revisions"
        known = {"main", self.commit, *(listed.read_text().split() if listed.is_file() else ())}
        if unquote(revision) not in known:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")


_digests: dict[tuple[Path, int, bool], str] = {}


def _digest(path: Path, changed: int, *, lfs: bool) -> str:
    key = (path, changed, lfs)
    if key not in _digests:
        if lfs:
            with path.open("rb") as stream:
                _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        else:
            data = path.read_bytes()
            _digests[key] = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return _digests[key]


class Handler(server.Handler):
    def answer(self, url: SplitResult) -> None:
        self.fail_as_planned(url.path)
        if match := API.fullmatch(url.path):
            self._api(match, parse_qs(url.query))
        elif match := STORE.fullmatch(url.path):
            self._content(self._repository(match[1], match[2]), unquote(match[3]), {})
        elif match := FILE.fullmatch(url.path):
            self._file(match)
        else:
            raise Refused(404)

    def refuse(self, refused: Refused) -> None:
        headers = {"X-Error-Code": refused.code} if refused.code else {}
        self.send(refused.status, b"", headers | {"X-Error-Message": refused.message})

    def _repository(self, kind: str, name: str) -> Repository:
        directory = self.root / kind / unquote(name)
        if not directory.resolve().is_relative_to(self.root.resolve()) or not directory.is_dir():
            raise Refused(404, "RepoNotFound", "Repository not found")
        return Repository(directory)

    def _credentials(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _api(self, match: re.Match[str], query: dict[str, list[str]]) -> None:
        kind, name, what, revision, path = match.groups()
        repository = self._repository(kind, name)
        repository.require(self._credentials(), for_files=False)
        if revision is not None:
            repository.require_revision(revision)
        if what == "tree":
            self._tree(repository, unquote(path or ""), query)
            return
        siblings = [{"rfilename": name} for name in repository.files]
        told = {"id": unquote(name), "sha": repository.commit, "siblings": siblings, "private": False, "tags": []}
        self.send_json(told)

    def _tree(self, repository: Repository, folder: str, query: dict[str, list[str]]) -> None:
        prefix = f"{folder}/" if folder else ""
        names = [name for name in repository.files if name.startswith(prefix)]
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE < len(names):
            address = f"http://{self.headers['Host']}{urlsplit(self.path).path}?recursive=true&cursor={start + PAGE}"
            headers["Link"] = f'<{address}>; rel="next"'
        entries: list[dict[str, Any]] = []
        if start == 0:
            folders = {str(Path(name).parent) for name in names if "/" in name}
            entries += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in sorted(folders)]
        entries += [repository.entry(name) for name in names[start : start + PAGE]]
        self.send_json(entries, headers)

    def _file(self, match: re.Match[str]) -> None:
        kind = "datasets" if match[1] else "models"
        repository = self._repository(kind, match[2])
        repository.require(self._credentials(), for_files=True)
        repository.require_revision(match[3])
        name = unquote(match[4])
        if name not in repository.files:
            raise Refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{repository.digest(name)}"'}
        if store := self.faults.take("store", name):
            self.send(302, b"", headers | {"Location": store})
            return
        if not repository.is_lfs(name):
            self._content(repository, name, headers)
            return
        size = repository.files[name].stat().st_size
        headers |= {
            "X-Linked-Size": str(size),
            "X-Linked-ETag": f'"{repository.digest(name)}"',
            "ETag": f'"{repository.digest(name)[:40]}"',
            "Location": f"http://{self.headers['Host']}/_lfs/{kind}/{quote(match[2])}/{quote(name)}",
        }
        self.send(302, b"", headers)

    def _content(self, repository: Repository, name: str, headers: dict[str, str]) -> None:
        self.send_content(name, repository.files[name].read_bytes(), headers)


def serve(root: Path, port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server, not yet running; port 0 takes a free one."""
    return server.listen(Handler, root, port, host)


if __name__ == "__main__":
    server.run(__doc__, serve)
