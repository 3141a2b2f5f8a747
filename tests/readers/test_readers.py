"""A merged model means the same in every reader: transformers 4, the trainer's own, the newest, and llama.cpp.

Tiny bases of all kinds with a random adapter, merged by the merge stage, in the trainer image with the readers laid
over it. README.md says what is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from quickstart import inputs
from quickstart.cluster import Cluster, choose
from quickstart.pods import printed_json, run_script
from quickstart.shell import REPOSITORY
from tests.e2e.runs import installed

NAMESPACE = "qwensft-readers"
REQUIREMENTS = REPOSITORY / "requirements"
SCRIPTS = Path(__file__).parent / "scripts"
TRAINER = "transformers of the trainer"
LLAMA_CPP = "llama.cpp"
READERS = {
    TRAINER: "",
    "transformers 4": "/opt/readers/transformers-4",
    "newest transformers": "/opt/readers/transformers-5",
}
TIMEOUT = 3600.0


@dataclass(frozen=True)
class Case:
    """A merged model: options of make_tiny_model.py for its base, and how it is trained and merged."""

    name: str
    options: str
    template: str = "qwen3"
    thinking: bool = True
    dtype: str | None = None
    tokens: bool = False
    dora: bool = False
    llamaCpp: bool = False  # noqa: N815 - as the script reads it


CASES = (
    Case("Qwen3 base", "--base --stored-head --shards 3", llamaCpp=True),
    Case("Qwen2.5 with YaRN", "--architecture qwen2 --yarn --mtp --dtype bfloat16 --shards 3", template="qwen"),
    Case("Qwen2.5-VL", "--architecture qwen2_5_vl", template="qwen2_vl"),
    Case("Qwen3-VL", "--architecture qwen3_vl --dtype bfloat16", template="qwen3_vl_nothink"),
    Case("Qwen3 MoE", "--architecture qwen3_moe --shards 2", llamaCpp=True),
    Case("Qwen3 with tokens added", "--dtype bfloat16", tokens=True, llamaCpp=True),
    Case("Qwen3 with YaRN, thinking off", "--yarn", thinking=False, llamaCpp=True),
    Case(
        "Qwen2.5 from bfloat16 to fp32",
        "--architecture qwen2 --yarn --dtype bfloat16",
        template="qwen",
        dtype="fp32",
        dora=True,
        llamaCpp=True,
    ),
)


def readers_image(cluster: Cluster, tiny_model: str) -> str:
    """Build the image of all readers, and hand it to the cluster. What takes long in it is built once."""
    name = "localhost/qwensft/readers:dev"
    arguments = ["--file", str(Path(__file__).parent / "Dockerfile"), "--build-arg", f"TINY_MODEL={tiny_model}"]
    cluster.build_image(name, REQUIREMENTS, arguments, lambda _: None)
    return cluster.publish(name, "readers", cluster.image_id(name)[:12])


@pytest.fixture(scope="module")
def read() -> Iterator[dict[str, Any]]:
    """What read_all.py says of all cases."""
    cluster, ready = choose(), installed()
    image = readers_image(cluster, ready.images.tiny_model)
    ready.kubectl.delete("namespace", NAMESPACE)
    inputs.make_namespace(ready.kubectl, NAMESPACE)
    cases = [asdict(case) | {"options": case.options.split()} for case in CASES]
    script = SCRIPTS / "read_all.py"
    printed = run_script(
        ready.kubectl,
        NAMESPACE,
        script,
        ["/tmp/readers", json.dumps(READERS), json.dumps(cases)],  # noqa: S108 - in the pod
        image=image,
        claims={},
        files={path.name: path.read_text() for path in SCRIPTS.glob("*.py") if path != script},
        timeout=TIMEOUT,
    )
    yield printed_json(printed)
    ready.kubectl.delete("namespace", NAMESPACE)


@pytest.mark.parametrize(
    ("case", "reader"),
    [
        pytest.param(case, reader, id=f"{case.name} in {reader}")
        for case in CASES
        for reader in [*READERS, *([LLAMA_CPP] if case.llamaCpp else [])]
    ],
)
def test_a_merged_model_means_the_same(case: Case, reader: str, read: dict[str, Any]) -> None:
    found = read[case.name][reader]
    assert len(found) >= 6
    assert {what: findings for what, findings in found.items() if findings} == {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_adapter_makes_a_difference(case: Case, read: dict[str, Any]) -> None:
    assert read[case.name]["changed"] > 0.01


def test_readers_are_those_that_are_pinned(read: dict[str, Any]) -> None:
    assert read["versions"] == {
        TRAINER: pinned(REPOSITORY / "trainer-image" / "requirements.txt"),
        "transformers 4": pinned(REQUIREMENTS / "readers-transformers-4.txt"),
        "newest transformers": pinned(REQUIREMENTS / "readers-transformers-5.txt"),
    }


def pinned(requirements: Path) -> str:
    """The version of transformers in it."""
    line = next(line for line in requirements.read_text().splitlines() if line.startswith("transformers=="))
    return line.split("==")[1].split()[0]
