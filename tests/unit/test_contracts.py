"""The contracts between operator and trainer image: one half writes, and the other reads.

What can be compared without knowing it is in `test_both_halves.py`.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from qwensft.api.v1alpha1 import METRICS_PORT, DatasetStatus, Progress, Stage, StageStatus
from qwensft.api.v1alpha1.constants import DEFAULT_MERGE_DIRECTORY
from qwensft.api.v1alpha1.datasets import ControlTokens, DatasetSource, Format, UrlSource
from qwensft.api.v1alpha1.families import FAMILIES
from qwensft.api.v1alpha1.merge import Merge
from qwensft.api.v1alpha1.model import ModelSource, Template
from qwensft.api.v1alpha1.storage import OnExisting
from qwensft.api.v1alpha1.trackers import WeightsAndBiases
from qwensft.api.v1alpha1.training import MixStrategy
from qwensft.api.v1alpha1.tuning import Method, Quantization, Tuning
from qwensft.api.v1alpha1.worker import Prepare
from qwensft.estimate.architectures import described
from qwensft_operator import __version__ as operator_version
from qwensft_operator.plan.causes import _GENERIC
from qwensft_operator.plan.text import LONGEST_TEXT
from qwensft_operator.plan.types import Scrape
from qwensft_operator.plan.views import LONGEST_WARNING, MOST_WARNINGS, parse_report
from qwensft_operator.render import config_map
from qwensft_operator.render.llamafactory import DTYPE
from qwensft_operator.render.names import CONFIG, WORKSPACE, child_name, service_name
from qwensft_operator.render.run import COLUMNS, TAGS
from qwensft_operator.runtime.scrape import parse
from qwensft_trainer import cli
from qwensft_trainer.base import metrics_server
from qwensft_trainer.contract import arguments, config, credentials, termination, workspace
from qwensft_trainer.contract.config import load_run
from qwensft_trainer.data import duplicates, layout, row_checks
from qwensft_trainer.data import lengths as statistics
from qwensft_trainer.data import url as dataset_url
from qwensft_trainer.merging import export
from qwensft_trainer.merging import figures as merge_figures
from qwensft_trainer.merging.plan import Plan, Shard, Step
from qwensft_trainer.merging.streaming import write_and_tell
from qwensft_trainer.merging.weights import Tensor
from qwensft_trainer.model import architecture, families
from qwensft_trainer.stages import prepare
from qwensft_trainer.training import figures as training_figures
from qwensft_trainer.training import progress
from qwensft_trainer.training.peers import Peers
from qwensft_trainer.training.torchrun import Gang

from .operator.render.jobs import EXAMPLES, SPECS, STAGES, container, environment, example, job, pod_spec, train
from .trainer import models

REPOSITORY = Path(__file__).parents[2]


# The pod: arguments, mounts, ports, environment.


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_line_of_a_pod_finds_its_files_where_they_are_mounted(stage: str) -> None:
    options = cli._parser().parse_args(container(job(), stage)["args"])
    mounts = {mount["mountPath"]: mount["readOnly"] for mount in container(job(), stage)["volumeMounts"]}
    assert (options.stage, str(options.config), str(options.workspace)) == (stage, CONFIG, WORKSPACE)
    assert (mounts[CONFIG], mounts[WORKSPACE], mounts[str(options.scratch.parent)]) == (True, False, False)
    assert options.metrics_port == METRICS_PORT
    assert "terminationMessagePath" not in container(job(), stage), "the trainer writes to Kubernetes' default"
    assert str(options.termination_log) == "/dev/termination-log"


def test_stages_and_what_their_unforeseen_failures_are_called() -> None:
    assert {str(stage): str(_GENERIC[stage]) for stage in Stage} == cli.STAGES


def test_a_gang_finds_itself_in_its_environment() -> None:
    gang_job = job("every-worker-field")
    values = {name: value for name, value in environment(gang_job, "train").items() if isinstance(value, str)}
    gang = Gang.from_environment(values | {"NODE_RANK": "1"})
    distribution = gang_job.spec.distribution
    assert (gang.nodes, gang.processes_per_node, gang.node_rank) == (distribution.nodes, 4, 1)
    assert gang.master_port == distribution.master_port == Gang.from_environment({}).master_port
    hosts = [f"{child_name(gang_job, Stage.TRAIN, 1)}-{rank}.{service_name(gang_job)}" for rank in range(gang.nodes)]
    assert Peers(gang.master_address, gang.nodes).names == hosts
    assert pod_spec(gang_job, "train")["subdomain"] == service_name(gang_job)


def test_a_token_is_the_file_that_the_trainer_opens(tmp_path: Path) -> None:
    secrets = [v["secret"] for v in pod_spec(job("every-source"), "prepare")["volumes"] if "secret" in v]
    (item,) = next(secret["items"] for secret in secrets if "items" in secret)
    (tmp_path / item["path"]).write_text("hf_x")
    assert credentials.from_secret(tmp_path, "token", field="spec") == "hf_x"


def test_the_api_names_the_credentials_that_the_trainer_looks_for() -> None:
    description = str(UrlSource.model_fields["credentials_secret_ref"].description)
    assert all(key in description for keys in dataset_url._KEYS_OF.values() for key in keys)


# The configuration: run.yaml, LLaMA-Factory's arguments, columns and tags.


def test_all_distributions_and_the_chart_are_of_one_version() -> None:
    chart = yaml.safe_load((REPOSITORY / "charts/qwen-sft-operator/Chart.yaml").read_text(encoding="utf-8"))
    projects = {
        folder: tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for folder in ("client", "operator", "trainer-image")
    }
    (pin,) = (name for name in projects["operator"]["dependencies"] if name.startswith("qwensft"))
    versions = [operator_version, projects["client"]["version"], projects["trainer-image"]["version"], chart["version"]]
    assert {*versions, chart["appVersion"], pin.removeprefix("qwensft==")} == {operator_version}


@pytest.mark.parametrize("stage", STAGES)
def test_the_trainer_reads_every_run_that_is_written_and_all_of_it(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, rendered in {**{case: job(case) for case in SPECS}, **{name: example(name) for name in EXAMPLES}}.items():
        (tmp_path / "run.yaml").write_text(config_map(rendered, stage, 1)["data"]["run.yaml"], encoding="utf-8")
        run = load_run(tmp_path)
        assert run.model.name == rendered.spec.model.name, name
        assert [dataset.name for dataset in run.datasets] == [d.name for d in rendered.spec.datasets], name
        assert (run.merge is not None) == (stage == "merge"), name
        assert capsys.readouterr().out == "", name


def test_a_field_of_run_yaml_takes_the_values_of_the_api() -> None:
    hubs = ("huggingFace", "modelScope")
    assert {"hugging_face", "model_scope"} < set(ModelSource.model_fields)
    assert {"hugging_face", "model_scope", "url"} < set(DatasetSource.model_fields)
    taken = {
        f"{model.__name__}.{name}": get_args(field.annotation)
        for model in vars(config).values()
        if isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == config.__name__
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal
    }
    assert taken == {
        "Download.hub": hubs,
        "DatasetDownload.hub": (*hubs, "url"),
        "Dataset.format": get_args(Format),
        "Dataset.control_tokens": get_args(ControlTokens),
        "Mixing.strategy": get_args(MixStrategy),
        "Quantization.method": get_args(Quantization.model_fields["method"].annotation),
        "Tuning.method": tuple(dict.fromkeys(Tuning(method=m).finetuning_type for m in get_args(Method))),
        "Prepare.preview": get_args(Prepare.model_fields["preview"].annotation),
        "Merge.engine": get_args(Merge.model_fields["engine"].annotation),
        "Merge.verify": get_args(Merge.model_fields["verify"].annotation),
        "Merge.dtype": get_args(Merge.model_fields["dtype"].annotation),
        "Run.on_existing": get_args(OnExisting),
        "WeightsAndBiases.mode": get_args(WeightsAndBiases.model_fields["mode"].annotation),
    }


def test_the_directories_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(config_map(job(), Stage.MERGE, 1)["data"]["run.yaml"], encoding="utf-8")
    run = load_run(tmp_path)
    assert train()["dataset_dir"] == str(run.data_directory)
    assert train()["tokenized_path"] == str(run.tokenized_directory)
    assert train()["model_name_or_path"] == str(run.model.path)
    assert run.merge is not None
    assert run.merge.directory.name == DEFAULT_MERGE_DIRECTORY
    assert {run.data_directory.name, run.model.path.name, run.merge.directory.name} < set(workspace._OWN_NAMES)


def test_number_formats() -> None:
    usual = {name: dtype for name, dtype in DTYPE.items() if name != "auto"}
    assert usual == arguments._TORCH_DTYPES
    assert {name: dtype for dtype, name in export._DTYPES.items()} == usual


@pytest.mark.parametrize("format_", COLUMNS)
def test_columns_and_tags_that_nobody_names_are_the_same(format_: str) -> None:
    assert COLUMNS[format_].items() <= layout.DEFAULT_COLUMNS[format_].items()
    if format_ in TAGS:
        tags = TAGS[format_]
        assert layout._KEYS[format_] == (tags["role"], tags["content"])
        assert {f"{name}_tag" for name in tags} == set(row_checks.NORMAL_TAGS)
        assert format_ != "sharegpt" or {f"{name}_tag": text for name, text in tags.items()} == layout._USUAL_TAGS
        assert {text for name, text in tags.items() if name not in ("role", "content")} <= set(row_checks._SPELLINGS)


def test_templates() -> None:
    known = {template for family in families._FAMILIES.values() for template in family.templates}
    assert known == set(get_args(Template))
    assert {family.template for family in FAMILIES} <= known


# What comes back: reports, figures, measures.


def test_the_operator_reads_a_report_as_it_was_written() -> None:
    written = termination.Report(
        outcome="Failed",
        stage="prepare",
        attempt=2,
        exit_code=78,
        rank=1,
        reason="InvalidDataset",
        message="row 3",
        metrics={"samples": 3, "warnings": ["a", "b"], "model": {"layers": 2}},
        outputs={"adapter": {"path": "a", "sizeBytes": 1, "digest": "sha256:0"}},
    )
    read = parse_report(written.to_json())
    assert read is not None
    assert (read.outcome, read.reason, read.message) == ("Failed", "InvalidDataset", "row 3")
    assert (read.metrics, read.warnings, read.model) == ({"samples": 3}, ("a", "b"), {"layers": 2})
    assert read.outputs == written.outputs


def test_a_report_is_never_longer_than_what_is_read() -> None:
    assert (prepare.SHOWN_WARNINGS, prepare.WARNING_CHARACTERS) == (MOST_WARNINGS, LONGEST_WARNING)
    assert LONGEST_TEXT >= termination.MAX_MESSAGE_CHARACTERS


def test_the_operator_reads_the_figures_that_the_trainer_serves(tmp_path: Path) -> None:
    attempt = progress.Attempt(padding_share=0.25, from_step=3)
    known = progress.Progress(
        7, 10, 0.5, 1.5, 2.5, 1.25, 1.0, 4, 1e-4, 100.0, 30.0, 1e9, non_finite_loss=True, attempt=attempt
    )
    path = tmp_path / "progress.json"
    progress.write(path, known)
    reader = training_figures.Reader(path, started=1e9, processes=1)
    read = parse(metrics_server.render(training_figures.figures(reader.read)).decode())
    told = {"padding_share": 0.25, "from_step": 3.0, "started_timestamp_seconds": 1e9}
    assert read == Scrape(7, 10, 0.5, 1.5, 2.5, 1.25, 1.0, 4, 1e-4, 100.0, 30, attempt=told, non_finite_loss=True)


def test_the_operator_reads_the_bytes_that_a_merge_tells(tmp_path: Path) -> None:
    path, base, merged = tmp_path / "progress.json", tmp_path / "base", tmp_path / "merged"
    base.write_bytes(bytes(8))
    merged.mkdir()
    tensor = Tensor(path=base, name="weight", dtype="F32", shape=(2,), start=0, size=8)
    step = Step(name="weight", dtype="F32", shape=(2,), source=tensor)
    plan = Plan(shards=(Shard(name="model.safetensors", steps=(step,), metadata={}),))
    write_and_tell(plan, merged, digest="", progress=path)
    assert parse(metrics_server.render(merge_figures.figures(path)).decode()) == Scrape(bytes_done=8, bytes_total=8)


def test_the_status_has_a_field_for_each_figure_of_a_finished_stage() -> None:
    of_the_usage = {name for name in progress.Progress().metrics() if name.startswith("attempt")}
    assert progress.Progress().metrics().keys() - of_the_usage <= _aliases(Progress)
    assert merge_figures.final(6).keys() <= _aliases(StageStatus)
    of_files = {duplicates.DUPLICATES, duplicates.SHARED}
    assert statistics.Lengths().metrics().keys() | {"evalSamples"} | of_files == _aliases(DatasetStatus)


def _aliases(model: Any) -> set[str]:
    return {str(field.serialization_alias or name) for name, field in model.model_fields.items()}


@pytest.mark.parametrize("model_type", ["qwen3", "qwen3_moe", "qwen2_5_vl"])
def test_the_estimate_understands_the_measures_of_a_model(model_type: str, tmp_path: Path) -> None:
    models.write(tmp_path, model_type)
    shape = described(json.loads(json.dumps(architecture.describe(tmp_path))), "acme/unheard-of")
    assert shape is not None
    assert (shape.layers, shape.vocabulary, shape.experts) == (2, 10, 2 if "moe" in model_type else 0)
    assert shape.tied
