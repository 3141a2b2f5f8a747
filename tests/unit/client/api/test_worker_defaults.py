"""An installation's defaults for `spec.worker`: read strictly, and only where the job says nothing itself."""

import json
import re
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from qwensft.api.v1alpha1 import NO_DEFAULTS, Worker, parse_worker_defaults, with_defaults
from qwensft.api.v1alpha1.worker_defaults import DEFAULTABLE

ALL: dict[str, Any] = {
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"pool": "gpu"},
    "priorityClassName": "training",
    "resources": {"requests": {"cpu": 4, "memory": "16Gi"}, "limits": {"memory": "32Gi"}},
    "runtimeClassName": "nvidia",
    "schedulerName": "gangs",
    "securityContext": {"assignIds": False, "supplementalGroups": [4000]},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
}
OTHERS: dict[str, Any] = {
    "imagePullSecrets": [],
    "nodeSelector": {},
    "priorityClassName": "other",
    "resources": {"limits": {"cpu": "1"}},
    "runtimeClassName": "other",
    "schedulerName": "other",
    "tolerations": [],
}


def worker(**fields: Any) -> Worker:
    return Worker.model_validate(fields, by_alias=True, by_name=False)


def effective(own: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return with_defaults(worker(**own), parse_worker_defaults(json.dumps(defaults))).document()


def test_every_field_that_can_have_one_gets_its_default() -> None:
    assert ALL.keys() == set(map(to_camel, DEFAULTABLE))
    assert effective({}, ALL) == worker(**ALL).document()


@pytest.mark.parametrize("field", OTHERS)
def test_what_the_job_says_itself_stands_in_place_of_the_whole_default(field: str) -> None:
    found = effective({field: OTHERS[field]}, ALL)
    assert found.pop(field) == OTHERS[field]
    assert found == {name: value for name, value in worker(**ALL).document().items() if name != field}


def test_ids_are_taken_one_by_one() -> None:
    """A job that names the group of its volume must not get the user back that OpenShift refuses."""
    found = effective({"securityContext": {"fsGroup": 1000}}, ALL)["securityContext"]
    assert found == {"assignIds": False, "fsGroup": 1000, "supplementalGroups": [4000]}
    own = {"assignIds": True, "supplementalGroups": []}
    assert effective({"securityContext": own}, ALL)["securityContext"] == own


def test_without_defaults_a_job_is_what_it_says() -> None:
    own = {"nodeSelector": {"a": "b"}, "accelerator": {"count": 8}}
    assert effective(own, {}) == own
    assert with_defaults(worker(**own), NO_DEFAULTS) == worker(**own)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expecting value"),
        ("[]", "it is an object with imagePullSecrets, nodeSelector, "),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"hostNetwork": true}', "hostNetwork is none of imagePullSecrets"),
        ('{"node_selector": {}}', "node_selector is none of"),
        ('{"nodeSelector": {"a": 1}}', "nodeSelector.a: Input should be a valid string"),
        ('{"securityContext": {"runAsUser": 0}}', "securityContext.runAsUser: "),
        ('{"resources": {"limits": {"memory": "16"}}}', "memory"),
        ('{"resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}', "a request is greater than its limit"),
        ('{"resources": {"limits": {"amd.com/gpu": 8}}}', "resources: amd.com/gpu: devices are asked for by each job"),
    ],
    ids=range(10),
)
def test_what_cannot_be_a_default_is_refused_with_the_field(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_worker_defaults(text)
