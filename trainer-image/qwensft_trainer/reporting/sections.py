"""What the page says of a run, as names and values in words; without markup. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from qwensft_trainer.contract.config import Dataset, DatasetDownload, Run
from qwensft_trainer.reporting.records import Records
from qwensft_trainer.reporting.words import count, duration, number, share, size

_HUBS = {"huggingFace": "Hugging Face", "modelScope": "ModelScope"}
_STARTS = {
    "Checks": "checks of configuration, model and rows",
    "Gang": "waiting for all pods",
    "Imports": "torchrun and imports",
    "Rendezvous": "processes finding each other",
    "Data": "tokenizer and rows",
    "Model": "loading the model",
    "Setup": "optimizer and checkpoint",
}


class Fact(NamedTuple):
    """A name and what is known of it."""

    name: str
    value: str


class Figure(NamedTuple):
    """One of the numbers at the head of the page, with what to compare it with."""

    name: str
    value: str
    beside: str = ""


@dataclass(frozen=True)
class DatasetRow:
    """A dataset as it was used; `rows` are those in its files, "" where nobody counted."""

    name: str
    used_for: str
    format: str
    source: str
    rows: str


@dataclass(frozen=True)
class ResultRow:
    """A result on the volume."""

    name: str
    path: str
    size: str
    digest: str


def subtitle(run: Run, records: Records) -> str:
    """One line: model, method, when."""
    ended = records.trained.get("completedAt")
    begun = f" as the run {run.model.merged_by.name} left it" if run.model.merged_by else ""
    return ", ".join([run.model.name + begun, method(run), *([f"trained until {_moment(ended)}"] if ended else [])])


def method(run: Run) -> str:
    """How the model was tuned, in the words of spec.tuning.method."""
    tuning = run.tuning
    if tuning.method != "lora":
        return tuning.method
    quantised = tuning.quantization
    name = "DoRA" if tuning.dora else "QLoRA" if quantised else "LoRA"
    base = f" on a base of {quantised.bits} bits ({quantised.method})" if quantised else ""
    return name + (" with PiSSA" if tuning.pissa else "") + base


def figures(run: Run, records: Records) -> list[Figure]:
    """The numbers that people look for first."""
    metrics, counts = records.trained.get("metrics", {}), records.prepared.get("metrics", {})
    found = []
    if (loss := metrics.get("loss")) is not None:
        first = metrics.get("initialLoss")
        found.append(Figure("Training loss", number(loss), f"from {number(first)}" if first is not None else ""))
    if (best := metrics.get("bestEvalLoss")) is not None:
        kept = ", which is the result" if run.evaluation and run.evaluation.keep_best else ""
        found.append(Figure("Best evaluation loss", number(best), f"at step {metrics.get('bestStep', 0):,}{kept}"))
    if (last := metrics.get("evalLoss")) is not None and last != best:
        found.append(Figure("Last evaluation loss", number(last)))
    if (step := metrics.get("step")) is not None:
        epoch = metrics.get("epoch")
        found.append(Figure("Steps", f"{step:,}", f"{number(epoch)} epochs" if epoch is not None else ""))
    if (samples := counts.get("samples")) is not None:
        tokens = counts.get("tokens")
        found.append(Figure("Samples", f"{samples:,}", count(tokens, "token") if tokens is not None else ""))
    if (seconds := _training_seconds(records)) is not None:
        number_of = len(records.attempts)
        found.append(Figure("Training", duration(seconds), f"in {number_of} attempts" if number_of > 1 else ""))
    return found


def warnings(records: Records) -> list[str]:
    """What a reader of the result should know, in the order of the stages."""
    found = [str(warning) for warning in records.prepared.get("warnings", [])]
    if bad := records.losses.not_finite:
        found.append(f"{count(bad, 'logged loss was', 'logged losses were')} not finite (NaN or infinite)")
    return found + [str(warning) for warning in records.merged.get("warnings", [])]


def datasets(run: Run, records: Records) -> list[DatasetRow]:
    """All datasets, those to evaluate on last."""
    rows = records.prepared.get("rows", {})
    held_out = run.evaluation.datasets if run.evaluation else []
    uses = [(dataset, "training") for dataset in run.datasets] + [(dataset, "evaluation") for dataset in held_out]
    return [
        DatasetRow(
            name=dataset.name,
            used_for=", ".join([use, *_share_of(dataset)]),
            format=dataset.format,
            source=_source(dataset),
            rows=f"{rows[dataset.name]:,}" if dataset.name in rows else "",
        )
        for dataset, use in uses
    ]


def data(run: Run, records: Records) -> list[Fact]:
    """What prepare counted of all rows together."""
    counts = records.prepared.get("metrics", {})
    names = {
        "samples": "Samples to train on",
        "tokens": "Tokens in them",
        "evalSamples": "Samples to evaluate on",
        "lengthP50": "Length, median",
        "lengthP90": "Length, 90th percentile",
        "lengthP99": "Length, 99th percentile",
        "lengthMax": "Length, longest",
        "truncatedSamples": "Samples that were cut",
        "duplicateSamples": "Rows that repeat an earlier one",
        "evalSamplesInTraining": "Evaluation rows that are in the training data, too",
    }
    found = [
        Fact(name, f"{counts[key]:,}" + (" tokens" if key.startswith("length") else ""))
        for key, name in names.items()
        if isinstance(counts.get(key), int)
    ]
    if (cutoff := records.arguments.get("cutoff_len")) is not None:
        found.append(Fact("Longest sample that is not cut", f"{cutoff:,} tokens"))
    if run.evaluation is not None and run.evaluation.fraction is not None:
        found.append(Fact("Held out to evaluate on", share(run.evaluation.fraction)))
    if len(run.datasets) > 1:
        found.append(Fact("Datasets are mixed by", run.mixing.strategy))
    return found


def model(run: Run, records: Records) -> list[Fact]:
    """The base, and how it was tuned."""
    found = [Fact("Base model", run.model.name)]
    if (download := run.model.download) is not None:
        found.append(Fact("From", f"{_HUBS[download.hub]}: {download.repo}"))
    if (source := run.model.merged_by) is not None:
        found.append(Fact("From", f"the merged model of the run {source.name} (UID {source.uid})"))
        found.append(Fact("Digest of that model", source.digest))
    if (adapter := run.model.adapter) is not None:
        found.append(Fact("Begun with", f"the adapter of the run {adapter.name} (UID {adapter.uid})"))
        found.append(Fact("Digest of that adapter", adapter.digest))
    if records.commit:
        found.append(Fact("Commit", records.commit))
    if template := records.prepared.get("template"):
        found.append(Fact("Template", str(template)))
    shape = records.prepared.get("metrics", {}).get("model") or {}
    if parameters := shape.get("parameters"):
        found.append(Fact("Parameters", f"{parameters:,}"))
    found.append(Fact("Method", method(run)))
    return found + list(_settings(run, records))


def _settings(run: Run, records: Records) -> Iterator[Fact]:
    told = records.arguments
    for name, key in (("Rank", "lora_rank"), ("Alpha", "lora_alpha"), ("Targets", "lora_target")):
        if run.tuning.method == "lora" and told.get(key) is not None:
            yield Fact(name, str(told[key]))
    for name, key in (
        ("Learning rate", "learning_rate"),
        ("Schedule", "lr_scheduler_type"),
        ("Epochs", "num_train_epochs"),
        ("Steps at most", "max_steps"),
        ("Seed", "seed"),
    ):
        if told.get(key) is not None:
            yield Fact(name, str(told[key]))
    device, accumulation = told.get("per_device_train_batch_size"), told.get("gradient_accumulation_steps", 1)
    if device is not None and (processes := records.trained.get("processes")) is not None:
        parts = f"{device} × {accumulation} accumulated × {count(processes, 'process', 'processes')}"
        yield Fact("Batch of a step", f"{count(device * accumulation * processes, 'sequence')}: {parts}")
    if run.deepspeed is not None:
        yield Fact("DeepSpeed", f"ZeRO {run.deepspeed.stage}" if run.deepspeed.stage is not None else "its own file")
    devices, device = run.accelerator.count, records.trained.get("device") or "accelerator"
    held = f"{devices} × {device}" if devices else "CPUs"
    pods = next((record["nodes"] for _, record in reversed(records.attempts) if "nodes" in record), 1)
    yield Fact("Trained on", held if pods == 1 else f"{held} in each of {pods} pods")


def timings(records: Records) -> list[Fact]:
    """How long the parts took. Of the starts of attempts only the last one's is known."""
    metrics, found = records.trained.get("metrics", {}), []
    if (seconds := records.prepared.get("seconds")) is not None:
        found.append(Fact("Preparing", duration(seconds)))
    if (seconds := _training_seconds(records)) is not None:
        found.append(Fact("Training, from the first attempt's start to its record", duration(seconds)))
    for key, phase in _STARTS.items():
        if (seconds := metrics.get(f"attempt{key}Seconds")) is not None:
            found.append(Fact(f"Last attempt's start: {phase}", duration(seconds)))
    if (speed := metrics.get("tokensPerSecond")) is not None:
        found.append(Fact("Tokens per second, all processes together", f"{speed:,.0f}"))
    if (padding := metrics.get("attemptPaddingShare")) is not None:
        found.append(Fact("Padding in what was computed", share(padding)))
    if (used := metrics.get("attemptModelFlopsUtilization")) is not None:
        found.append(Fact("Use of the accelerators (MFU)", share(used)))
    if records.samples is not None and records.samples.seconds is not None:
        found.append(Fact("Answering before and after, with the model loaded anew", duration(records.samples.seconds)))
    if (seconds := records.merged.get("seconds")) is not None:
        found.append(Fact("Merging and verifying", duration(seconds)))
    return found


def attempts(records: Records) -> list[tuple[str, str, str]]:
    """Each attempt at the training: its name, when it began, from which step."""
    return [
        (name, _moment(record.get("begunAt")), f"{record.get('resumeStep', 0):,}") for name, record in records.attempts
    ]


def results(records: Records) -> list[ResultRow]:
    """What lies on the volume, the merged model first. Of a training before its merge no digest is known."""
    outputs = {"merged": records.merged["output"]} if records.merged.get("output") else {}
    outputs |= records.trained.get("outputs", {})
    return [
        ResultRow(name, output.get("path", ""), size(output.get("sizeBytes", 0)), output.get("digest", ""))
        for name, output in outputs.items()
    ]


def proof(records: Records) -> list[Fact]:
    """What the merge was made and verified by, and the digests of what was trained on what."""
    found, checks = [], records.merged.get("verification", {})
    if (engine := records.merged.get("engine")) is not None:
        found.append(Fact("Merged by", str(engine)))
    if (tensors := checks.get("tensors")) is not None:
        changed = f", {checks['changed']:,} of them changed by training" if "changed" in checks else ""
        found.append(Fact("Tensors compared", f"{tensors:,}{changed}"))
    if (error := checks.get("relativeError")) is not None:
        found.append(Fact("Relative error of the logits", f"{number(error)} (at most {number(checks['tolerance'])})"))
    if compared := (parity := records.merged.get("templateParity", {})).get("compared"):
        same = compared - parity.get("differ", 0)
        found.append(Fact("Sample rows written as the chat template does", f"{same:,} of {compared:,}"))
    if (kept := checks.get("kept")) is not None:
        found.append(Fact("Kept of the training after rounding", share(kept)))
    for name, key in (("Configuration digest", "configDigest"), ("Digest of mounted files", "contents")):
        if records.trained.get(key):
            found.append(Fact(name, str(records.trained[key])))
    return found


def _training_seconds(records: Records) -> float | None:
    """None for runs that an earlier version has begun, which recorded no times."""
    begun = records.attempts[0][1].get("begunAt") if records.attempts else None
    ended = records.trained.get("completedAt")
    if begun is None or ended is None:
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()


def _moment(told: str | None) -> str:
    return datetime.fromisoformat(told).strftime("%Y-%m-%d %H:%M UTC") if told else ""


def _share_of(dataset: Dataset) -> Sequence[str]:
    parts = [f"weight {number(dataset.weight)}"] if dataset.weight is not None else []
    return parts + ([f"{dataset.sample_count:,} of its rows"] if dataset.sample_count is not None else [])


def _source(dataset: Dataset) -> str:
    """Where rows came from. Of an address without its query, which may hold a signature."""
    if (download := dataset.download) is None:
        return str(dataset.path or "")
    if download.url is not None:
        return download.url.partition("?")[0].partition("#")[0]
    return f"{_HUBS.get(download.hub, '')}: {_of_hub(download)}"


def _of_hub(download: DatasetDownload) -> str:
    parts = {"subset": download.subset, "split": download.split, "revision": download.revision, "file": download.path}
    said = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
    return f"{download.repo} ({said})" if said else str(download.repo)
