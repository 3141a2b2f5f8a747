"""Every image and video has its place in the texts, and videos only where LLaMA-Factory reads them right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qwensft_trainer.contract.errors import Interrupted, PermanentError
from qwensft_trainer.data.media import MediaFiles, check_placeholders
from qwensft_trainer.data.row_checks import Conversation
from qwensft_trainer.data.row_fields import RowProblem


def row(*texts: str, images: int = 0, videos: int = 0) -> Conversation:
    roles = ("user", "assistant") * len(texts)
    return Conversation(
        messages=[{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)],
        images=[f"{number}.png" for number in range(images)],
        videos=[f"{number}.mp4" for number in range(videos)],
    )


@pytest.mark.parametrize("template", ["qwen2_vl", "qwen3_vl", "qwen3_5_nothink"])
def test_as_many_placeholders_as_images_wherever_they_stand(template: str) -> None:
    check_placeholders(row("<image> and <image>?", "x", "And <image>?", "y", images=3), template)
    check_placeholders(row("<video>?", "x", videos=1), template)
    check_placeholders(row("Hi", "Hello"), template)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (row("<image>?", "x", images=2), "2 images, but 1 times '<image>' in its messages"),
        (row("What?", "x", images=1), "write <image> once for each of the images, where it belongs"),
        (row("<video>?", "x"), "0 videos, but 1 times '<video>'"),
        (row("Say <audio>.", "<audio>"), "0 audios, but 2 times '<audio>'"),
    ],
)
def test_other_numbers_are_refused_as_llama_factory_would(wrong: Conversation, expected: str) -> None:
    with pytest.raises(RowProblem) as caught:
        check_placeholders(wrong, "qwen2_vl")
    assert expected in str(caught.value)


@pytest.mark.parametrize("videos", [row("<video><video>", "x", videos=2), row("Hi", "x", "<video>", "y", videos=1)])
def test_newer_templates_take_one_video_in_the_first_message(videos: Conversation) -> None:
    check_placeholders(videos, "qwen2_vl")
    for template in ("qwen3_vl", "qwen3_vl_nothink", "qwen3_5", "qwen3_6"):
        with pytest.raises(RowProblem, match="takes one video a row, in its first message"):
            check_placeholders(videos, template)


def test_an_image_without_a_video_reader_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "0.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    files = MediaFiles(tmp_path / "media", lambda name: tmp_path / name)
    with pytest.raises(PermanentError, match="this trainer image holds no PyAV") as caught:
        files.keep(row("<video>?", "x", videos=1))
    assert caught.value.reason == "InvalidConfig"


def test_every_row_with_a_missing_file_is_told(tmp_path: Path) -> None:
    asked: list[str] = []

    def locate(name: str) -> Path:
        asked.append(name)
        raise RowProblem(f"there is no file '{name}'")

    files = MediaFiles(tmp_path / "media", locate)
    for _ in range(2):  # what is wrong is not remembered, so that every row is told
        with pytest.raises(RowProblem, match=r"no file '0\.png'"):
            files.keep(row("<image>?", "x", images=1))
    assert asked == ["0.png", "0.png"]


def test_whatever_a_decoder_raises_is_a_problem_of_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyError("a tag")

    monkeypatch.setattr("PIL.Image.open", fails)
    (tmp_path / "0.png").write_bytes(b"an image")
    with pytest.raises(RowProblem, match=r"image '0\.png' cannot be decoded"):
        MediaFiles(tmp_path / "media", lambda name: tmp_path / name).keep(row("<image>?", "x", images=1))


def test_a_sigterm_while_an_image_is_decoded_is_no_problem_of_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted("Stopped by SIGTERM")

    monkeypatch.setattr("PIL.Image.open", interrupted)
    (tmp_path / "0.png").write_bytes(b"an image")
    with pytest.raises(Interrupted):
        MediaFiles(tmp_path / "media", lambda name: tmp_path / name).keep(row("<image>?", "x", images=1))
