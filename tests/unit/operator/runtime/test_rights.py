"""The chart asks for no more rights than the operator uses: read from the templates, without a cluster."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

TEMPLATES = Path(__file__).parents[4] / "charts" / "qwen-sft-operator" / "templates"
DIRECTIVE = re.compile(r"\{\{.*?\}\}", re.DOTALL)


def rules() -> list[dict[str, Any]]:
    """All rules of the operator's own roles; what Helm would fill in is left out."""
    found: list[dict[str, Any]] = []
    shared = (TEMPLATES / "_helpers.tpl").read_text()
    start = shared.index('{{- define "qwen-sft-operator.rules" -}}')
    found += yaml.safe_load(DIRECTIVE.sub("", shared[start : shared.index("{{- end -}}", start)]))
    for document in yaml.safe_load_all(DIRECTIVE.sub("", (TEMPLATES / "rbac.yaml").read_text())):
        found += (document or {}).get("rules") or []
    return found


def test_no_rule_has_a_wildcard_or_reaches_secrets() -> None:
    assert len(rules()) > 5
    for rule in rules():
        words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert not any("*" in word for word in words), rule
        assert not any(resource.startswith("secrets") for resource in rule["resources"]), rule


@pytest.mark.parametrize(
    ("resource", "verbs"),
    [
        ("nodes", {"list"}),
        ("persistentvolumeclaims", {"get", "list", "watch", "create"}),
        ("configmaps", {"get", "list", "watch", "create", "delete"}),
        ("services", {"get", "list", "watch", "create", "patch"}),
        ("events", {"list", "create", "patch"}),
    ],
)
def test_what_is_not_the_operators_to_change_cannot_be_changed(resource: str, verbs: set[str]) -> None:
    granted = [set(rule["verbs"]) for rule in rules() if resource in rule["resources"]]
    assert granted == [verbs]
