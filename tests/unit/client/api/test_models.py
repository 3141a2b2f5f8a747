"""Defaults, derived values, quantities, messages of the parser, and what a document looks like when written back."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from qwensft.api.v1alpha1 import (
    Columns,
    Condition,
    Estimate,
    Freeze,
    HubSource,
    InvalidJobError,
    Lora,
    Merge,
    Phase,
    Progress,
    Quantization,
    RunSource,
    StageStatus,
    Status,
    Training,
    Tuning,
    parse_job,
    parse_quantity,
    read_status,
)
from qwensft.api.v1alpha1.arguments import REFUSED_ARGUMENTS
from qwensft.api.v1alpha1.immutability_rules import FIXED, MUTABLE
from qwensft.api.v1alpha1.job import Spec
from qwensft.api.v1alpha1.worker import Worker

REPOSITORY = Path(__file__).parents[4]


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "qwensft.io/v1alpha1",
        "kind": "QwenSFTJob",
        "metadata": {"name": "support", "namespace": "team", "uid": "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"},
        "spec": {
            "model": {"name": "Qwen/Qwen3-8B"},
            "datasets": [
                {"name": "support", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows.json"}}}
            ],
            "storage": {"volume": {"claimTemplate": {"size": "100Gi"}}},
            **spec,
        },
    }


def test_an_empty_training_block_trains_as_qwens_guide_does() -> None:
    training = parse_job(document()).spec.training
    assert training.model_dump(exclude_none=True) == {
        "learning_rate": 5e-6,
        "scheduler": "cosine",
        "weight_decay": 0.1,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "cutoff_len": 4096,
        "packing": False,
        "neat_packing": False,
        "precision": "bf16",
        "gradient_checkpointing": True,
        "liger_kernel": False,
        "seed": 42,
        "logging_steps": 1,
        "save_steps": 1000,
        "save_total_limit": 2,
        "plot_loss": True,
        "ddp_timeout_seconds": 9000,
    }
    assert (training.effective_epochs, training.effective_warmup_steps) == (3.0, 100)


def test_steps_and_ratio_take_the_place_of_epochs_and_warmup_steps() -> None:
    training = Training(max_steps=10, warmup_ratio=0.0)
    assert (training.effective_epochs, training.effective_warmup_steps) == (None, None)


def test_lora_is_the_default_and_fills_in_its_settings() -> None:
    assert Tuning().effective_lora == Lora(rank=8, targets=["q_proj", "v_proj"])
    assert Lora(rank=16).effective_alpha == 32
    assert Lora(rank=16, alpha=8).effective_alpha == 8
    assert Tuning(method="full").effective_lora is None


@pytest.mark.parametrize(
    ("method", "finetuning_type", "uses_adapter", "quantization"),
    [
        ("full", "full", False, None),
        ("freeze", "freeze", False, None),
        ("lora", "lora", True, None),
        ("qlora", "lora", True, Quantization(bits=4, method="bnb", type="nf4", double_quantization=True)),
        ("dora", "lora", True, None),
    ],
)
def test_a_method_is_a_finetuning_type_of_llamafactory(
    method: Any, finetuning_type: str, uses_adapter: bool, quantization: Quantization | None
) -> None:
    tuning = Tuning(method=method)
    assert (tuning.finetuning_type, tuning.uses_adapter) == (finetuning_type, uses_adapter)
    assert tuning.effective_quantization == quantization
    assert (tuning.effective_lora is not None) == uses_adapter
    assert tuning.effective_freeze == (
        Freeze(trainable_layers=2, trainable_modules=["all"]) if method == "freeze" else None
    )


def test_dora_is_quantised_only_where_it_is_asked_for() -> None:
    assert Tuning(method="dora", quantization=Quantization(bits=8)).effective_quantization == Quantization(bits=8)


@pytest.mark.parametrize(
    ("weights", "given", "strategy"),
    [
        ((None, None), None, "concat"),
        ((3, 1), None, "interleave_under"),
        ((3, 1), "interleave_once", "interleave_once"),
        ((None, None), "interleave_over", "interleave_over"),
    ],
)
def test_datasets_with_weights_are_interleaved(weights: tuple[Any, ...], given: str | None, strategy: str) -> None:
    (dataset,) = document()["spec"]["datasets"]
    datasets = [
        dataset | {"name": f"d{number}"} | ({"weight": weight} if weight else {})
        for number, weight in enumerate(weights)
    ]
    training = {"mixStrategy": given} if given else {}
    assert parse_job(document(datasets=datasets, training=training)).spec.mix_strategy == strategy


def test_a_job_knows_its_datasets_with_and_without_those_to_evaluate_on() -> None:
    (dataset,) = document()["spec"]["datasets"]
    spec = parse_job(document(evaluation={"datasets": [dataset | {"name": "held-out"}]})).spec
    assert [held.name for held in spec.evaluation_sets] == ["held-out"]
    assert [each.name for each in spec.all_datasets] == ["support", "held-out"]
    assert parse_job(document(evaluation={"fraction": 0.1})).spec.evaluation_sets == []
    assert parse_job(document()).spec.evaluation_sets == []


@pytest.mark.parametrize(
    ("spec", "processes"),
    [
        ({}, 1),
        ({"worker": {"accelerator": {"count": 8}}}, 8),
        ({"worker": {"accelerator": {"count": 8}}, "distribution": {"processesPerNode": 2}}, 2),
        ({"worker": {"accelerator": {"count": 0}}}, 1),
        ({"worker": {"accelerator": {"count": 0}}, "distribution": {"processesPerNode": 4}}, 4),
    ],
)
def test_processes_default_to_the_accelerators(spec: dict[str, Any], processes: int) -> None:
    assert parse_job(document(**spec)).spec.processes_per_node == processes


def test_a_claim_is_shared_only_where_several_nodes_write() -> None:
    assert parse_job(document()).spec.access_modes == ["ReadWriteOnce"]
    assert parse_job(document(distribution={"nodes": 2})).spec.access_modes == ["ReadWriteMany"]


def test_the_run_directory_tells_jobs_of_the_same_name_apart() -> None:
    job = parse_job(document())
    assert job.run_path == "support-0f1e2d3c"
    assert job.workspace_claim == "support-workspace"
    named = parse_job(document(storage={"volume": {"claimName": "models"}, "path": "runs/1"}))
    assert (named.run_path, named.workspace_claim) == ("runs/1", "models")


def test_the_model_comes_from_the_hugging_face_hub_unless_said_otherwise() -> None:
    model = parse_job(document()).spec.model
    assert model.effective_source.hugging_face is not None
    assert model.hub == HubSource()
    assert model.effective_template == "qwen3"


def test_a_model_on_a_volume_or_in_an_image_is_not_downloaded() -> None:
    for source in ({"volume": {"claimName": "models"}}, {"image": {"reference": "registry.example.com/qwen3:1"}}):
        assert parse_job(document(model={"name": "tuned", "source": source})).spec.model.hub is None


def test_a_model_of_another_run_is_not_downloaded_and_needs_no_repository() -> None:
    model = parse_job(document(model={"name": "tuned", "source": {"run": {"name": "first"}}})).spec.model
    assert model.hub is None
    assert model.effective_source.run == RunSource(name="first")
    itself = document(model={"name": "tuned", "source": {"run": {"name": "support"}}})
    with pytest.raises(InvalidJobError, match=r"^spec\.model\.source\.run\.name: a run cannot begin with its own"):
        parse_job(itself)


def test_a_name_that_tells_no_family_leaves_the_template_to_the_prepare_stage() -> None:
    model = parse_job(document(model={"name": "acme/tuned"})).spec.model
    assert (model.effective_template, model.is_text_model) == (None, False)
    assert parse_job(document(model={"name": "acme/tuned", "template": "qwen"})).spec.model.is_text_model


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        ("1.5Gi", "1610612736"),
        ("1e3", "1000"),
        ("1E", "1e18"),
        ("5k", "5000"),
        (".5", "0.5"),
        ("0.0000000001", "1e-9"),
        ("9" * 30 + "Ei", str(2**63 - 1)),
        ("1e99", "1e99"),
    ],
)
def test_a_quantity_has_the_value_that_kubernetes_gives_it(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "-1", "1.2.3", "12 Gi", "1GiB", "m", "1e", "1e100", "1Gi\n", "٣"])
def test_malformed_quantities_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)


@pytest.mark.parametrize("name", ["memory", "ephemeral-storage", "hugepages-1Gi"])
@pytest.mark.parametrize("amount", [16, "16", "16m", "1e3", "900k", "1023Ki"])
@pytest.mark.parametrize("where", ["requests", "limits"])
@pytest.mark.parametrize("block", ["prepare", "worker", "merge"])
def test_an_amount_of_bytes_without_its_unit_is_refused_in_every_stage(
    block: str, where: str, amount: str | int, name: str
) -> None:
    with pytest.raises(InvalidJobError, match=rf"spec.{block}.resources.{where}: {name}: {amount} is .*; write "):
        parse_job(document(**{block: {"resources": {where: {name: amount}}}}))


@pytest.mark.parametrize(
    "amounts", [{"memory": 0}, {"memory": "1Mi"}, {"memory": 2**20}, {"cpu": 2}, {"acme.com/nic": 1}]
)
def test_no_memory_at_all_and_what_is_no_memory_need_no_unit(amounts: dict[str, Any]) -> None:
    resources = parse_job(document(worker={"resources": {"limits": amounts}})).spec.worker.resources
    assert resources is not None
    assert resources.limits == {name: str(amount) for name, amount in amounts.items()}


def test_an_error_names_every_offending_field() -> None:
    raw = document(training={"epoch": 1, "seed": True})
    raw["spec"]["datasets"][0]["sampleCount"] = 0
    with pytest.raises(InvalidJobError) as caught:
        parse_job(raw)
    for path in ("spec.training.epoch: ", "spec.training.seed: ", "spec.datasets[0].sampleCount: "):
        assert path in str(caught.value)


@pytest.mark.parametrize("raw", [{}, {"spec": None}, {"metadata": {}, "spec": []}])
def test_a_document_of_another_shape_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(InvalidJobError, match="metadata"):
        parse_job(raw)


def test_python_names_are_no_names_of_a_document() -> None:
    with pytest.raises(InvalidJobError, match=r"spec\.run_policy"):
        parse_job(document(run_policy={}))


def test_models_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Merge().enabled = False  # type: ignore[misc]


def test_a_document_is_written_as_it_was_given_without_defaults() -> None:
    raw = document(merge={"shardSizeGB": 5}, worker={"resources": {"limits": {"cpu": 4}}})
    written = parse_job(raw).document()
    raw["spec"]["worker"]["resources"]["limits"]["cpu"] = "4"
    assert written == raw


def test_a_newer_operators_status_is_still_read() -> None:
    raw = document() | {"status": {"observedGeneration": 3, "phase": "Training", "inventedLater": {"a": 1}}}
    assert parse_job(raw).status == Status(observed_generation=3, phase=Phase.TRAINING)


def test_status_times_are_written_in_utc_and_whole_seconds() -> None:
    condition = Condition.model_validate(
        {
            "type": "Succeeded",
            "status": "Unknown",
            "reason": "Training",
            "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05.678+01:00",
        }
    )
    assert condition.document()["lastTransitionTime"] == "2026-01-02T02:04:05Z"
    status = Status(conditions=(condition,))
    assert status.condition("Succeeded") is condition
    assert status.condition("Merged") is None


def test_a_time_that_utc_does_not_have_is_left_out_and_the_first_year_has_four_digits() -> None:
    raw = document() | {"status": {"startTime": "9999-12-31T23:59:59-12:00", "completionTime": "0001-01-01T00:00:00Z"}}
    assert parse_job(raw).status.document().keys() == {"observedGeneration", "conditions", "stages", "completionTime"}
    assert parse_job(raw).status.document()["completionTime"] == "0001-01-01T00:00:00Z"


def test_a_status_is_read_without_what_breaks_the_schema() -> None:
    train = {"attempt": 2**53 + 1, "jobName": "a" * 64, "message": "as it was"}
    status = read_status({"phase": "Training", "stages": {"train": train}})
    assert status.phase == Phase.TRAINING
    assert status.stages.document() == {"train": {"message": "as it was"}}


def test_the_estimate_is_written_in_gibibytes() -> None:
    estimate = Estimate(gpu_memory_gi_b=21.5, host_memory_gi_b=3.0, fits=True)
    assert Status(estimate=estimate).document()["estimate"] == {
        "gpuMemoryGiB": 21.5,
        "hostMemoryGiB": 3.0,
        "fits": True,
    }


def test_a_loss_that_is_no_number_never_reaches_the_status() -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Status.model_validate({"progress": {"loss": float("nan")}})


def test_a_newer_versions_status_is_read_as_far_as_it_goes() -> None:
    condition = {"status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    status = {
        "phase": "Evaluating",
        "quality": {"bleu": 0.4},
        "conditions": [
            {"type": "Evaluated"} | condition,
            {"type": "Team/Approved"} | condition | {"reason": "a:b"},
            {"status": "True"},
            {"type": "Trained"} | condition,
        ],
        "progress": {"step": 7, "percentage": 700},
        "stages": {"evaluate": {"attempt": 2}, "train": {"attempt": 3, "reason": "Teapot:418", "node": "n"}},
        "estimate": "much",
        "restarts": -1,
    }
    read = parse_job(document() | {"status": status}).status
    assert read.phase == "Evaluating"
    assert [c.type for c in read.conditions] == ["Evaluated", "Trained"]
    assert read.progress == Progress(step=7)
    assert read.stages.train == StageStatus(attempt=3)
    assert (read.estimate, read.restarts) == (None, None)
    assert parse_job(document() | {"status": "none"}).status == Status()
    assert parse_job(document() | {"status": {"phase": "Merging"}}).status.phase is Phase.MERGING


def test_a_field_of_the_spec_that_is_unknown_is_refused_whatever_the_status_says() -> None:
    newer = document(colour="red") | {"status": {"phase": "Evaluating", "restarts": -1}}
    with pytest.raises(InvalidJobError, match=r"^spec\.colour: there is no such field; there are model, "):
        parse_job(newer)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"trainig": {}}, "spec.trainig: there is no such field; did you mean training?"),
        ({"tuning": {"lora": {"rnk": 8}}}, "spec.tuning.lora.rnk: there is no such field; did you mean rank?"),
        (
            {"worker": {"nodeSelectors": {}}},
            "spec.worker.nodeSelectors: there is no such field; did you mean nodeSelector?",
        ),
        ({"datasets": [{"formt": "x"}]}, "spec.datasets[0].formt: there is no such field; did you mean format?"),
    ],
)
def test_a_field_that_is_misspelt_is_told_by_the_one_that_was_meant(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidJobError) as caught:
        parse_job({"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": {"name": "a"}, "spec": spec})
    assert said in str(caught.value)


def test_a_field_is_replaced_by_its_name_and_no_other() -> None:
    assert Status(restarts=1).replace(phase=Phase.MERGING, restarts=None) == Status(phase=Phase.MERGING)
    with pytest.raises(TypeError, match="Status has no field startTime, start_tme"):
        Status().replace(start_tme=None, startTime=None)


def test_no_code_changes_a_field_without_that_check() -> None:
    """pydantic's model_copy takes any name: a misspelt one is lost without a word."""
    folders = ("client", "operator", "trainer-image", "quickstart", "benchmarks", "tests")
    files = {path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")} - {Path(__file__)}
    users = {path.name for path in files if "model_copy(" in path.read_text(encoding="utf-8")}
    assert users == {"base.py"}


def test_every_field_of_spec_and_worker_is_either_fixed_or_mutable() -> None:
    def paths(model: type[Any], prefix: str = "") -> set[str]:
        return {f"{prefix}{field.serialization_alias}" for field in model.model_fields.values()}

    assert {*FIXED, *MUTABLE} == (paths(Spec) - {"worker"}) | paths(Worker, "worker.")
    assert not set(FIXED) & set(MUTABLE)


def test_every_argument_of_a_typed_field_is_refused_with_the_fields_path() -> None:
    assert REFUSED_ARGUMENTS["lora_alpha"] == "use spec.tuning.lora.alpha"
    assert REFUSED_ARGUMENTS["export_size"] == "use spec.merge.shardSizeGB"
    assert REFUSED_ARGUMENTS["flash_attn"] == "use spec.model.attention"
    seeds = "stage do_train use_fast_tokenizer overwrite_cache overwrite_output_dir ddp_timeout lr_scheduler_type bf16"
    assert set(seeds.split()) <= set(REFUSED_ARGUMENTS)


def test_columns_hold_only_what_was_given() -> None:
    assert Columns(prompt="q").document() == {"prompt": "q"}
