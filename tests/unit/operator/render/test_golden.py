"""Every object of typical runs and of all examples; see the difference in review before you update it.

`golden/minimal.yaml` is everything that examples/minimal.yaml becomes, word for word. Every other case is stored as
what sets it apart from that (see differences.py), under the same name: a change of what all jobs have changes one file.
`UPDATE_GOLDEN=1 pytest tests/unit/operator/render` writes the files anew.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwensft.api.v1alpha1 import QwenSFTJob

from .differences import differences
from .jobs import EXAMPLES, SPECS, example, job, manifests

GOLDEN = Path(__file__).parent / "golden"
OTHER_EXAMPLES = [name for name in EXAMPLES if name != "minimal"]


class _Dumper(yaml.CSafeDumper):
    """Writes texts of several lines as blocks, and nothing as an alias, as a person would."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: Any, text: str) -> yaml.Node:
    node: yaml.Node = dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
    return node


_Dumper.add_representer(str, _text)


def dump(manifests: list[dict[str, Any]]) -> str:
    text: str = yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def check(file: Path, rendered: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(rendered, encoding="utf-8")
    assert rendered == file.read_text(encoding="utf-8")


def apart_from_minimal(job: QwenSFTJob) -> str:
    minimal = example("minimal")
    return differences(manifests(minimal), manifests(job.replace(metadata=minimal.metadata)))


def test_the_manifests_of_the_minimal_job() -> None:
    check(GOLDEN / "minimal.yaml", dump(manifests(example("minimal"))))


@pytest.mark.parametrize("case", SPECS)
def test_the_manifests_of_a_typical_run(case: str) -> None:
    check(GOLDEN / f"{case}.diff", apart_from_minimal(job(case)))


@pytest.mark.parametrize("name", OTHER_EXAMPLES)
def test_the_manifests_of_an_example(name: str) -> None:
    check(GOLDEN / "examples" / f"{name}.diff", apart_from_minimal(example(name)))


def test_every_golden_file_belongs_to_a_case() -> None:
    cases = {"minimal.yaml", *(f"{case}.diff" for case in SPECS), *(f"examples/{name}.diff" for name in OTHER_EXAMPLES)}
    assert {str(file.relative_to(GOLDEN)) for file in GOLDEN.rglob("*.*")} == cases
