"""LLaMA-Factory knows every argument that is written, and takes its value: checked against a list of its own.

The list (known_arguments.yaml) was read from its sources and those of transformers by list_arguments.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwensft.api.v1alpha1 import QwenSFTJob, Stage
from qwensft_operator.render import config_map

from .jobs import EXAMPLES, SPECS, example, job, load

KNOWN: dict[str, dict[str, str]] = load((Path(__file__).parent / "known_arguments.yaml").read_text())
JOBS = {**{case: job(case) for case in SPECS}, **{f"examples/{name}": example(name) for name in EXAMPLES}}


def written(rendered: QwenSFTJob, command: str) -> dict[str, Any]:
    stage = Stage.TRAIN if command == "train" else Stage.MERGE
    arguments: dict[str, Any] = load(config_map(rendered, stage, 1)["data"][f"{command}.yaml"])
    return arguments


def problems(arguments: dict[str, Any], command: str) -> Iterator[str]:
    for name, value in arguments.items():
        if name not in KNOWN[command]:
            yield f"{name} is unknown"
        elif not fits(value, KNOWN[command][name]):
            yield f"{name}: {value!r} is no {KNOWN[command][name]}"


def fits(value: object, kind: str) -> bool:
    """Whether a value of a YAML file suits a type such as `int | None` or `Literal['a', 'b'] | str`."""
    return any(_fits_one(value, part.strip()) for part in kind.split(" | "))


def _fits_one(value: object, kind: str) -> bool:
    if kind.startswith("Literal["):
        return value in ast.literal_eval(kind.removeprefix("Literal"))
    if kind.startswith(("Optional[", "Union[")):
        inner = kind[kind.index("[") + 1 : -1]
        return (value is None and kind[0] == "O") or any(_fits_one(value, part.strip()) for part in inner.split(","))
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return {"bool": bool, "str": str, "None": type(None)}.get(kind, object) is type(value) or kind.startswith("dict")


@pytest.mark.parametrize("command", ["train", "export"])
@pytest.mark.parametrize("name", JOBS)
def test_every_argument_is_known_and_has_a_value_of_its_type(name: str, command: str) -> None:
    assert list(problems(written(JOBS[name], command), command)) == []


def test_the_list_is_that_of_the_pinned_versions() -> None:
    folder = Path(__file__).parent
    header = (folder / "known_arguments.yaml").read_text().splitlines()[0]
    pinned = (folder.parents[3] / "trainer-image" / "requirements.in").read_text()
    for package in ("llamafactory", "transformers"):
        (version,) = [line.split("==")[1].split()[0] for line in pinned.splitlines() if line.startswith(f"{package}==")]
        assert f"{package}-{version}" in header, "write the list anew, as list_arguments.py says"


def test_the_list_is_long_enough_to_be_the_whole() -> None:
    assert len(KNOWN["train"]) > 300
    assert {"model_name_or_path", "template", "deepspeed", "lora_rank", "eval_strategy"} <= KNOWN["train"].keys()
    assert "per_device_train_batch_size" not in KNOWN["export"]  # the export takes no training arguments


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"lora_ranks": 8}, "lora_ranks is unknown"),
        ({"lora_rank": "8"}, "lora_rank: '8' is no int"),
        ({"bf16": 1}, "bf16: 1 is no bool"),
        ({"quantization_type": "int4"}, "quantization_type: 'int4' is no Literal['fp4', 'nf4']"),
        ({"loraplus_lr_ratio": True}, "loraplus_lr_ratio: True is no float | None"),
    ],
)
def test_the_check_can_fail(arguments: dict[str, Any], problem: str) -> None:
    assert list(problems(arguments, "train")) == [problem]
