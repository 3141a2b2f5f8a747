"""The configuration digest is the same whichever version computes it: checkpoints outlive upgrades."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from qwensft_trainer.contract import config
from qwensft_trainer.contract.config import load_run
from qwensft_trainer.contract.digest import configuration_digest

SMALL = """
owner: {uid: uid-1, namespace: team, name: support}
runDirectory: /workspace/support
model: {name: Qwen/Qwen3-8B, path: /workspace/support/model, download: {hub: huggingFace, repo: Qwen/Qwen3-8B}}
datasets: [{name: rows, format: alpaca, path: /datasets/rows/rows.json, columns: {prompt: q, history: null}}]
tuning: {method: lora}
"""
LARGE = """
owner: {uid: uid-1, namespace: team, name: support}
runDirectory: /workspace/support
onExisting: Resume
model: {name: Qwen/Qwen3-8B, path: /model, template: qwen3, cache: /cache/hubs}
datasets:
- {name: rows, format: sharegpt, path: /datasets/rows/rows.json, tags: {role_tag: from}, sampleCount: 50, weight: 3}
- name: more
  format: alpaca
  download: {hub: url, url: "https://data.example/b.json", sha256: abc, credentials: /secrets/more}
evaluation: {datasets: [{name: held-out, format: alpaca, path: /datasets/held-out/rows.json}]}
mixing: {strategy: interleave_under}
tuning: {method: lora, quantization: {bits: 4, method: bnb}, dora: true}
deepspeed: {config: /etc/own/ds.json}
accelerator: {count: 8}
mergePlanned: true
"""
TRAIN = {"stage": "sft", "learning_rate": 5e-6, "template": None}


class NewerTuning(config.Tuning):
    """A section with a field more, as a later version of config.py may have it."""

    note: str | None = None


class NewerDataset(config.Dataset):
    share: float = 1.0


class NewerRun(config.Run):
    tuning: NewerTuning
    datasets: list[NewerDataset]  # type: ignore[assignment]
    retention: int | None = None


def digest(directory: Path, text: str, **changes: Any) -> str:
    """The digest of a run.yaml; `changes` replace whole sections."""
    (directory / "run.yaml").write_text(yaml.safe_dump(yaml.safe_load(text) | changes), encoding="utf-8")
    return configuration_digest(load_run(directory), TRAIN)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (SMALL, "sha256:757390c4c66391f67245eddff992f55a27f076a0957923b9f92cc5ea60365559"),
        (LARGE, "sha256:1d5536aab80a93d8de4ed8e715dac925bc199942dc80f4aa3415f9b83a22fd32"),
    ],
)
def test_a_run_has_the_digest_that_the_first_version_gave_it(tmp_path: Path, text: str, known: str) -> None:
    assert digest(tmp_path, text) == known


@pytest.mark.parametrize("text", [SMALL, LARGE])
def test_an_image_with_new_optional_fields_finds_the_checkpoints_of_a_running_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    before = digest(tmp_path, text)
    monkeypatch.setattr(config, "Run", NewerRun)
    assert isinstance(load_run(tmp_path), NewerRun)
    assert digest(tmp_path, text) == before
    assert digest(tmp_path, text, tuning=yaml.safe_load(text)["tuning"] | {"note": None}) == before


def test_a_new_field_that_is_set_counts_alike_in_images_that_know_it_and_that_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = yaml.safe_load(LARGE)
    changes = {
        "tuning": document["tuning"] | {"note": "x"},
        "datasets": [document["datasets"][0], document["datasets"][1] | {"share": 1}],  # 1.0 once it has been read
    }
    without = digest(tmp_path, LARGE, **changes)
    monkeypatch.setattr(config, "Run", NewerRun)
    assert digest(tmp_path, LARGE, **changes) == without
    assert digest(tmp_path, LARGE, tuning=changes["tuning"]) != without
    assert digest(tmp_path, LARGE) != without


def test_checkpoints_are_of_the_adapter_that_was_trained_on(tmp_path: Path) -> None:
    model = yaml.safe_load(SMALL)["model"]
    adapter = {"name": "first", "uid": "uid-0", "digest": "sha256:1", "path": "/adapter/first-0/train/1"}
    found = [digest(tmp_path, SMALL, model=model | {"adapter": one}) for one in (adapter, adapter | {"digest": "2"})]
    assert len({digest(tmp_path, SMALL), *found}) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1, "operatorVersion": "9.9.9"},
        {"owner": {"uid": "other", "namespace": "team", "name": "other"}, "runDirectory": "/workspace/other"},
        {"accelerator": {"count": 1}, "mergePlanned": True, "onExisting": "Fail", "audit": {"level": 3}},
        {"samples": {"count": 4}},
    ],
)
def test_what_changes_nothing_that_is_learnt_does_not_count(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert digest(tmp_path, SMALL, **changes) == digest(tmp_path, SMALL)


@pytest.mark.parametrize(
    "changes",
    [{"mixing": {"strategy": "interleave_once"}}, {"tuning": {"method": "full"}}, {"evaluation": {"fraction": 0.1}}],
)
def test_what_changes_the_result_counts(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert digest(tmp_path, SMALL, **changes) != digest(tmp_path, SMALL)
