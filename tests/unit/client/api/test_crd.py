"""The generated CustomResourceDefinition: structural, bounded, documented, without spec defaults."""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from qwensft.api import crd, reference

SCHEMA = crd.structural_schema()
ALLOWED_KEYS = {
    "additionalProperties",
    "default",
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


NODES = dict(nodes(SCHEMA))
SPEC_NODES = {path: node for path, node in NODES.items() if path.startswith(".spec")}


def test_every_node_is_structural() -> None:
    for path, node in NODES.items():
        assert set(node) <= ALLOWED_KEYS, path
        assert ("type" in node) != bool(node.get("x-kubernetes-int-or-string")), path


def test_only_the_status_has_a_default() -> None:
    assert {path: node["default"] for path, node in NODES.items() if "default" in node} == {
        ".status": {"observedGeneration": -1}
    }


def test_every_field_is_described() -> None:
    undescribed = [path for path, node in NODES.items() if not path.endswith("]") and "description" not in node]
    assert undescribed == [".metadata", ".metadata.name"]


def test_every_text_list_and_map_of_the_spec_is_bounded() -> None:
    for path, node in SPEC_NODES.items():
        if node.get("x-kubernetes-preserve-unknown-fields"):
            continue
        if node.get("type") == "string" and "enum" not in node:
            assert "maxLength" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        if node.get("type") in ("integer", "number") and "enum" not in node:
            assert {"minimum", "maximum"} <= set(node), path


def test_every_optional_scalar_of_the_spec_tells_its_default() -> None:
    unions = {".spec.model.source", ".spec.datasets[].source", ".spec.storage.volume", ".spec.worker.env[].valueFrom"}
    silent = [
        f"{path}.{name}"
        for path, node in SPEC_NODES.items()
        for name, child in node.get("properties", {}).items()
        if path not in unions
        and name not in node.get("required", [])
        and child.get("type") not in ("object", "array")
        and "Default:" not in child["description"]
    ]
    assert silent == []


def test_a_default_and_its_llamafactory_argument_stand_in_the_description() -> None:
    description = NODES[".spec.training.learningRate"]["description"]
    assert "Default: 5e-6." in description
    assert description.endswith("LLaMA-Factory: learning_rate.")
    assert NODES[".spec.tuning.method"]["description"].endswith(
        "Default: lora. LLaMA-Factory: finetuning_type, use_dora."
    )


def test_a_message_of_each_rule_is_short_enough_for_one_look() -> None:
    rules = [rule for node in NODES.values() for rule in node.get("x-kubernetes-validations", [])]
    assert len(rules) > 80
    assert all(len(rule["message"]) <= 250 and "\n" not in rule["message"] for rule in rules)


def test_kubectl_apply_can_store_the_definition_in_its_annotation() -> None:
    assert len(json.dumps(crd.custom_resource_definition())) < 0.91 * 262_144  # the limit of all annotations together


def test_the_chart_carries_the_same_resource_and_keeps_it() -> None:
    text = crd.chart_template()
    begin, end = "{{- if .Values.crds.enabled }}\n", "{{- end }}\n"
    body = text[text.index(begin) + len(begin) : text.rindex(end)]
    lines = body.replace('{{ "{{" }}', "{{").splitlines()
    added = slice(lines.index("  {{- with .Values.commonLabels }}"), lines.index("spec:"))
    assert "    helm.sh/resource-policy: keep" in lines[added]
    del lines[added]
    document = yaml.safe_load("\n".join(lines))
    assert document == yaml.safe_load(crd.manifest())


def test_the_reference_names_every_field_with_its_default_and_argument() -> None:
    page = reference.page()
    for path in SPEC_NODES:
        assert f"`{path.removesuffix('[]').rpartition('.')[2]}`" in page or path == ".spec", path
    assert "| `learningRate` | number, >0 to 1 | `5e-6` | `learning_rate` |" in page


def test_the_reference_shows_what_looks_like_html_and_bars_in_its_cells() -> None:
    page = reference.page()
    assert "one &lt;image> in the text" in page
    assert "<image>" not in page
    assert "such as &lt;\\|note\\|>:" in page
