"""Runs in the trainer image: puts the matrix's data on a volume, with what is no text made here.

Copies the text files, writes two of them as Parquet (the second with the images inside the rows), draws the images and
films that the other files name, and makes a folder for each dataset repository of the hub servers.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

TEXTS = ("faq.json", "manual.json", "parts.csv", "tickets.jsonl", "pictures.jsonl", "clips.jsonl")
SIDE = 56  # pixels: two by two patches of a Qwen-VL after merging
FRAMES = 4


def draw(directory: Path, rows: list[dict[str, Any]]) -> None:
    """Write the images the rows name: a plain area in the colour that the file is named after."""
    for name in {name for row in rows for name in row["images"]}:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIDE, SIDE), path.stem).save(path)


def film(directory: Path, rows: list[dict[str, Any]]) -> None:
    """Write the films the rows name: grey first, then the colour."""
    for name in {name for row in rows for name in row["videos"]}:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=2)
            stream.width = stream.height = SIDE
            stream.pix_fmt = "yuv420p"
            for number in range(FRAMES):
                picture = Image.new("RGB", (SIDE, SIDE), "grey" if number < FRAMES // 2 else path.stem)
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode())


def with_bytes(directory: Path, row: dict[str, Any]) -> dict[str, Any]:
    """The row as published datasets have it in Parquet: the images themselves in place of their names."""
    return row | {"images": [{"bytes": (directory / name).read_bytes(), "path": None} for name in row["images"]]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("repositories", nargs="*", help="name=file: a repository and the file it consists of")
    options = parser.parse_args()
    target: Path = options.target
    target.mkdir(parents=True, exist_ok=True)
    for name in TEXTS:
        shutil.copyfile(options.source / name, target / name)
    pictures, clips = (
        [json.loads(line) for line in (target / name).read_text().splitlines()]
        for name in ("pictures.jsonl", "clips.jsonl")
    )
    draw(target, pictures)
    film(target, clips)
    pq.write_table(pa.Table.from_pylist(json.loads((target / "faq.json").read_text())), target / "faq.parquet")
    pq.write_table(pa.Table.from_pylist([with_bytes(target, row) for row in pictures]), target / "pictures.parquet")
    for name, _, file in (repository.partition("=") for repository in options.repositories):
        folder = target / "repositories" / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target / file, folder / file)


if __name__ == "__main__":
    main()
