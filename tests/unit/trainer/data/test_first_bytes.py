"""The first bytes tell what a file is, whatever it is called."""

from __future__ import annotations

import pytest

from qwensft_trainer.data.first_bytes import Content, content_of


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", Content()),
        (b'{"a": 1}\n', Content()),
        ("钟表,é\n".encode(), Content()),
        (b"PAR1\x15\x04", Content("parquet")),
        (b"\x1f\x8b\x08", Content("gzip")),
        (b"\x28\xb5\x2f\xfd", Content("zstd")),
        (b"\x50\x2a\x4d\x18\x04\0\0\0", Content("zstd")),
        ('{"a"'.encode("utf-16"), Content(encoding="utf-16")),
        ('{"a"'.encode("utf-32"), Content(encoding="utf-32")),
    ],
)
def test_what_is_read(head: bytes, expected: Content) -> None:
    assert content_of(head) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (
            '{"a"'.encode("utf-16-le"),
            "the file is UTF-16LE without a byte order mark: save it as UTF-8, with `iconv -f",
        ),
        ('{"a"'.encode("utf-16-be"), "the file is UTF-16BE without"),
        ("a,钟\n".encode("utf-32-le"), "the file is UTF-32LE without"),
        ('{"a"'.encode("utf-32-be"), "the file is UTF-32BE without"),
        (b"x\0\0\1", "the file is binary"),
        (b"ARROW1\0\0", "an Arrow file: write Parquet"),
        (b"\xff\xff\xff\xff\x10", "an Arrow stream, as Dataset.save_to_disk writes it"),
        (b"name" + bytes(253) + b"ustar\x0000", "a tar archive"),
        (b"BZh91AY", "`bunzip2`"),
        (b"\x04\x22\x4d\x18\x64\x40", "packed with lz4: unpack it with `unlz4`"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook"),
        (b"Obj\x01\x04", "an Avro file"),
        (b"<HTML><body>", "a web page"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey", "a web page"),
    ],
)
def test_what_is_refused_says_what_it_is_and_what_to_do(head: bytes, expected: str) -> None:
    assert expected in str(content_of(head).problem)
