"""What the chart installed may do: no more than the operator needs."""

import json

from quickstart.setup import RELEASE, Ready


def test_the_operator_may_do_nothing_by_wildcard_and_reads_no_secrets(ready: Ready) -> None:
    rules = json.loads(ready.kubectl("get", "clusterrole", RELEASE, "-o", "json"))["rules"]
    assert rules
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "secrets" not in rule["resources"]
