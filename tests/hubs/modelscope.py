"""A ModelScope hub over a directory: `python -m hubs.modelscope --root DIR --port N`.

DIR/models/<owner>/<name>/ and DIR/datasets/<owner>/<name>/ are repositories, all at the one revision `master` (and the
lines of a file `.revisions`). A file `.private` (its first line: the token that opens it) restricts a repository. Like
the real hub it gives a SHA-256 for every file, no commit, and an empty list for a revision it does not know.
"""

from __future__ import annotations

import hashlib
import re
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote

from . import server
from .server import Refused

API = re.compile(r"/api/v1/(models|datasets)/([^/]+/[^/]+)(?:/(repo|repo/files|repo/tree|revisions))?")
HIDDEN = {".private", ".revisions"}


class Handler(server.Handler):
    def answer(self, url: SplitResult) -> None:
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.fail_as_planned(query.get("FilePath", url.path))
        if url.path == "/api/v1/repos/internalAccelerationInfo":
            self._data({"InternalRegionQueryAddress": ""})
        elif match := API.fullmatch(url.path):
            self._api(match[1], match[2], match[3], query)
        else:
            raise Refused(404)

    def refuse(self, refused: Refused) -> None:
        body = {"Code": refused.status, "Message": refused.message, "Success": False, "RequestId": "test"}
        self.send_json(body, status=refused.status)

    def logged(self) -> str:
        return unquote(self.path)

    def _api(self, kind: str, name: str, what: str | None, query: dict[str, str]) -> None:
        directory = self._repository(kind, name)
        listed = directory / ".revisions"
        revisions = ["master", *(listed.read_text().split() if listed.is_file() else ())]
        if what is None:
            owner, _, short = unquote(name).partition("/")
            self._data({"Id": 1, "Path": owner, "Name": short, "Visibility": 5})
        elif what == "revisions":
            branches = [{"Revision": revision, "CreatedAt": 0} for revision in revisions]
            self._data({"RevisionMap": {"Branches": branches, "Tags": []}})
        elif what == "repo":
            self._file(directory, query.get("FilePath", ""), known=query.get("Revision", "master") in revisions)
        else:
            known = query.get("Revision", "master") in revisions
            self._list(directory, query, known=known)

    def _repository(self, kind: str, name: str) -> Path:
        directory = self.root / kind / unquote(name)
        if not directory.resolve().is_relative_to(self.root.resolve()) or not directory.is_dir():
            raise Refused(404, message="the repository does not exist")
        private = directory / ".private"
        if private.is_file():
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if not token:
                raise Refused(404, message="the repository does not exist")
            if token != private.read_text().split("\n")[0]:
                raise Refused(403, message="access denied")
        return directory

    def _list(self, directory: Path, query: dict[str, str], *, known: bool) -> None:
        if not known:
            self._data({"Files": None, "IsVisual": 0, "LatestCommitter": None})
            return
        base = directory / query.get("Root", "").strip("/")
        found = base.rglob("*") if query.get("Recursive", "").lower() == "true" else base.glob("*")
        entries = [self._entry(directory, path) for path in sorted(found) if path.name not in HIDDEN]
        if "PageNumber" in query:
            size = int(query.get("PageSize", "100"))
            start = (int(query["PageNumber"]) - 1) * size
            entries = entries[start : start + size]
        self._data({"Files": entries, "IsVisual": 0, "LatestCommitter": {"Id": "", "ShortId": "0123abcd"}})

    def _entry(self, directory: Path, path: Path) -> dict[str, Any]:
        name = path.relative_to(directory).as_posix()
        if path.is_dir():
            return {"Path": name, "Name": path.name, "Type": "tree", "Size": 0, "Sha256": "", "Revision": "master"}
        size = path.stat().st_size
        digest = _digest(path, path.stat().st_mtime_ns)
        entry = {"Path": name, "Name": path.name, "Type": "blob", "Size": size, "Sha256": digest}
        return entry | {"IsLFS": size >= 4096, "Revision": "master", "Mode": "33188"}

    def _file(self, directory: Path, name: str, *, known: bool) -> None:
        path = directory / name
        inside = path.resolve().is_relative_to(directory.resolve())
        if not known or not inside or path.name in HIDDEN or not path.is_file():
            raise Refused(404, message=f"the file {name} does not exist")
        if store := self.faults.take("store", name):
            self.send(302, b"", {"Location": store})
            return
        headers = {"X-Linked-ETag": f'"{_digest(path, path.stat().st_mtime_ns)}"'}
        self.send_content(name, path.read_bytes(), headers)

    def _data(self, value: Any) -> None:
        self.send_json({"Code": 200, "Data": value, "Message": "success", "RequestId": "test", "Success": True})


_digests: dict[tuple[Path, int], str] = {}


def _digest(path: Path, changed: int) -> str:
    if (path, changed) not in _digests:
        with path.open("rb") as stream:
            _digests[path, changed] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[path, changed]


def serve(root: Path, port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server, not yet running; port 0 takes a free one."""
    return server.listen(Handler, root, port, host)


if __name__ == "__main__":
    server.run(__doc__, serve)
