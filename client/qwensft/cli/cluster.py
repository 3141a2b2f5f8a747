"""The commands that ask the cluster, all through `qwensft.Client`."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional

import typer

from qwensft.cli.failures import FAILED, INTERRUPTED, CommandError
from qwensft.cli.output import Format, dumped, is_terminal, paint_for, remark, show

if TYPE_CHECKING:
    from qwensft.api.v1alpha1 import QwenSFTJob
    from qwensft.client import Client


def names(incomplete: str) -> list[str]:
    """Names of runs, for completion; none where the cluster cannot be asked."""
    try:
        return [job.metadata.name for job in connect("", "").list_jobs() if job.metadata.name.startswith(incomplete)]
    except Exception:  # a completion has nobody to complain to
        return []


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the run.", autocompletion=names)]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of runs.", autocompletion=names)]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Default: that of the context.")]
Context = Annotated[str, typer.Option(help="A context of the kubeconfig. Default: the current one.")]
Output = Annotated[
    Optional[Format],  # noqa: UP045 - typer's own way
    typer.Option("--output", "-o", help="Print the object in place of a text."),
]


def submit(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Jobs and ConfigMaps with rows; - reads them.")],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the run to its end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Let the cluster judge it, and change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Take over fields that someone else has set.")] = False,
    rows: Annotated[str, typer.Option(metavar="DATASET=FILE", help="Bring the rows of the job's one dataset.")] = "",
    namespace: Namespace = "",
    context: Context = "",
) -> None:
    """Send a job to the cluster, with the ConfigMaps in its file. What is there is edited."""
    from qwensft.cli import documents, local_rows, submitting

    manifests = documents.read(file)
    if watch and (dry_run or len(manifests.jobs) != 1):
        raise CommandError("--watch follows one run: leave it out with --dry-run, or where the file has several jobs")
    client = connect(namespace or submitting.namespace_of(manifests), context)
    if rows and not dry_run:
        try:
            show(submitting.bring(client, manifests, local_rows.named([rows])))
        except KeyboardInterrupt as interrupt:
            for note in getattr(interrupt, "__notes__", ()):
                remark(note)
            raise typer.Exit(INTERRUPTED) from None
    else:
        for said in submitting.submit(client, manifests, dry_run=dry_run, force=force):
            show(said)
    if watch:
        _follow(client, manifests.jobs[0]["metadata"]["name"])


def status(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the run to its end.")] = False,
    namespace: Namespace = "",
    context: Context = "",
    output: Output = None,
) -> None:
    """Show where a run stands: stages, step, loss, time left, accelerator-hours."""
    client = connect(namespace, context)
    if output:
        show(dumped(_stored(client, name), output))
    elif watch:
        _follow(client, name)
    else:
        from qwensft.cli.views import status as view

        job = client.get_job(name)
        show(view.text(job, client.connection.now(), [], _paint(), _width()))


def list_(
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Labels, such as team=support.")] = "",
    namespace: Namespace = "",
    context: Context = "",
    output: Output = None,
) -> None:
    """List runs, the newest first."""
    from qwensft.cli.views import listing

    client = connect(namespace, context)
    if output:
        query = {"labelSelector": selector} if selector else {}
        items = client.connection.list("qwensftjobs", everywhere=all_namespaces, **query)["items"]
        show(dumped({"apiVersion": "v1", "kind": "List", "items": [_tidy(item) for item in items]}, output))
        return
    jobs = client.list_jobs(label_selector=selector, all_namespaces=all_namespaces)
    if not jobs:
        remark(f"no runs in {'any namespace' if all_namespaces else f'namespace {client.namespace}'}")
        return
    show(listing.text(jobs, client.connection.now(), _paint(), namespaces=all_namespaces))


def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on over later attempts and stages.")] = False,
    stage: Annotated[str, typer.Option(help="prepare, train or merge. Default: the last one; with -f all.")] = "",
    rank: Annotated[Optional[int], typer.Option(min=0, help="A node rank. Default: all.")] = None,  # noqa: UP045
    attempt: Annotated[Optional[int], typer.Option(min=1, help="Default: the last one.")] = None,  # noqa: UP045
    tail: Annotated[Optional[int], typer.Option(min=0, help="Lines of each pod. Default: all.")] = None,  # noqa: UP045
    namespace: Namespace = "",
    context: Context = "",
) -> None:
    """Print what the pods of a run have logged, all ranks of it."""
    from qwensft.api.v1alpha1 import Stage
    from qwensft.cli.views import logs as view

    if stage and stage not in {*Stage}:
        raise CommandError(f"--stage {stage}: it is one of {', '.join(Stage)}")
    if follow and attempt is not None:
        raise CommandError("--attempt names one attempt, and --follow goes on over later ones: leave one of them out")
    client = connect(namespace, context)
    nodes = client.get_job(name).spec.distribution.nodes
    paint, before = _paint(), None
    for line in client.get_job_logs(name, stage=stage or None, rank=rank, attempt=attempt, follow=follow, tail=tail):
        if follow and (line.stage, line.attempt) != before:
            before = (line.stage, line.attempt)
            remark(view.head(*before))
        ranks = nodes if line.stage is Stage.TRAIN and rank is None else 1
        show(view.text(line, line.rank, ranks, paint))


def compare(
    first: Name,
    second: Name,
    namespace: Namespace = "",
    context: Context = "",
    output: Output = None,
) -> None:
    """Show what sets two runs apart: spec, data, outcome."""
    from qwensft.cli.views import comparison

    client = connect(namespace, context)
    left, right = client.get_job(first), client.get_job(second)
    show(dumped(comparison.document(left, right), output) if output else comparison.text(left, right, _paint()))


def suspend(names: Names, namespace: Namespace = "", context: Context = "") -> None:
    """Hold runs: the training saves a checkpoint, and accelerators become free."""
    client = connect(namespace, context)
    for name in names:
        client.suspend_job(name)
        show(f"{name}: held; qwensft resume {name} lets it go on from where it stands")


def resume(names: Names, namespace: Namespace = "", context: Context = "") -> None:
    """Let held runs go on."""
    client = connect(namespace, context)
    for name in names:
        client.resume_job(name)
        show(f"{name}: goes on")


def retry(names: Names, namespace: Namespace = "", context: Context = "") -> None:
    """Start failed runs again, from the stage that failed and what is on the volume."""
    client = connect(namespace, context)
    for name in names:
        phase = client.get_job(name).status.phase
        if phase != "Failed":
            raise CommandError(
                f"{name} is {phase or 'Pending'}: only a run that has failed can be started again", FAILED
            )
        client.retry_job(name)
        show(f"{name}: starts again")


def why(name: Name, namespace: Namespace = "", context: Context = "") -> None:
    """Say on one page why a run stands where it stands, and what to do."""
    from qwensft.cli.views import page

    show(page.text(str(connect(namespace, context).explain_job(name)), _paint()))


COMMANDS: Final = (submit, status, list_, logs, why, compare, suspend, resume, retry)


def connect(namespace: str, context: str) -> Client:
    """Return the client of a namespace; "" means the context's own, and the current context."""
    from qwensft.client import Client  # needs an extra, and takes a while to import

    return Client(namespace=namespace or None, context=context or None)


def _follow(client: Client, name: str) -> None:
    from qwensft.cli.following import follow, screen_for

    try:
        with screen_for(_paint(), client.connection.now, live=is_terminal(sys.stdout)) as screen:
            job = follow(client, name, screen)
    except KeyboardInterrupt:
        remark(f"the run goes on; qwensft status {name} --watch follows it again")
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(_code_of(job))


def _code_of(job: QwenSFTJob) -> int:
    return FAILED if job.status.phase == "Failed" else 0


def _stored(client: Client, name: str) -> dict[str, Any]:
    return _tidy(client.connection.get("qwensftjobs", name))


def _tidy(document: dict[str, Any]) -> dict[str, Any]:
    """The object as it is stored, without what says who has written which field."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    return {**document, "metadata": metadata}


def _paint() -> Any:
    return paint_for(sys.stdout)


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns
