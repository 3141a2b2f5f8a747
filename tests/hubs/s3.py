"""An S3 store over a directory, read only: `python -m hubs.s3 --root DIR --port N`.

Folders of DIR are buckets, addressed by path (http://host/bucket/key): GetObject with Range, HeadObject, HeadBucket,
ListObjectsV2. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment are the one key that opens it; requests
must carry a version 4 signature made with it. Unset, everything is public.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from email.utils import formatdate
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote
from xml.sax.saxutils import escape

from . import server
from .server import Refused

SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)"
)


class Handler(server.Handler):
    key: tuple[str, str] | None = None

    def answer(self, url: SplitResult) -> None:
        if self.key is not None:
            self._require_signature(url.path, url.query, *self.key)
        bucket, _, name = unquote(url.path).lstrip("/").partition("/")
        directory = self.root / bucket
        if not bucket or not directory.is_dir():
            raise Refused(404, "NoSuchBucket")
        if name:
            self._object(directory, name)
        else:
            self._list(directory, dict(parse_qsl(url.query)))

    def refuse(self, refused: Refused) -> None:
        text = f"<Error><Code>{refused.code}</Code><Message>{refused.code}</Message></Error>"
        self.send(refused.status, text.encode(), {"Content-Type": "application/xml"})

    def _object(self, directory: Path, name: str) -> None:
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()) or not path.is_file():
            raise Refused(404, "NoSuchKey")
        data = path.read_bytes()
        headers = {
            "ETag": f'"{_md5(data)}"',
            "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
            "Content-Type": "application/octet-stream",
        }
        self.send_content(name, data, headers)

    def _list(self, directory: Path, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        contents: list[str] = []
        folders: set[str] = set()
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            name = path.relative_to(directory).as_posix()
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            contents.append(
                f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;{_md5(path.read_bytes())}&quot;</ETag><Size>{path.stat().st_size}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)
        )
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{escape(directory.name)}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(contents) + len(folders)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{''.join(contents)}{common}</ListBucketResult>"
        )
        self.send(200, body.encode(), {"Content-Type": "application/xml"})

    def _require_signature(self, path: str, query: str, key: str, secret: str) -> None:
        """The signature of version 4, as the AWS reference describes it for requests without a body."""
        match = SIGNATURE.fullmatch(self.headers.get("Authorization", ""))
        if match is None:
            raise Refused(403, "AccessDenied")
        given, day, region, names, signature = match.groups()
        if given != key:
            raise Refused(403, "InvalidAccessKeyId")
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(query, True))
        request = "\n".join(
            [
                self.command,
                quote(unquote(path), safe="/-_.~"),
                "&".join(f"{name}={value}" for name, value in pairs),
                *(f"{name}:{' '.join(self.headers.get(name, '').split())}" for name in names.split(";")),
                "",
                names,
                self.headers.get("x-amz-content-sha256", ""),
            ]
        )
        scope = f"{day}/{region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self.headers.get('x-amz-date', '')}\n{scope}\n{digest}"
        signed = f"AWS4{secret}".encode()
        for part in (day, region, "s3", "aws4_request", text):
            signed = hmac.new(signed, part.encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(signed.hex(), signature):
            raise Refused(403, "SignatureDoesNotMatch")


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def serve(
    root: Path, port: int = 0, host: str = "127.0.0.1", key: tuple[str, str] | None = None
) -> ThreadingHTTPServer:
    """A server, not yet running; port 0 takes a free one. `key` is the access key and its secret."""
    return server.listen(Handler, root, port, host, key=key)


def _serve(root: Path, port: int, host: str) -> ThreadingHTTPServer:
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    return serve(root, port, host, (key, secret) if key and secret else None)


if __name__ == "__main__":
    server.run(__doc__, _serve)
