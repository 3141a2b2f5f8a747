"""Every value of the chart is told, bounded by the schema, and set by a test of helm-unittest."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[3]
CHART = REPOSITORY / "charts" / "qwen-sft-operator"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
SUITES = REPOSITORY / "tests" / "chart" / "suites"
_OF_HELM = {"global"}


def script() -> Any:
    path = REPOSITORY / "hack" / "chart_readme.py"
    spec = importlib.util.spec_from_file_location("chart_readme", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def told() -> list[str]:
    """The paths of all values, as the README tells them."""
    module = script()
    entries = module.entries_of((CHART / "values.yaml").read_text())
    return [path for path, _, _ in module.rows(entries)]


def schema_of(path: str) -> dict[str, Any] | None:
    node: dict[str, Any] | None = SCHEMA
    for name in path.split("."):
        node = resolved(node)["properties"].get(name) if node else None
    return resolved(node) if node else None


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref", "").removeprefix("#/definitions/")
    return SCHEMA["definitions"][reference] if reference else node


def leaves(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Paths of the schema's values: what has no properties of its own, or stands as one value in values.yaml."""
    for name, referred in node["properties"].items():
        below, inner = f"{path}.{name}".lstrip("."), resolved(referred)
        if "properties" in inner and below not in TOLD:
            yield from leaves(inner, below)
        else:
            yield below


TOLD = told()


def test_the_readme_is_written_from_the_values_as_they_are() -> None:
    command = [sys.executable, str(REPOSITORY / "hack" / "chart_readme.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_value_is_bounded_by_the_schema() -> None:
    assert len(TOLD) > 60
    for path in TOLD:
        node = schema_of(path)
        assert node is not None, path
        assert node.keys() & {"type", "enum"}, path


def test_the_schema_knows_no_other_value() -> None:
    assert set(leaves(SCHEMA)) - _OF_HELM == set(TOLD)


def test_a_group_takes_no_value_that_the_schema_does_not_name() -> None:
    groups = {path.rpartition(".")[0] for path in TOLD} - {""}
    for path in groups:
        node = schema_of(path)
        assert node is not None
        assert node["additionalProperties"] is False, path
    assert SCHEMA["additionalProperties"] is False


def test_every_value_is_set_by_a_test() -> None:
    tested: set[str] = set()
    for suite in SUITES.glob("*.yaml"):
        for test in yaml.safe_load(suite.read_text())["tests"]:
            for path, value in (test.get("set") or {}).items():
                tested |= set(paths(path, value))
    assert set(TOLD) - tested == set()


def paths(path: str, value: Any) -> Iterator[str]:
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(f"{path}.{name}", inner)


def test_no_template_reads_a_value_that_values_do_not_have() -> None:
    """A misspelt one would be empty for ever."""
    for template in (CHART / "templates").iterdir():
        for name in set(_reads(template.read_text())):
            assert name in VALUES, f"{template.name}: .Values.{name}"


def _reads(text: str) -> Iterator[str]:
    for part in text.split(".Values.")[1:]:
        yield "".join(character if character.isalnum() else " " for character in part).split()[0]
