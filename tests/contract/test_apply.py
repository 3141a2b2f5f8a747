"""What GitOps tools do all day: apply the same manifest again. Nothing may come of it.

docs/gitops.md says what becomes of an edit by hand beside them.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Jobs

VALID = Path(__file__).parent / "valid"
TOOLS = ("kubectl", "argocd-controller", "kustomize-controller")
REPEATS = 100


def document(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((VALID / "maximal.yaml").read_text()) | {"metadata": {"name": name}})


@pytest.fixture
def applied(jobs: Jobs, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A job as all the tools have applied it once, with a status as the operator writes it."""
    job = document(request.node.name.replace("_", "-")[:60].strip("-"))
    for tool in TOOLS:
        jobs.apply(job, tool)
    condition = {"type": "Succeeded", "status": "Unknown", "reason": "Running", "message": "Job runs"}
    told = {"observedGeneration": 1, "conditions": [condition | {"lastTransitionTime": "2026-01-02T12:00:00Z"}]}
    jobs.patch_status(job["metadata"]["name"], told)
    return job


def test_applying_again_changes_nothing(jobs: Jobs, applied: dict[str, Any]) -> None:
    before = jobs.get(applied["metadata"]["name"])
    for _ in range(REPEATS):
        for tool in TOOLS:
            jobs.apply(applied, tool)
    after = jobs.get(applied["metadata"]["name"])
    assert after == before  # resourceVersion, generation and managedFields with it
    assert after["metadata"]["generation"] == 1
    managers = [(entry["manager"], entry["operation"]) for entry in after["metadata"]["managedFields"]]
    assert sorted(tool for tool, how in managers if how == "Apply") == sorted(TOOLS)
    assert len(managers) == len(TOOLS) + 1  # the status


def test_edits_back_and_forth_leave_no_trail(jobs: Jobs, applied: dict[str, Any]) -> None:
    name, edited = applied["metadata"]["name"], copy.deepcopy(applied)
    edited["spec"]["runPolicy"]["maxRestarts"] = 9
    before = jobs.get(name)
    for _ in range(REPEATS // 2):
        jobs.apply(edited, TOOLS[0])
        jobs.apply(applied, TOOLS[0])
    after = jobs.get(name)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == 1 + REPEATS // 2 * 2
    lengths = [len(json.dumps(run["metadata"]["managedFields"])) for run in (before, after)]
    assert lengths[1] <= lengths[0]


@pytest.mark.parametrize("tool", TOOLS[1:])
def test_a_hold_by_hand_stays_where_git_does_not_speak_of_it(jobs: Jobs, tool: str) -> None:
    job = document(f"hold-beside-{tool}")
    job["spec"].pop("runPolicy", None)
    name = job["metadata"]["name"]
    jobs.apply(job, tool)
    jobs.patch(name, {"spec": {"runPolicy": {"suspend": True}}})
    jobs.apply(job, tool)
    assert jobs.get(name)["spec"]["runPolicy"] == {"suspend": True}
    job["spec"]["runPolicy"] = {"suspend": False}
    jobs.apply(job, tool)
    assert jobs.get(name)["spec"]["runPolicy"] == {"suspend": False}
