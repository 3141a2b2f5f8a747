"""Jobs as they are stored and sent."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft import QwenSFTJob
from qwensft.api.v1alpha1 import InvalidJobError, Model, Storage, StorageVolume
from qwensft.api.v1alpha1.storage import ClaimTemplate
from qwensft.client.reading import has_ended, job_of, read_job, written

DATASET = {"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "a", "key": "b.json"}}}


def job(**changes: Any) -> QwenSFTJob:
    arguments: dict[str, Any] = {
        "model": "Qwen/Qwen3-8B",
        "storage": "10Gi",
        "dataset": DATASET,
        "spec": {},
        "metadata": {},
    }
    return job_of("demo", **(arguments | changes))


def test_short_forms_and_models_say_the_same() -> None:
    storage = Storage(volume=StorageVolume(claim_template=ClaimTemplate(size="10Gi")))
    assert job() == job(model=Model(name="Qwen/Qwen3-8B"), storage=storage)


def test_blocks_are_named_as_in_python_or_as_in_yaml() -> None:
    assert job(spec={"run_policy": {"max_restarts": 1}}) == job(spec={"runPolicy": {"maxRestarts": 1}})


def test_what_is_sent_is_what_was_said_and_no_default() -> None:
    assert written(job(spec={"training": {"epochs": 1.0}}), "team") == {
        "apiVersion": "qwensft.io/v1alpha1",
        "kind": "QwenSFTJob",
        "metadata": {"name": "demo", "namespace": "team"},
        "spec": {
            "model": {"name": "Qwen/Qwen3-8B"},
            "datasets": [DATASET],
            "training": {"epochs": 1.0},
            "storage": {"volume": {"claimTemplate": {"size": "10Gi"}}},
        },
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spec": {"colour": "red"}}, "colour"),
        ({"dataset": None}, "datasets: Field required"),
        ({"storage": "much"}, "storage.volume.claimTemplate.size"),
        ({"spec": {"tuning": {"freeze": {"trainableLayers": 2}}}}, "the freeze block is for method freeze"),
    ],
)
def test_a_block_that_is_wrong_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJobError) as refused:
        job(**changes)
    assert words in str(refused.value)


def test_a_job_for_another_namespace_is_not_sent() -> None:
    document = written(job(), "team")
    with pytest.raises(InvalidJobError, match="use Client\\(namespace='team'\\)"):
        written(document, "other")


def test_a_field_that_a_newer_version_has_written_is_left_out() -> None:
    document = written(job(), "team")
    document["spec"]["training"] = {"epochs": 2.0, "colour": {"deep": "red"}}
    document["spec"]["later"] = []
    assert read_job(document).spec.training.epochs == 2.0


def test_what_cannot_be_read_says_which_version_can() -> None:
    document = written(job(), "team")
    document["spec"]["model"] = "Qwen/Qwen3-8B"
    with pytest.raises(InvalidJobError, match=r"demo is stored in a form .* install the operator's version"):
        read_job(document)


@pytest.mark.parametrize(
    ("observed", "verdict", "ended"), [(2, "True", True), (2, "False", True), (2, "Unknown", False), (1, "True", False)]
)
def test_a_run_has_ended_once_its_newest_spec_has(observed: int, verdict: str, ended: bool) -> None:
    condition = {
        "type": "Succeeded",
        "status": verdict,
        "reason": "R",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    document = written(job(), "team") | {"status": {"observedGeneration": observed, "conditions": [condition]}}
    document["metadata"]["generation"] = 2
    assert has_ended(read_job(document)) is ended
