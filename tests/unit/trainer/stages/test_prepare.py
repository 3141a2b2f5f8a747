"""The prepare stage does its work once, in an order that finds mistakes early, and reports what it found.

torch and LLaMA-Factory are not in this environment, so that the tokenising itself is stood in for.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.digest import configuration_digest
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.model import source as model_source
from qwensft_trainer.model.checks import chain as model_checks
from qwensft_trainer.stages import prepare

from .. import adapters, models
from ..conftest import Scene

COUNTS = {"samples": 1, "tokens": 12, "truncatedSamples": 0, "lengthMax": 12}
GOOD = {"instruction": "Hi", "output": "Hello"}
# As the operator always writes them; nothing to warn of.
ARGUMENTS = {
    "learning_rate": 1e-4, "lr_scheduler_type": "cosine", "warmup_steps": 2, "num_train_epochs": 3.0,
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def tokenised(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of tokenise, which leaves a directory as the real one does."""
    calls: list[Any] = []

    def tokenise(*arguments: Any) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
        calls.append(arguments)
        (scene.run_directory / "data" / "tokenized").mkdir(parents=True, exist_ok=True)
        return dict(COUNTS), ["2 of 3 samples are cut"], {}

    monkeypatch.setattr(prepare, "tokenise", tokenise)
    monkeypatch.setattr(prepare, "forbid_hub_access", lambda: None)
    models.write(scene.root / "model", "qwen3")
    scene.train |= ARGUMENTS
    return calls


def prepared(scene: Scene) -> dict[str, Any]:
    """The metrics of the stage's report."""
    return dict(prepare.main(scene.context).metrics)


def recorded(scene: Scene) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scene.run.prepare_result.read_text())
    return found


def test_a_learning_rate_that_teaches_nothing_is_a_warning(scene: Scene) -> None:
    scene.add_dataset("support", [GOOD])
    scene.train |= {"learning_rate": 5e-6, "warmup_steps": 100}
    low, slow = prepared(scene)["warnings"][-2:]
    assert "spec.training.warmupSteps is 100 and the training has 3 steps at most" in low
    assert "spec.training.learningRate is 5e-06" in slow


def test_the_report_holds_counts_warnings_template_and_the_models_shape(scene: Scene) -> None:
    scene.add_dataset("support", [GOOD, GOOD | {"output": ""}])
    metrics = prepared(scene)
    shape = metrics.pop("model")
    assert metrics == COUNTS | {
        "duplicateSamples": 0,
        "template": "qwen3",
        "warnings": [
            "dataset support: 1 of 2 rows have an empty answer: they teach to be silent (file data.json, row 2)",
            "2 of 3 samples are cut",
        ],
    }
    assert (shape["hiddenSize"], shape["layers"], shape["tied"]) == (8, 2, True)
    assert recorded(scene)["template"] == "qwen3"
    assert recorded(scene)["rows"] == {"support": 2}


def test_the_template_is_told_by_the_model_when_the_job_does_not(scene: Scene, tokenised: list[Any]) -> None:
    scene.add_dataset("support", [GOOD])
    models.write(scene.root / "model", "qwen2", chat=models.CHATML)
    del scene.train["template"]
    assert prepared(scene)["template"] == "qwen"
    assert tokenised[0][3] == "qwen"


def test_warnings_are_few_and_short_in_the_report_and_whole_in_the_record(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.add_dataset("support", [GOOD])
    monkeypatch.setattr(model_checks, "check", lambda *_: ["x" * 400] * 9)
    warnings = prepared(scene)["warnings"]
    assert [len(warning) for warning in warnings[:-1]] == [300] * 4
    assert warnings[0].endswith("...")
    assert warnings[-1] == "6 more warnings stand in the log and in prepare.json"
    assert len(recorded(scene)["warnings"]) == 10


def test_warnings_of_rows_come_before_those_of_the_model(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.add_dataset("support", [GOOD | {"sytem": "Be brief."}])
    monkeypatch.setattr(model_checks, "check", lambda *_: ["the model"])
    assert prepared(scene)["warnings"][:2] == [
        "dataset support: nothing reads column 'sytem' (1 of 1 rows: set columns.system to 'sytem')",
        "the model",
    ]


def test_a_preparation_done_for_the_same_inputs_returns_at_once(scene: Scene, tokenised: list[Any]) -> None:
    scene.add_dataset("support", [GOOD])
    first = prepared(scene)
    assert prepared(scene) == first
    assert len(tokenised) == 1


@pytest.mark.parametrize("change", ["data", "same size", "argument", "mixing"])
def test_changed_inputs_are_prepared_again(scene: Scene, tokenised: list[Any], change: str) -> None:
    path = scene.add_dataset("support", [GOOD])
    prepared(scene)
    if change == "data":
        path.write_text(json.dumps([GOOD] * 2))
    elif change == "same size":
        path.write_text(path.read_text().replace("Hello", "Howdy"))
    elif change == "argument":
        scene.train["cutoff_len"] = 99
    else:
        scene.document["mixing"] = {"strategy": "interleave_once"}
    prepared(scene)
    assert len(tokenised) == 2


def test_nothing_counts_as_prepared_after_a_preparation_of_other_inputs_has_begun(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tokenised: list[Any]
) -> None:
    path = scene.add_dataset("support", [GOOD])
    prepared(scene)
    scene.train["cutoff_len"] = 99
    with monkeypatch.context() as patch:
        patch.setattr(
            "qwensft_trainer.base.files.write_json", lambda *_: pytest.fail("killed before its record was written")
        )
        with pytest.raises(BaseException, match="killed"):
            prepared(scene)
    del scene.train["cutoff_len"]
    assert path.is_file()
    begun = len(tokenised)
    prepared(scene)
    assert len(tokenised) == begun + 1


def test_a_repeated_preparation_still_looks_after_the_model(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.add_dataset("support", [GOOD])
    prepared(scene)
    looked: list[Any] = []
    monkeypatch.setattr(model_source, "provide", looked.append)
    prepared(scene)
    assert len(looked) == 1


def test_an_adapter_that_is_trained_on_is_copied_compared_and_recorded(scene: Scene, tokenised: list[Any]) -> None:
    scene.add_dataset("support", [GOOD])
    source = adapters.continues(scene)
    prepared(scene)
    assert (scene.run.adapter_directory / "adapter_config.json").read_bytes() == (
        source / "adapter_config.json"
    ).read_bytes()
    adapter = scene.document["model"]["adapter"]
    assert recorded(scene)["adapter"] == {name: adapter[name] for name in ("name", "uid", "digest")}
    first = json.loads((source.parents[1] / "prepare.json").read_text())
    assert recorded(scene)["base"] == first["base"], "whoever trains on from this one finds the same"
    shutil.rmtree(scene.run.adapter_directory)
    prepared(scene)
    assert scene.run.adapter_directory.is_dir()
    assert len(tokenised) == 1, "the rows are prepared once"


def test_an_adapter_of_another_kind_is_refused_before_rows_are_tokenised(scene: Scene, tokenised: list[Any]) -> None:
    scene.add_dataset("support", [GOOD])
    adapters.continues(scene)
    scene.train["lora_rank"] = 64
    with pytest.raises(PermanentError, match=r"set spec\.tuning\.lora\.rank to 4 \(it is 64\)"):
        prepared(scene)
    assert tokenised == []


def test_a_missing_data_file_is_found_before_a_model_is_downloaded(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.add_dataset("support", [GOOD]).unlink()
    monkeypatch.setattr(model_source, "provide", lambda _: pytest.fail("the model came first"))
    with pytest.raises(PermanentError, match=r"there is no file data\.json in its source"):
        prepared(scene)


def test_a_users_deepspeed_configuration_is_copied_and_part_of_the_inputs(
    scene: Scene, tokenised: list[Any], tmp_path: Path
) -> None:
    scene.add_dataset("support", [GOOD])
    own = tmp_path / "own.json"
    auto: dict[str, Any] = {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
    own.write_text(json.dumps(auto))
    scene.document["deepspeed"] = {"config": str(own)}
    scene.train["bf16"] = False
    prepared(scene)
    copied = json.loads((scene.run_directory / "data" / "deepspeed.json").read_text())
    assert copied["zero_optimization"]["stage"] == 2
    own.write_text(json.dumps(auto | {"steps_per_print": 7}))
    prepared(scene)
    assert len(tokenised) == 2
    assert json.loads((scene.run_directory / "data" / "deepspeed.json").read_text())["steps_per_print"] == 7


def test_the_digest_knows_what_is_trained_on_what_and_nothing_else(scene: Scene) -> None:
    scene.add_dataset("support", [GOOD])
    before = configuration_digest(scene.run, scene.train)
    scene.document["model"]["cache"] = "/cache/models"
    scene.document["onExisting"] = "Resume"
    assert configuration_digest(scene.run, scene.train) == before
    scene.document["evaluation"] = {"fraction": 0.1}
    assert configuration_digest(scene.run, scene.train) != before


def test_another_experiments_checkpoints_are_not_resumed(scene: Scene, tokenised: list[Any]) -> None:
    scene.add_dataset("support", [GOOD])
    scene.document["onExisting"] = "Resume"
    folder = scene.run_directory / "train" / "1" / "checkpoint-60"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 60, "max_steps": 100}))
    (folder / "adapter_model.safetensors").write_text("weights")
    attempt = folder.parent / "attempt.json"
    attempt.write_text(json.dumps({"configDigest": "another", "ownerUid": "another"}))
    with pytest.raises(PermanentError, match="holds a run with other inputs") as caught:
        prepare.main(scene.context)
    assert caught.value.reason == "OutputExists"
    assert sorted(path.name for path in scene.run_directory.iterdir()) == ["train"]  # it is still the other's
    ours = {"configDigest": configuration_digest(scene.run, scene.train), "contents": prepare._contents(scene.run)}
    attempt.write_text(json.dumps(ours | {"ownerUid": "another"}))
    prepare.main(scene.context)
    assert len(tokenised) == 1


def test_changed_rows_under_the_same_name_do_not_get_the_result_of_the_old_ones(scene: Scene) -> None:
    path = scene.add_dataset("support", [GOOD])
    prepared(scene)
    before = recorded(scene)
    finished = {"ownerUid": "uid-1", "configDigest": before["configDigest"], "contents": before["contents"]}
    (scene.run_directory / "train.json").write_text(json.dumps(finished))
    scene.document["owner"]["uid"] = "uid-2"  # the job was deleted and created again
    scene.document["onExisting"] = "Resume"
    prepared(scene)
    moment = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace("Hello", "Howdy"))
    os.utime(path, ns=(moment, moment))  # same name, size and time
    scene.document["owner"]["uid"] = "uid-3"
    with pytest.raises(PermanentError, match="the content of its data files") as caught:
        prepare.main(scene.context)
    assert caught.value.reason == "OutputExists"
    assert recorded(scene) == before, "nothing of the other run was touched"
    scene.document["owner"]["uid"] = "uid-2"
    workspace.require_ownership(scene.run)


def test_a_link_out_of_a_datasets_volume_is_refused_before_its_bytes_are_read(scene: Scene) -> None:
    path = scene.add_dataset("support", [GOOD])
    path.rename(scene.root / "elsewhere.json")
    path.symlink_to(scene.root / "elsewhere.json")
    with pytest.raises(PermanentError, match="leads out of its volume"):
        prepare.main(scene.context)
    assert not scene.run_directory.exists()


def test_a_file_that_was_mounted_anew_is_not_prepared_again(scene: Scene, tokenised: list[Any]) -> None:
    path = scene.add_dataset("support", [GOOD])
    prepared(scene)
    os.utime(path)  # as each mount of a ConfigMap does
    prepared(scene)
    assert len(tokenised) == 1


def test_no_link_that_others_have_left_among_the_data_is_written_through(scene: Scene) -> None:
    scene.add_dataset("support", [GOOD])
    workspace.claim(scene.run)
    theirs = scene.root / "theirs"
    theirs.mkdir()
    (scene.run_directory / "data" / "download").mkdir(parents=True)
    (scene.run_directory / "data" / "download" / "support").symlink_to(theirs)
    prepared(scene)
    assert list((scene.run_directory / "data" / "download").iterdir()) == []
    assert theirs.is_dir()


@pytest.mark.parametrize(
    ("template", "arguments", "all_of_it"),
    [
        ("qwen3", {}, False),
        ("qwen2_vl", {}, True),
        (None, {}, True),  # only the model's files will tell
        ("qwen3", {"trust_remote_code": True}, True),
    ],
)
def test_less_is_imported_where_only_texts_can_be_encoded(
    scene: Scene, template: str | None, arguments: dict[str, Any], all_of_it: bool
) -> None:
    scene.document["model"]["template"] = template
    assert ("llamafactory.data" in prepare._libraries(scene.run, arguments)) == all_of_it
