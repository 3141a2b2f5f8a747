"""Tells by the first bytes of a file what it is, before any row is read: its name may say something else.

What cannot be read gets one sentence with the cause and the command that mends it. ADR 0085 says why.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

HEAD_BYTES = 4096

_CODED = (  # longer marks first: one of UTF-32 begins like one of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_EMPTY_FRAMES = {bytes((first, 0x2A, 0x4D, 0x18)): "zstd" for first in range(0x50, 0x60)}  # pzstd begins with one
_READ = {b"PAR1": "parquet", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"} | _EMPTY_FRAMES
_REFUSED = {
    b"version https://git-lfs.github.com/spec/": "a pointer of Git LFS, not the file itself: run `git lfs pull`, then "
    "copy the file again",
    b"PK\x03\x04": "a zip archive or an Excel workbook: take the file out with `unzip`, or save the sheet as CSV UTF-8",
    b"ARROW1": "an Arrow file: write Parquet in its place, with `Dataset.to_parquet` of the library datasets",
    b"\xff\xff\xff\xff": "an Arrow stream, as Dataset.save_to_disk writes it: write Parquet in its place, with "
    "`Dataset.to_parquet`",
    b"BZh": "packed with bzip2: unpack it with `bunzip2`, or pack it with gzip or zstd",
    b"\xfd7zXZ": "packed with xz: unpack it with `unxz`, or pack it with gzip or zstd",
    b"\x04\x22\x4d\x18": "packed with lz4: unpack it with `unlz4`, or pack it with gzip or zstd",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV UTF-8",
    b"Obj\x01": "an Avro file: write JSON Lines or Parquet",
    b"7z\xbc\xaf": "a 7z archive: take the file out with `7z x`",
    b"Rar!": "a rar archive: take the file out of it",
    b"%PDF": "a PDF document: rows are JSON, CSV or Parquet",
    b"SQLite format 3\x00": "an SQLite database: write a table with `sqlite3 -csv -header FILE 'select ...'`",
    b"\x89HDF": "an HDF5 file: write JSON Lines or Parquet",
    b"\x80\x04\x95": "a Python pickle: write JSON Lines or Parquet",
    b"\x80\x05\x95": "a Python pickle: write JSON Lines or Parquet",
    b"{\\rtf": "a text with formatting (RTF): save it as plain text",
}
_UNMARKED: dict[tuple[bool, ...], str] = {
    (True, False, True, False): "UTF-16LE",
    (False, True, False, True): "UTF-16BE",
    (True, False, False, False): "UTF-32LE",
    (False, False, False, True): "UTF-32BE",
}
_WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")
_TAR = slice(257, 262)


@dataclass(frozen=True)
class Content:
    """What a file holds. `form` is text, parquet, gzip or zstd; with a `problem` it is not read.

    `encoding` is that of text with a byte order mark other than UTF-8's.
    """

    form: str = "text"
    encoding: str | None = None
    problem: str | None = None


def content_of(head: bytes) -> Content:
    """Judge a file by its first HEAD_BYTES bytes; all of them if it is shorter."""
    for magic, form in _READ.items():
        if head.startswith(magic):
            return Content(form)
    for mark, encoding in _CODED:
        if head.startswith(mark):
            return Content(encoding=encoding)
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            return Content(problem=f"the file is {what}")
    if head[_TAR] == b"ustar":
        return Content(problem="the file is a tar archive: take the file out with `tar xf`")
    if head.lstrip()[:9].lower().startswith(_WEB_PAGE):
        return Content(
            problem="the file is a web page, perhaps of a login or an error: use the address of the file itself (with "
            "`/resolve/` in place of `/blob/` on Hugging Face, `/raw/` on GitHub)"
        )
    return _binary(head)


def _binary(head: bytes) -> Content:
    """Text has no zero bytes, but for UTF-16 and UTF-32 without their mark, where ASCII has them in a pattern."""
    if b"\0" not in head:
        return Content()
    encoding = _UNMARKED.get(tuple(byte != 0 for byte in head[:4]))
    if encoding is None:
        return Content(problem="the file is binary: rows are JSON, JSON Lines, CSV or Parquet")
    return Content(problem=f"the file is {encoding} without a byte order mark: save it as UTF-8, {converted(encoding)}")


def converted(encoding: str) -> str:
    """The command that saves a file as UTF-8."""
    return f"with `iconv -f {encoding} -t UTF-8 OLD > NEW`"


NOT_UTF8 = (
    f"save the file as UTF-8, {converted('ENCODING')}, where ENCODING is often GB18030 for Chinese and WINDOWS-1252 "
    "for western languages"
)
