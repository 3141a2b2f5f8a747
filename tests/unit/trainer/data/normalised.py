"""What the datasets of a scene become: rows, warnings, or the error that refuses them."""

from __future__ import annotations

from typing import Any

import pytest
from pyarrow import parquet

from qwensft_trainer.contract.errors import EXIT_PERMANENT, PermanentError
from qwensft_trainer.data import normalise as datasets
from qwensft_trainer.data import source as dataset_source
from qwensft_trainer.data.thinking import Thinking

from ..conftest import Scene

GOOD = {"instruction": "Hi", "output": "Hello"}


def write(scene: Scene, template: str = "qwen3") -> tuple[dict[str, int], list[str]]:
    written = normalised(scene, template)
    return written.rows, written.warnings


def normalised(scene: Scene, template: str = "qwen3") -> datasets.Normalised:
    return datasets.write_normalised(scene.run, dataset_source.provide(scene.run), Thinking(template))


def rows_of(scene: Scene, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(datasets.normalised_file(scene.run, name)).to_pylist()
    return rows


def failure(scene: Scene, template: str = "qwen3") -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        write(scene, template)
    assert caught.value.reason == "InvalidDataset"
    assert caught.value.exit_code == EXIT_PERMANENT
    return caught.value
