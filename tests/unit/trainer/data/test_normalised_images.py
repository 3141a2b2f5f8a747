"""Images of datasets: copied to the volume once, named where they cannot be used, refused where nobody sees them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from ..conftest import Scene
from .normalised import GOOD, failure, normalised, rows_of, write


def picture(directory: Path, name: str = "cat.png") -> bytes:
    """Write an image beside a dataset; returns its bytes."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(stream, Path(name).suffix[1:].replace("jpg", "jpeg"))
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(stream.getvalue())
    return stream.getvalue()


def test_images_are_copied_to_the_volume_once_each(scene: Scene) -> None:
    row = {"instruction": "<image>What?", "output": "A cat."}
    path = scene.add_dataset("cats", "[]")
    content = picture(path.parent, "images/cat.png")
    address = "data:image/png;base64," + base64.b64encode(content).decode()
    path.write_text(json.dumps([row | {"images": ["images/cat.png"]}, row | {"images": [address]}]))
    scene.add_dataset("plain", [GOOD])
    write(scene, "qwen3_vl")
    images = [row["images"] for row in rows_of(scene, "cats")]
    assert images[0] == images[1]
    kept = Path(images[0][0])
    assert kept.is_relative_to(scene.run_directory / "data" / "media" / "cats")
    assert (kept.read_bytes(), kept.suffix) == (content, ".png")
    assert rows_of(scene, "plain")[0]["images"] == []
    info = json.loads((scene.run_directory / "data" / "dataset_info.json").read_text())
    assert info["plain"]["columns"]["images"] == "images"


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (["dog.png"], "there is no file 'dog.png' beside data.json"),
        (["/etc/cat.png"], "'/etc/cat.png' is an absolute path; write it relative to the data file"),
        (["../cat.png"], "'../cat.png' lies outside of the dataset's source"),
        (["data.json"], "image 'data.json' is in none of the formats that are read: JPEG, PNG, WEBP, GIF, BMP, TIFF"),
        (["half.png"], "image 'half.png' cannot be decoded"),
        (["half.jpg"], "image 'half.jpg' cannot be decoded"),
        (["cat.png", "cat.png"], "2 images, but 1 times '<image>' in its messages; write <image> once for each"),
        ([], "0 images, but 1 times '<image>' in its messages"),
    ],
)
def test_a_row_whose_images_cannot_be_used_is_named_with_its_file(
    scene: Scene, images: list[str], expected: str
) -> None:
    path = scene.add_dataset("cats", [{"instruction": "<image>What?", "output": "A cat.", "images": images}])
    picture(path.parent)
    for name in ("half.png", "half.jpg"):
        whole = picture(path.parent, name)
        (path.parent / name).write_bytes(whole[: len(whole) - 30])
    message = failure(scene, "qwen2_vl").message
    assert "dataset cats, file data.json, row 1: " in message
    assert expected in message


def test_images_that_stand_in_another_column_are_pointed_at(scene: Scene) -> None:
    scene.add_dataset("cats", [{"instruction": "<image>What?", "output": "A cat.", "image": "cat.png"}])
    assert failure(scene, "qwen2_vl").message.endswith(
        "1 times '<image>' in its messages, but 0 images; the row has 'image': set columns.images to 'image'"
    )


def test_the_same_text_with_another_image_is_another_row(scene: Scene) -> None:
    row = {"instruction": "<image>What?", "output": "A cat."}
    path = scene.add_dataset("cats", [row | {"images": [name]} for name in ("cat.png", "same.png", "other.jpg")])
    for name in ("cat.png", "same.png", "other.jpg"):
        picture(path.parent, name)
    assert normalised(scene, "qwen2_vl").metrics == {"duplicateSamples": 1}


@pytest.mark.parametrize("what", ["images", "videos"])
def test_images_and_videos_need_a_model_that_sees(scene: Scene, what: str) -> None:
    scene.add_dataset("cats", [GOOD | {what: ["cat.png"]}])
    assert failure(scene).message.endswith(
        f"row 1: it has {what}, but a model of template qwen3 reads text only: remove the column '{what}' from the "
        "file, or train a vision-language model"
    )


def test_images_that_stand_in_the_messages_are_told_apart_from_a_column(scene: Scene) -> None:
    asked = [{"type": "image_url", "image_url": {"url": "cat.png"}}, {"type": "text", "text": "What?"}]
    row = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "A cat."}]}
    scene.add_dataset("cats", [row], form="openai", columns={"messages": "messages"})
    assert "remove them from its messages, or train a vision-language model" in failure(scene).message


def test_a_text_model_reads_placeholders_as_text(scene: Scene) -> None:
    scene.add_dataset("html", [{"instruction": "What is <image>?", "output": "A tag of SVG.", "images": None}])
    assert write(scene)[0] == {"html": 1}


@pytest.mark.parametrize("template", ["qwen2_vl", "qwen3_vl"])
def test_a_model_that_sees_counts_placeholders_in_every_row(scene: Scene, template: str) -> None:
    scene.add_dataset("html", [{"instruction": "What is <audio>?", "output": "A tag."}])
    assert "0 audios, but 1 times '<audio>'" in failure(scene, template).message
