"""Which images and videos are handed to a decoder: the usual formats, told by their first bytes.

PIL and FFmpeg also know formats that name other files and addresses (playlists, EPS), or whose decoders nobody looks
after. Training has FFmpeg guess anew, so a copy is kept only if that guess is what is told here. ADR 0125 says why.
"""

from __future__ import annotations

from dataclasses import dataclass

IMAGES = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""PIL's names."""

HEAD_BYTES = 400

_PACKET = 188  # bytes, of an MPEG transport stream
_SYNC = 0x47


@dataclass(frozen=True)
class Format:
    """A container of videos: FFmpeg's name of what reads it, and the ending of its files."""

    demuxer: str
    ending: str


_MP4 = Format("mov", "mp4")
_BY_BEGINNING = {
    b"\x1a\x45\xdf\xa3": Format("matroska", "mkv"),
    b"FLV\x01": Format("flv", "flv"),
    b"GIF87a": Format("gif", "gif"),
    b"GIF89a": Format("gif", "gif"),
    b"\x00\x00\x01\xba": Format("mpeg", "mpg"),
}
_OLD_QUICKTIME = (b"moov", b"mdat", b"wide", b"free", b"skip")
VIDEO_NAMES = "MP4, QuickTime, Matroska, WebM, AVI, MPEG, FLV, GIF"


def only(form: Format) -> dict[str, str]:
    """FFmpeg's options: whatever it takes a file for is opened as this format or not at all, and names files alone."""
    return {"format_whitelist": form.demuxer, "protocol_whitelist": "file"}


def of_video(head: bytes) -> Format | None:
    """Tell a video's format by its first HEAD_BYTES bytes; None for any that is not read."""
    if head[4:8] == b"ftyp" or head[4:8] in _OLD_QUICKTIME:
        return _MP4
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Format("avi", "avi")
    if len(head) > 2 * _PACKET and all(head[place] == _SYNC for place in (0, _PACKET, 2 * _PACKET)):
        return Format("mpegts", "ts")
    return next((form for beginning, form in _BY_BEGINNING.items() if head.startswith(beginning)), None)
