"""The commands that need no cluster: init, check, preview, render, estimate."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, Optional

import typer

from qwensft.cli.failures import FAILED, CommandError
from qwensft.cli.output import Format, dumped, is_terminal, paint_for, remark, show

# Typer reads annotations at run time, and the modules of the API take a while to import: only where they are used.
File = Annotated[str, typer.Argument(metavar="FILE", help="A file with a QwenSFTJob; - reads the standard input.")]
Rows = Annotated[
    list[str],
    typer.Option("--rows", metavar="DATASET=FILE", help="Rows of a dataset on this machine; once for each dataset."),
]
Gpu = Annotated[str, typer.Option(help="The GPU, such as H100, or its memory, such as 24Gi.")]


def _model_folder(folder: Path | None) -> Path | None:
    if folder is not None and not (folder / "config.json").is_file():
        raise CommandError(f"--model {folder}: there is no config.json in it; name the folder of the model itself")
    return folder


ModelFolder = Annotated[
    Optional[Path],  # noqa: UP045 - typer's own way
    typer.Option(
        "--model",
        exists=True,
        file_okay=False,
        callback=_model_folder,
        help="A folder with the model's tokenizer and config.json.",
    ),
]
Output = Annotated[
    Optional[Format],  # noqa: UP045
    typer.Option("--output", "-o", help="Print the object in place of a text."),
]


def init(
    rows: Annotated[str, typer.Option(help="The file with the rows.")] = "",
    model: Annotated[str, typer.Option(help="The base model, such as Qwen/Qwen3-8B.")] = "",
    gpu: Gpu = "",
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of each pod; 0 trains on CPUs, for a trial.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Pods that train together.")] = 1,
    name: Annotated[str, typer.Option(help="Name of the run. Default: that of the file.")] = "",
    format: Annotated[  # noqa: A002 - the field's name
        str, typer.Option(help="alpaca, sharegpt or openai. Default: as the rows are.")
    ] = "",
    method: Annotated[str, typer.Option(help="lora, qlora, dora, freeze or full. Default: what fits.")] = "",
    size: Annotated[str, typer.Option(help="Size of the run's volume, such as 100Gi.")] = "",
    file: Annotated[str, typer.Option("--file", "-f", help="The file to write; - prints it.")] = "job.yaml",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a job for rows, a model and GPUs, with comments. Asks for what is not given."""
    from qwensft.cli import choosing, starting

    if file != "-" and Path(file).exists() and not force:
        raise CommandError(f"{file} is there already: choose another with --file, or write over it with --force")
    asked = choosing.Asked(rows, model, gpu, gpus, nodes, name, format, method, size)
    choices = choosing.choose(asked, ask=typer.prompt if file != "-" and _may_ask() else None)
    text = starting.compose(choices)
    if file == "-":
        show(text.rstrip("\n"))
        return
    _write(Path(file), text)
    show(f"wrote {file}: {choices.name}, {choices.model}, {choices.format} rows of {choices.file}")
    brought = "" if choices.rows_text is not None else f" --rows {choices.dataset}={rows}"
    remark(f"next: qwensft check {file}{brought}")


def check(
    file: File,
    rows: Rows = [],  # noqa: B006 - typer copies it
    model: ModelFolder = None,
    gpu: Gpu = "",
    output: Output = None,
) -> None:
    """Judge a job before a cluster sees it: schema, rules, rows that are here, memory."""
    from qwensft.cli import checking, documents, gpus, local_rows

    manifests = documents.read(file)
    files = local_rows.named(rows)
    memory = gpus.bytes_of(gpu) if gpu else None
    found = [checking.check(raw, manifests, files, model, memory) for raw in manifests.jobs]
    if output:
        show(dumped(_one_or_all([one.document() for one in found]), output))
    else:
        show("\n".join(checking.text(one, _paint()) for one in found))
    if not all(one.is_good for one in found):
        raise typer.Exit(FAILED)


def preview(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="A file with a QwenSFTJob, to be shown offline.")] = "",
    run: Annotated[str, typer.Option(help="Show what the prepare stage of this run has left on its volume.")] = "",
    rows: Rows = [],  # noqa: B006
    model: ModelFolder = None,
    count: Annotated[int, typer.Option("--count", "-c", min=1, help="Rows of each dataset; offline.")] = 3,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="With --run. Default: the context's.")] = "",
    context: Annotated[str, typer.Option(help="With --run: a context of the kubeconfig.")] = "",
    output: Output = None,
) -> None:
    """Show rows as the model will see them, and what of them is learnt."""
    from qwensft.cli.views import preview as previewing

    if bool(file) == bool(run):
        raise CommandError("name a FILE to look at offline, or a run with --run NAME")
    if file:
        samples = _samples_of_file(file, rows, model, count)
    else:
        from qwensft.cli.volumes import samples_of

        samples = samples_of(run, namespace, context)
    show(dumped({"samples": samples}, output) if output else previewing.text(samples, _paint()))


def render(
    file: File,
    stage: Annotated[str, typer.Option(help="prepare, train or merge. Default: all.")] = "",
    only: Annotated[str, typer.Option("--only", metavar="FILE", help="A file of the stage, such as train.yaml.")] = "",
    image: Annotated[str, typer.Option(help="The trainer image of the installation.")] = "",
    output: Annotated[Format, typer.Option("--output", "-o", help="How it is printed.")] = Format.YAML,
) -> None:
    """Show what the operator makes of a job: volume, Service, and ConfigMap and Job of each stage."""
    from qwensft.api.v1alpha1 import Stage, parse_job
    from qwensft.cli import documents, halves

    if stage and stage not in {*Stage}:
        raise CommandError(f"--stage {stage}: it is one of {', '.join(Stage)}")
    stages = [Stage(stage)] if stage else list(Stage)
    made = [
        manifest
        for raw in documents.read(file).jobs
        for manifest in halves.manifests(parse_job(raw), stages, image or None)
    ]
    if only:
        files = {name: text for one in made if one["kind"] == "ConfigMap" for name, text in one["data"].items()}
        if only not in files:
            raise CommandError(f"--only {only}: there are {', '.join(files)}")
        show(files[only].rstrip("\n"))
    elif output is Format.YAML:
        show("\n---\n".join(dumped(one, output) for one in made))
    else:
        show(dumped({"apiVersion": "v1", "kind": "List", "items": made}, output))


def estimate(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="A file with a QwenSFTJob.")] = "",
    model: Annotated[str, typer.Option(help="In place of a file: the model's name.")] = "",
    method: Annotated[str, typer.Option(help="With --model: lora, qlora, dora, freeze or full.")] = "lora",
    cutoff: Annotated[int, typer.Option(help="With --model: tokens of the longest row.")] = 2048,
    batch: Annotated[int, typer.Option(help="With --model: rows of each device and step.")] = 1,
    gpus: Annotated[int, typer.Option(min=1, help="With --model: GPUs of each pod.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="With --model: pods.")] = 1,
    gpu: Gpu = "",
    output: Output = None,
) -> None:
    """Tell the memory that a training needs, whether it fits, and what to change if not."""
    from qwensft.cli import documents, estimating
    from qwensft.cli.gpus import bytes_of

    if bool(file) == bool(model):
        raise CommandError("name a FILE, or a model with --model Qwen/Qwen3-8B")
    raws = documents.read(file).jobs if file else [_job_of(model, method, cutoff, batch, gpus, nodes)]
    from qwensft.api.v1alpha1 import parse_job

    jobs = [parse_job(raw) for raw in raws]
    memory = bytes_of(gpu) if gpu else None
    found = [(job, estimating.estimated(job.spec, memory)) for job in jobs]
    if output:
        show(dumped(_one_or_all([one.document() for _, one in found]), output))
    else:
        names = {job.metadata.name: model or job.metadata.name for job in jobs}
        show("\n".join(estimating.text(names[job.metadata.name], job.spec, one, _paint()) for job, one in found))
    if any(one.fits is False for _, one in found):
        raise typer.Exit(FAILED)


COMMANDS: Final = (init, check, preview, render, estimate)


def _job_of(model: str, method: str, cutoff: int, batch: int, gpus: int, nodes: int) -> dict[str, Any]:
    rows = {"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows"}}}
    spec = {
        "model": {"name": model},
        "datasets": [rows],
        "tuning": {"method": method},
        "training": {"cutoffLen": cutoff, "perDeviceTrainBatchSize": batch},
        "distribution": {"nodes": nodes},
        "worker": {"accelerator": {"count": gpus}},
        "storage": {"volume": {"claimName": "any"}},
    }
    return {"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": {"name": "estimate"}, "spec": spec}


def _samples_of_file(file: str, rows: list[str], model: Path | None, count: int) -> list[dict[str, Any]]:
    from qwensft.api.v1alpha1 import parse_job
    from qwensft.cli import checking, documents, halves, local_rows

    if model is None:
        raise CommandError("rows are encoded by the model's tokenizer: name its folder by --model, or a run by --run")
    manifests = documents.read(file)
    job = parse_job(manifests.jobs[0])
    with local_rows.of_job(job, manifests, local_rows.named(rows)) as files:
        if not files:
            name = job.spec.datasets[0].name
            raise CommandError(f"no rows of {job.metadata.name} are here: name their file with --rows {name}=FILE")
        request = checking.request(job, files, model) | {"rows": count}
        answer = halves.ask_trainer("show", request)
    if "message" in answer:
        raise CommandError(answer["message"], FAILED)
    samples: list[dict[str, Any]] = answer["samples"]
    return samples


def _write(path: Path, text: str) -> None:
    """Write a file, or leave none: half of a job is none."""
    was_there = path.exists()
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        if not was_there:
            with suppress(OSError):
                path.unlink()
        raise


def _one_or_all(documents: list[dict[str, Any]]) -> Any:
    return documents[0] if len(documents) == 1 else documents


def _paint() -> Any:
    import sys

    return paint_for(sys.stdout)


def _may_ask() -> bool:
    import sys

    return is_terminal(sys.stdin) and is_terminal(sys.stdout)
