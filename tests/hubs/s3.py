#!/usr/bin/env python3
"""An S3 store over a directory, read only: `python s3.py --root DIR --port N`. Python's standard library only.

Folders of DIR are buckets, addressed by path (http://host/bucket/key): GetObject with Range, HeadObject, HeadBucket,
ListObjectsV2. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment are the one key that opens it; requests
must carry a version 4 signature made with it. Unset, everything is public.

One line per request on stdout: `GET /path 200 1234` (method, path, status, bytes of the body sent).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import os
import re
import sys
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

PIECE = 64 << 10
SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)"
)


class Refused(Exception):  # noqa: N818
    """An answer other than 200: status, and S3's code for it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    out: Any = sys.stdout
    key: tuple[str, str] | None = None

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        try:
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
        except Refused as refused:
            text = f"<Error><Code>{refused.code}</Code><Message>{refused.code}</Message></Error>"
            self._send(refused.status, text.encode(), {"Content-Type": "application/xml"})

    def _object(self, directory: Path, name: str) -> None:
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()) or not path.is_file():
            raise Refused(404, "NoSuchKey")
        data = path.read_bytes()
        headers = {
            "ETag": f'"{_md5(data)}"',
            "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        start, end, status = 0, len(data), 200
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start = int(asked[1])
            end = min(len(data), int(asked[2]) + 1) if asked[2] else len(data)
            if start >= len(data):
                raise Refused(416, "InvalidRange")
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self._send(status, data[start:end], headers)

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
        self._send(200, body.encode(), {"Content-Type": "application/xml"})

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

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        sent = 0
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                while sent < len(body):
                    self.wfile.write(body[sent : sent + PIECE])
                    sent = min(sent + PIECE, len(body))
        finally:
            with contextlib.suppress(OSError):
                self.out.write(f"{self.command} {self.path} {status} {sent}\n")
                self.out.flush()

    def log_message(self, *_: object) -> None:
        """The line per request is written by _send, with the bytes that went out."""


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def serve(
    root: Path, port: int = 0, host: str = "127.0.0.1", key: tuple[str, str] | None = None
) -> ThreadingHTTPServer:
    """A server, not yet running; port 0 takes a free one. `key` is the access key and its secret."""
    handler = type("Handler", (Handler,), {"root": root, "key": key})
    server = ThreadingHTTPServer((host, port), handler)
    server.daemon_threads = True
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8003)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104
    options = parser.parse_args()
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    serve(options.root, options.port, options.host, (key, secret) if key and secret else None).serve_forever()


if __name__ == "__main__":
    main()
