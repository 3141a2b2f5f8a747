"""Only the usual formats reach a decoder, whatever a file is called: no playlist, no address, no odd image."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from qwensft_trainer.data.media import MediaFiles
from qwensft_trainer.data.media_formats import HEAD_BYTES, IMAGES, of_video
from qwensft_trainer.data.row_checks import Conversation
from qwensft_trainer.data.row_fields import RowProblem

MP4 = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"
PLAYLISTS = {
    "clip.m3u8": b"#EXTM3U\n#EXTINF:1,\nfile:///secrets/tickets/token\n",
    "clip.mp4": b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/latest/meta-data/\n",
    "clip.txt": b"ffconcat version 1.0\nfile '/secrets/tickets/token'\n",
    "clip.mpd": b"<?xml version='1.0'?><MPD><BaseURL>http://host/</BaseURL></MPD>",
    "clip.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\n",
    "clip.avi": b"RIFF\0\0\0\0WAVEfmt ",
    "empty.mp4": b"",
}


def files(tmp_path: Path) -> MediaFiles:
    return MediaFiles(tmp_path / "media", lambda name: tmp_path / name)


def refusal(tmp_path: Path, **media: Any) -> str:
    with pytest.raises(RowProblem) as caught:
        files(tmp_path).keep(Conversation(messages=[], **media))
    return str(caught.value)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (MP4, ("mov", "mp4")),
        (b"\0\0\0\x08wide\0\0\0\0mdat", ("mov", "mp4")),
        (b"\x1a\x45\xdf\xa3\x9f", ("matroska", "mkv")),
        (b"RIFF\0\0\0\0AVI LIST", ("avi", "avi")),
        (b"\0\0\1\xba\x44", ("mpeg", "mpg")),
        ((b"\x47" + bytes(187)) * 3, ("mpegts", "ts")),
        (b"FLV\1\5", ("flv", "flv")),
        (b"GIF89a", ("gif", "gif")),
    ],
)
def test_a_format_is_told_by_its_first_bytes(head: bytes, expected: tuple[str, str]) -> None:
    found = of_video(head[:HEAD_BYTES])
    assert found is not None
    assert (found.demuxer, found.ending) == expected


@pytest.mark.parametrize("name", PLAYLISTS)
def test_what_is_no_video_reaches_no_decoder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwensft_trainer.data.media._check_video", None)  # not to be called
    (tmp_path / name).write_bytes(PLAYLISTS[name])
    expected = "is in none of the formats that are read: MP4, QuickTime"
    assert f"video '{name}' {expected}" in refusal(tmp_path, videos=[name])
    assert f"the video in the row {expected}" in refusal(tmp_path, videos=[PLAYLISTS[name]])
    assert not list(tmp_path.glob("media/**/*.*"))


def test_a_video_is_opened_as_training_does_as_what_its_bytes_say_or_not_at_all_and_kept_under_its_own_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, dict[str, Any]]] = []

    class Container:
        def __enter__(self) -> Container:
            return self

        def __exit__(self, *_: object) -> None: ...

        def decode(self, **_: object) -> Any:
            return iter(["a frame"])

    def open_(path: str, **options: Any) -> Container:
        opened.append((path, options))
        return Container()

    monkeypatch.setitem(__import__("sys").modules, "av", SimpleNamespace(open=open_, FFmpegError=OSError))
    (tmp_path / "clip.m3u8").write_bytes(MP4)
    _, (kept,) = files(tmp_path).keep(Conversation(messages=[], videos=["clip.m3u8"]))
    assert Path(kept).suffix == ".mp4"
    assert Path(kept).read_bytes() == MP4
    assert opened == [(kept, {"container_options": {"format_whitelist": "mov", "protocol_whitelist": "file"}})]


@pytest.mark.parametrize("form", IMAGES)
def test_the_usual_images_pass_under_the_ending_of_their_content(form: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, form)
    (tmp_path / "a.eps").write_bytes(stream.getvalue())
    (kept,), _ = files(tmp_path).keep(Conversation(messages=[], images=["a.eps"]))
    assert Path(kept).suffix == f".{form.lower()}"


@pytest.mark.parametrize("form", ["EPS", "PPM", "TGA", "PCX", "ICO", "PDF"])
def test_other_images_reach_no_decoder(form: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, form)
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    assert "image 'a.png' is in none of the formats that are read: JPEG, PNG" in refusal(tmp_path, images=["a.png"])
