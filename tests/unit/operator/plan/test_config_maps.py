"""ConfigMaps that a spec names: what is missing is told before any pod hangs on it; of Secrets, what a node says."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan import Plan, config_map_keys
from qwensft_operator.plan.references import references
from qwensft_operator.plan.types import ClaimView, Look, Observed, Trouble

from .builders import COMPLETE, FAILED, MERGE, NOW, PREPARE, TRAIN, child, failed, later, look, pod, scene
from .specs import FROM_MAPS

ALL: dict[str, frozenset[str]] = {
    "rows-a": frozenset({"rows.json"}),
    "rows-held": frozenset({"rows.json"}),
    "zero": frozenset({"zero.json"}),
    "site": frozenset({"proxy"}),
}
STARTED = ["EnsureConfigMap prepare-1", "CreateJob prepare-1"]


def with_maps(found: Mapping[str, frozenset[str]], stage: Stage = PREPARE, **more: Any) -> Observed:
    """A run about to start a stage."""
    return scene(stage, None, recorded=False, observed={"named_config_maps": found}, **{**FROM_MAPS, **more})


def test_a_run_whose_config_maps_are_there_starts() -> None:
    assert look(with_maps(ALL)).actions == STARTED


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("rows-a", "spec.datasets[a].source.configMap.name"),
        ("rows-held", "spec.evaluation.datasets[held].source.configMap.name"),
        ("zero", "spec.distribution.deepspeed.config.name"),
        ("site", "spec.worker.env[PROXY].valueFrom.configMapKeyRef.name"),
    ],
)
def test_a_config_map_that_is_missing_is_named_with_its_place_in_the_spec(name: str, field: str) -> None:
    seen = look(with_maps({other: keys for other, keys in ALL.items() if other != name}))
    assert (seen.headline, seen.actions) == (("Pending", "ConfigMapUnavailable"), [])
    assert seen.message == f"ConfigMap {name} does not exist; create it, or correct {field}"
    assert seen.plan.requeue_after == 30
    assert seen.events == [("Warning", "ConfigMapUnavailable")]
    assert look(seen.then(named_config_maps=ALL)).actions == STARTED


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["rows.jsonl"], "it has rows.jsonl"),
        (["train.json", "readme", "row.json"], "it has row.json, train.json, readme"),
        ([f"part-{n}.csv" for n in range(300)] + ["ROWS.json"], "it has ROWS.json, "),
        ([f"part-{n}.csv" for n in range(300)], " and 295 more"),
        ([], "it is empty"),
    ],
)
def test_a_key_that_is_missing_is_named_with_those_that_there_are(keys: list[str], words: str) -> None:
    seen = look(with_maps({**ALL, "rows-a": frozenset(keys)}))
    assert seen.headline == ("Pending", "ConfigMapUnavailable")
    assert seen.message.startswith("ConfigMap rows-a has no key rows.json; it ")
    assert words in seen.message
    assert seen.message.endswith(": add the key, or correct spec.datasets[a].source.configMap.key")
    assert len(seen.message) < 300


def test_training_needs_only_what_its_own_pods_read() -> None:
    seen = look(with_maps({"site": frozenset({"proxy"})}, stage=TRAIN))
    assert seen.actions == ["EnsureConfigMap train-1", "CreateJob train-1"]
    assert look(with_maps({}, stage=TRAIN)).headline == ("Training", "ConfigMapUnavailable")


def test_the_cause_of_a_failure_stays_in_view_while_the_next_attempt_waits() -> None:
    failing = scene(PREPARE, FAILED, pods=(failed(reason="DiskFull"),), **FROM_MAPS)
    waiting = look(failing).then(children=(child(PREPARE, FAILED),), named_config_maps={})
    assert look(waiting).headline == ("Preparing", "DiskFull")
    assert look(waiting, later(minutes=1)).headline == ("Preparing", "ConfigMapUnavailable")


def test_a_run_without_config_maps_has_nothing_to_wait_for() -> None:
    volume = {"volume": {"claimName": "data", "path": "a.json"}}
    observed = scene(PREPARE, None, recorded=False, datasets=[{"name": "a", "format": "alpaca", "source": volume}])
    assert look(replace(observed, named_config_maps=None)).actions == STARTED


def test_config_maps_are_asked_for_when_nothing_else_keeps_the_job_from_being_made() -> None:
    unread: dict[str, Any] = {"named_config_maps": None, "leftovers": None}
    new = scene(PREPARE, None, recorded=False, observed=unread, **FROM_MAPS)
    assert look(new).plan == Plan(look=Look(("rows-a", "rows-held", "zero", "site"), leftovers=True))
    merge = scene(MERGE, None, recorded=False, observed=unread, **FROM_MAPS)
    assert look(merge).plan == Plan(look=Look(("site",), leftovers=True))
    missed = look(with_maps({})).then(**unread)
    assert look(missed).plan == Plan(look=Look(("rows-a", "rows-held", "zero", "site"))), "mostly nothing starts"
    assert look(replace(missed, named_config_maps=ALL)).plan == Plan(look=Look(leftovers=True))
    lost = (ClaimView("support-workspace", "Lost"),)
    for waits in (
        scene(PREPARE, None, recorded=False, observed=unread | {"claims": lost}, **FROM_MAPS),
        scene(PREPARE, None, recorded=False, suspend=True, observed=unread, **FROM_MAPS),
        scene(PREPARE, child_fields={"ready": 0}, observed=unread, **FROM_MAPS),
        scene(TRAIN, None, status={"completion_time": NOW, "phase": "Failed"}, observed=unread, **FROM_MAPS),
    ):
        assert look(waits).plan.look is None


def test_they_are_asked_for_before_the_next_stage_too() -> None:
    done = scene(PREPARE, COMPLETE, observed={"named_config_maps": None}, **FROM_MAPS)
    assert look(done).plan.look == Look(config_maps=("site",))


def test_the_keys_of_a_config_map_are_those_of_its_texts_and_of_its_bytes() -> None:
    assert config_map_keys({"data": {"a": "x"}, "binaryData": {"b": "eA=="}}) == {"a", "b"}
    assert config_map_keys({"metadata": {"name": "empty"}}) == frozenset()


def test_every_object_that_pods_read_is_found_with_its_field() -> None:
    job = scene(PREPARE, None, recorded=False, **FROM_MAPS).job
    assert [(r.kind, r.name, r.key, r.field) for r in references(job, PREPARE) if r.kind == "Secret"] == [
        ("Secret", "hub", "model", "spec.model.source.huggingFace.tokenSecretRef"),
        ("Secret", "hub", "token", "spec.datasets[b].source.modelScope.tokenSecretRef"),
        ("Secret", "s3", None, "spec.datasets[c].source.url.credentialsSecretRef"),
        ("Secret", "site", "password", "spec.worker.env[PASSWORD].valueFrom.secretKeyRef"),
    ]


# Nodes: the words are kubelet's own.


def stuck(words: str, stage: Stage = PREPARE, **spec: Any) -> Observed:
    """A pod whose container cannot be created."""
    waiting = pod(phase="Pending", waiting_reason="CreateContainerConfigError", waiting_message=words)
    return scene(stage, pods=(waiting,), child_fields={"ready": 0}, **{**FROM_MAPS, **spec})


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (
            'secret "hub" not found',
            "; create it, or correct spec.model.source.huggingFace.tokenSecretRef or "
            "spec.datasets[b].source.modelScope.tokenSecretRef",
        ),
        ('secret "site" not found', "; create it, or correct spec.worker.env[PASSWORD].valueFrom.secretKeyRef"),
        ('configmap "site" not found', "; create it, or correct spec.worker.env[PROXY].valueFrom.configMapKeyRef"),
        (
            "couldn't find key model in Secret team/hub",
            "; add it, or correct spec.model.source.huggingFace.tokenSecretRef",
        ),
        (
            "couldn't find key proxy in ConfigMap team/site",
            "; add it, or correct spec.worker.env[PROXY].valueFrom.configMapKeyRef",
        ),
        ('secret "unknown" not found', ""),
        ("container has runAsNonRoot and image will run as root", ""),
    ],
)
def test_what_a_node_does_not_find_is_named_with_its_field(words: str, hint: str) -> None:
    seen = look(stuck(words))
    assert seen.headline == ("Preparing", "PodNotStarting")
    assert seen.message == f"pod pod-0: CreateContainerConfigError: {words}{hint}"


def test_a_training_pod_reads_no_token_of_the_hub() -> None:
    assert "or correct" not in look(stuck('secret "hub" not found', TRAIN)).message


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ('MountVolume.SetUp failed for volume "secret-2" : secret "s3" not found', "credentialsSecretRef"),
        (
            'MountVolume.SetUp failed for volume "secret-1" : references non-existent secret key: token',
            "spec.datasets[b].source.modelScope.tokenSecretRef",
        ),
        (
            'MountVolume.SetUp failed for volume "deepspeed" : configmap references non-existent config key: zero.json',
            "spec.distribution.deepspeed.config",
        ),
    ],
)
def test_a_volume_that_lacks_its_object_is_named_with_the_field(words: str, field: str) -> None:
    trouble = Trouble("FailedMount", words, later(minutes=-1))
    waiting = replace(stuck(""), pods=(pod(phase="Pending", trouble=trouble),))
    seen = look(waiting)
    assert seen.headline == ("Preparing", "VolumeMountFailed")
    assert seen.message.startswith(f"pod pod-0 on node node-0: FailedMount: {words}; ")
    assert seen.message.endswith(field)
