"""Images and videos of a dataset: copied to the run's volume, each one opened to see that it can be decoded.

Training reads them from there. Whether the texts have a placeholder for each is checked here, too; which file a row
means is source.py's part. Only files of a few formats are handed to a decoder, by their first bytes (media_formats.py).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from qwensft_trainer.base import files
from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.contract.errors import invalid_config
from qwensft_trainer.data import media_formats
from qwensft_trainer.data.media_formats import IMAGES, Format
from qwensft_trainer.data.openai_messages import AUDIO_PLACEHOLDER, IMAGE_PLACEHOLDER, VIDEO_PLACEHOLDER
from qwensft_trainer.data.row_checks import Conversation
from qwensft_trainer.data.row_fields import Media, RowProblem, file_name

MAX_IMAGE_BYTES = 256 << 20
_REMEMBERED_NAMES = 10_000
_PIECE = 4 << 20

Locate = Callable[[str], Path]


def check_placeholders(row: Conversation, template: str, hint: str = "") -> None:
    """Every image and video has its place in the texts, and none is asked for in vain, as LLaMA-Factory demands.

    Raises RowProblem; `hint` tells where files may be that are missing. Only for templates that take images: for the
    others "<image>" is text as any other.
    """
    for what, placeholder, media in (
        ("images", IMAGE_PLACEHOLDER, row.images),
        ("videos", VIDEO_PLACEHOLDER, row.videos),
        ("audios", AUDIO_PLACEHOLDER, ()),
    ):
        found = sum(message["content"].count(placeholder) for message in row.messages)
        if found != len(media):
            if hint and found > len(media):
                raise RowProblem(f"{found} times '{placeholder}' in its messages, but {len(media)} {what}{hint}")
            raise RowProblem(
                f"{len(media)} {what}, but {found} times '{placeholder}' in its messages; write {placeholder} once for "
                f"each of the {what}, where it belongs"
            )
    if row.videos and template != "qwen2_vl":
        _check_video_place(row, template)


def _check_video_place(row: Conversation, template: str) -> None:
    """LLaMA-Factory 0.9.5 (Qwen3VLPlugin) takes a message's number for a video's, and one frame count for all."""
    if len(row.videos) > 1 or VIDEO_PLACEHOLDER not in row.messages[0]["content"]:
        raise RowProblem(
            f"template {template} takes one video a row, in its first message (a limit of LLaMA-Factory 0.9.5); split "
            "the row"
        )


class MediaFiles:
    """Copies what the rows of one data file name below `directory`, named by content: what occurs twice is kept once.

    `locate` gives the path of a file that a row names, or raises RowProblem.
    """

    def __init__(self, directory: Path, locate: Locate) -> None:
        self.directory = directory
        self._locate = locate
        # Rows about one image tend to stand together: it need not be read for each of them.
        self._named_image = lru_cache(_REMEMBERED_NAMES)(self._image)
        self._named_video = lru_cache(_REMEMBERED_NAMES)(self._video)

    def keep(self, row: Conversation) -> tuple[list[str], list[str]]:
        """Copy a row's images and videos; return their absolute paths. Raises RowProblem that names the file."""
        images = [self._named_image(one) if isinstance(one, str) else self._image(one) for one in row.images]
        videos = [self._named_video(one) if isinstance(one, str) else self._video(one) for one in row.videos]
        return images, videos

    def _image(self, image: Media) -> str:
        if isinstance(image, bytes):
            content, name = image, "the image in the row"
        else:
            path, name = self._locate(image), f"image {file_name(image)}"
            if (size := path.stat().st_size) > MAX_IMAGE_BYTES:
                raise RowProblem(f"{name} has {size >> 20} MiB; at most {MAX_IMAGE_BYTES >> 20} are read")
            content = path.read_bytes()
        form = _decoded(content, name)
        return str(self._write(io.BytesIO(content), f".{form.lower()}"))  # not the ending that somebody gave it

    def _video(self, video: Media) -> str:
        name = "the video in the row" if isinstance(video, bytes) else f"video {file_name(video)}"
        with io.BytesIO(video) if isinstance(video, bytes) else self._locate(video).open("rb") as stream:
            form = media_formats.of_video(stream.read(media_formats.HEAD_BYTES))
            if form is None:
                raise RowProblem(f"{name} is in none of the formats that are read: {media_formats.VIDEO_NAMES}")
            stream.seek(0)
            kept = self._write(stream, f".{form.ending}")
        try:
            _check_video(kept, form, name)
        except RowProblem:
            kept.unlink()
            raise
        return str(kept)

    def _write(self, source: BinaryIO, ending: str) -> Path:
        temporary = files.temporary_beside(self.directory / "media")
        self.directory.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        try:
            with temporary.open("wb") as stream:
                while piece := source.read(_PIECE):
                    digest.update(piece)
                    stream.write(piece)
            name = digest.hexdigest()
            # Directories of a few hundred files: a network file system is slow with a million in one.
            target = self.directory / name[:2] / f"{name[2:34]}{ending}"
            target.parent.mkdir(exist_ok=True)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return target


def _decoded(content: bytes, name: str) -> str:
    """Decode an image to its last byte, since a cut-off one opens well. Returns the format, such as PNG."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=IMAGES) as image:
            form = image.format or "image"
            image.draft("RGB", (64, 64))  # JPEG alone: an eighth of the size, yet every byte is read
            image.load()
    except UnidentifiedImageError as error:
        raise RowProblem(f"{name} is in none of the formats that are read: {', '.join(IMAGES)}") from error
    except Exception as error:  # the formats' decoders raise whatever comes to hand
        raise_unless_inputs(error)
        raise RowProblem(f"{name} cannot be decoded ({error!s:.120})") from error
    return form


def _check_video(path: Path, form: Format, name: str) -> None:
    """Decode the first frame, as training does: FFmpeg guesses the format anew, by all of the file and its name.

    What it guesses must be what the first bytes say: it also knows playlists and addresses.
    """
    try:
        import av  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise invalid_config(
            "A dataset has videos, but this trainer image holds no PyAV (package av) to read them with."
        ) from error
    try:
        # Not `options`: where streams come after the header, as in FLV and MPEG-PS, PyAV 16 dies of them.
        with av.open(str(path), container_options=media_formats.only(form)) as container:
            frame = next(container.decode(video=0), None)
    except (av.FFmpegError, IndexError, ValueError) as error:  # whose words end with the path of our copy
        why = getattr(error, "strerror", None) or type(error).__name__
        raise RowProblem(f"{name} cannot be decoded as {form.ending}, as which it begins ({why!s:.120})") from error
    if frame is None:
        raise RowProblem(f"{name} holds no frame")
