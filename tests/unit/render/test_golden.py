"""Every object of typical runs and of all examples, word for word; see the difference in review before you update it.

`UPDATE_GOLDEN=1 pytest tests/unit/render` writes the files anew.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from .jobs import EXAMPLES, SPECS, example, job, manifests

GOLDEN = Path(__file__).parent / "golden"


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


def check(file: Path, manifests: list[dict[str, Any]]) -> None:
    rendered = dump(manifests)
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(rendered, encoding="utf-8")
    assert rendered == file.read_text(encoding="utf-8")


def _is_of_prepare(manifest: dict[str, Any]) -> bool:
    return (manifest["kind"], manifest["metadata"]["labels"].get("qwensft.io/stage")) == ("ConfigMap", "prepare")


@pytest.mark.parametrize("case", SPECS)
def test_the_manifests_of_a_typical_run(case: str) -> None:
    check(GOLDEN / f"{case}.yaml", manifests(job(case)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_manifests_of_an_example(name: str) -> None:
    """Without the ConfigMap of prepare, which holds what that of train holds (test_objects)."""
    rendered = manifests(example(name))
    check(GOLDEN / "examples" / f"{name}.yaml", [m for m in rendered if not _is_of_prepare(m)])


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.yaml")} == set(SPECS)
    assert {file.stem for file in (GOLDEN / "examples").glob("*.yaml")} == set(EXAMPLES)
