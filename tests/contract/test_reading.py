"""What people and tools see: status, columns and the built-in reference manual."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from qwensft.api.v1alpha1 import QwenSFTJob, Status, parse_job

from .conftest import GROUP, PLURAL, Jobs, eventually

HERE = Path(__file__).parent
STATUS = {
    "observedGeneration": 1,
    "phase": "Training",
    "conditions": [
        {
            "type": "Prepared",
            "status": "True",
            "reason": "Completed",
            "message": "200 samples",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "observedGeneration": 1,
        },
        {
            "type": "Succeeded",
            "status": "Unknown",
            "reason": "Training",
            "message": "step 120 of 500",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "observedGeneration": 1,
        },
    ],
    "progress": {
        "step": 120,
        "totalSteps": 500,
        "percentage": 24,
        "epoch": 0.72,
        "loss": 1.25,
        "steps": "120/500",
        "eta": "2h15m",
        "estimatedRemainingSeconds": 8100,
        "lastUpdateTime": "2026-01-02T03:04:05Z",
    },
    "stages": {
        "train": {
            "jobName": "reading-train-1",
            "attempt": 1,
            "startTime": "2026-01-02T03:00:00Z",
            "retryTime": "2026-01-02T03:01:00Z",
            "reason": "OutOfMemory",
            "specHash": "0f1e",
        }
    },
    "outputs": {"adapter": {"claimName": "models", "path": "a/b", "sizeBytes": 14_000_000_000, "digest": "sha256:00"}},
    "dataset": {"samples": 200, "tokens": 12345, "evalSamples": 10, "truncatedSamples": 3, "lengthP99": 4000},
    "estimate": {"gpuMemoryGiB": 21.5, "hostMemoryGiB": 30.1, "acceleratorMemoryGiB": 80, "fits": True},
    "restarts": 1,
    "retry": 2,
    "suspendedSeconds": 60,
    "startTime": "2026-01-02T03:00:00Z",
}


def stored(jobs: Jobs, name: str) -> dict[str, Any]:
    document = yaml.safe_load((HERE / "valid" / "minimal.yaml").read_text(encoding="utf-8"))
    document["metadata"]["name"] = name
    created: dict[str, Any] = jobs.create(document)
    return created


def test_a_status_is_kept_as_it_was_written(jobs: Jobs) -> None:
    created = stored(jobs, "status")
    assert created["status"] == {"observedGeneration": -1}
    assert jobs.patch_status("status", {"phase": "Pending"})["status"] == {"observedGeneration": -1, "phase": "Pending"}
    jobs.patch_status("status", STATUS)
    jobs.patch("status", {"spec": {"runPolicy": {"suspend": True}}})
    after = jobs.get("status")
    assert after["status"] == STATUS
    assert after["metadata"]["generation"] == 2


def test_a_stored_job_is_read_back_by_the_models(jobs: Jobs) -> None:
    stored(jobs, "read-back")
    jobs.patch_status("read-back", STATUS)
    raw = jobs.get("read-back") | {"apiVersion": "qwensft.io/v1alpha1"}
    job = parse_job(raw)
    assert isinstance(job, QwenSFTJob)
    assert job.metadata.uid == raw["metadata"]["uid"]
    assert job.status.document() == STATUS | {"stages": STATUS["stages"]}


def test_every_field_of_the_status_models_is_known_to_the_apiserver(jobs: Jobs) -> None:
    stored(jobs, "whole-status")
    whole = _filled(Status)
    assert jobs.patch_status("whole-status", whole)["status"] == whole


def test_the_status_cannot_be_set_with_the_spec(jobs: Jobs) -> None:
    stored(jobs, "forged")
    assert jobs.patch("forged", {"status": {"phase": "Succeeded"}})["status"] == {"observedGeneration": -1}


def test_the_table_shows_progress_at_a_glance(jobs: Jobs, kubectl: Callable[..., str]) -> None:
    stored(jobs, "table")
    jobs.patch_status("table", STATUS)
    header, row = kubectl("get", f"{PLURAL}.{GROUP}", "table", "-n", jobs.namespace).splitlines()
    assert header.split() == ["NAME", "PHASE", "STEP", "PROGRESS", "LOSS", "ETA", "AGE"]
    assert row.split()[:-1] == ["table", "Training", "120/500", "24", "1.25", "2h15m"]
    wide = kubectl("get", "qsftc", "table", "-n", jobs.namespace, "-o", "wide")
    assert "MODEL" in wide
    assert "Qwen/Qwen3-8B" in wide
    header, row = wide.splitlines()
    reason = header.index("REASON")
    assert row[reason:].split()[0] == "Training", "the reason of Succeeded, whatever stands before it"
    assert "REASON" not in kubectl("get", "qsftc", "table", "-n", jobs.namespace)


def test_jobs_are_selected_by_phase_and_by_model(jobs: Jobs, kubectl: Callable[..., str]) -> None:
    def selected(*by: str) -> set[str]:
        listed = kubectl("get", "qsftc", "-n", jobs.namespace, "--field-selector", ",".join(by), "-o", "name")
        return {name.partition("/")[2] for name in listed.splitlines()}

    for name, phase in (("has-failed", "Failed"), ("has-succeeded", "Succeeded")):
        stored(jobs, name)
        jobs.patch_status(name, STATUS | {"phase": phase})
    assert selected("status.phase=Failed") == {"has-failed"}
    assert {"has-failed", "has-succeeded"} <= selected("spec.model.name=Qwen/Qwen3-8B")
    assert selected("spec.model.name=Qwen/Qwen3-8B", "status.phase=Succeeded") == {"has-succeeded"}
    assert selected("spec.model.name=Qwen/Qwen3-0.6B") == set()


def test_a_job_without_a_status_has_a_table_row(jobs: Jobs, kubectl: Callable[..., str]) -> None:
    stored(jobs, "fresh")
    assert "fresh" in kubectl("get", "qsftc", "fresh", "-n", jobs.namespace)


def test_kubectl_explain_tells_units_defaults_and_arguments(
    installed: dict[str, Any], kubectl: Callable[..., str]
) -> None:
    # Published a moment after the definition is served.
    said = eventually(
        lambda: kubectl("explain", f"{PLURAL}.spec.training", f"--api-version={GROUP}/v1alpha1"), "the manual"
    )
    said = " ".join(said.split())
    for text in (
        "Longest example, in tokens",
        "Default: 4096. LLaMA-Factory: cutoff_len.",
        "Default: 5e-6. LLaMA-Factory: learning_rate.",
        "Seconds that a collective operation waits",
        "Default: 3, unless maxSteps is set. LLaMA-Factory: num_train_epochs.",
        "enum: bf16, fp16, fp32",
    ):
        assert text in said


def test_the_definition_is_healthy(installed: dict[str, Any], kubectl: Callable[..., str]) -> None:
    conditions = kubectl(
        "get", "crd", f"{PLURAL}.{GROUP}", "-o", "jsonpath={range .status.conditions[*]}{.type}={.status} {end}"
    ).split()
    assert sorted(conditions) == ["Established=True", "NamesAccepted=True"]


def _filled(model: Any) -> dict[str, Any]:
    """A document with every field of a status model set."""
    schema = model.model_json_schema(by_alias=True)

    def value(node: dict[str, Any]) -> Any:
        if "anyOf" in node:
            node = node["anyOf"][0]
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        if "enum" in node:
            return node["enum"][0]
        if node.get("format") == "date-time":
            return "2026-01-02T03:04:05Z"
        if node["type"] == "object":
            return {name: value(child) for name, child in node["properties"].items()}
        if node["type"] == "array":
            return [value(node["items"])]
        if node["type"] == "boolean":
            return True
        return {"integer": 7, "number": 0.5, "string": "Text"}[node["type"]]

    return {name: value(child) for name, child in schema["properties"].items()}
