"""The commands that look into a run's volume, through a pod that mounts it: plot, pull, clean; and preview --run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from qwensft.cli.cluster import Context, Name, Namespace, Output, connect, names
from qwensft.cli.failures import FAILED, CommandError
from qwensft.cli.output import dumped, is_terminal, paint_for, remark, show

if TYPE_CHECKING:
    from qwensft.api.v1alpha1 import Output as Result
    from qwensft.api.v1alpha1 import QwenSFTJob
    from qwensft.cli.pulling import Told
    from qwensft.cli.volume import Volume
    from qwensft.client import Client

_PREVIEW: Final = "preview.json"
_NAMES: Final = ("loss", "eval_loss")


class Losses(NamedTuple):
    """Pairs of step and loss, in the order of the steps."""

    training: list[tuple[int, float]]
    evaluation: list[tuple[int, float]]


def plot(name: Name, namespace: Namespace = "", context: Context = "", output: Output = None) -> None:
    """Draw the losses of a run over its steps."""
    from qwensft.cli.views import plot as view
    from qwensft.client import figures
    from qwensft.client.files import open_files

    client = connect(namespace, context)
    job = client.get_job(name)
    with open_files(client.connection, job, lambda: client.image_for(job)) as files:
        found = losses_of(figures.records(files.read(figures.LOGS)))
    if not found.training:
        raise CommandError(f"{name} has logged no loss yet; see qwensft why {name}", FAILED)
    if output:
        show(dumped({"training": found.training, "evaluation": found.evaluation}, output))
    else:
        coloured = paint_for(sys.stdout).on
        width = shutil.get_terminal_size((100, 24)).columns
        show(view.text(found.training, found.evaluation, width, colours=coloured))


def losses_of(records: Sequence[Mapping[str, Any]]) -> Losses:
    """Return the losses out of the figures that the client reads from the logs of all attempts."""
    training, evaluation = (
        [(record["step"], float(record[name])) for record in records if record.get(name) is not None] for name in _NAMES
    )
    return Losses(training, evaluation)


def pull(
    name: Name,
    what: Annotated[
        str,
        typer.Option(help="merged, model or adapter, or the report alone. Default: the first that there is."),
    ] = "",
    to: Annotated[str, typer.Option(help="A folder. Default: the run's name.")] = "",
    namespace: Namespace = "",
    context: Context = "",
) -> None:
    """Fetch what a run has trained, and its report, each file proven by its digest; goes on where it broke off."""
    from qwensft.cli import pulling
    from qwensft.cli.volume_pod import volume_of
    from qwensft.client import progress, words

    client = connect(namespace, context)
    job = client.get_job(name)
    result = pulling.result_of(job, what)
    target = Path(to or name)
    report = pulling.report_of(job)
    shown = progress.display()

    def tell(name: str, done: int, size: int) -> None:
        shown.show(progress.transferred(name, done, size))

    with closing(shown), volume_of(client, job) as volume:
        if result is report:
            pulled = pulling.pull_report(volume, result, target, tell)
        else:
            pulled = pulling.pull(volume, result, target, tell)
            if report is not None and pulling.REPORT not in pulled.names:
                _pull_report(volume, report, target, tell)
    files = words.count(pulled.fetched + pulled.kept, "file")
    had = f", {pulled.kept} of them here already" if pulled.kept else ""
    proof = "each as the run has told it" if pulled.proven else "the run has told no digest to compare them with"
    show(f"{result.path} is in {target}: {files}, {words.size(pulled.size)}{had}; {proof}")


def _pull_report(volume: Volume, report: Result, target: Path, tell: Told) -> None:
    """Fetch the report beside a result, which is worth having without it."""
    from qwensft.cli import pulling
    from qwensft.client.errors import TransferError

    try:
        pulling.pull_report(volume, report, target, tell)
    except (CommandError, TransferError) as error:
        remark(f"without the report: {error}")
    else:
        remark(f"the run's report is {target / pulling.REPORT}")


def clean(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Remove this run's checkpoints.", autocompletion=names)
    ] = "",
    claims: Annotated[bool, typer.Option("--claims", help="Remove claims of runs that are no more.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without being asked.")] = False,
    namespace: Namespace = "",
    context: Context = "",
) -> None:
    """Remove checkpoints that a run needs no more, or claims of runs that are no more; shows them first."""
    if bool(name) == claims:
        raise CommandError("name a run whose checkpoints are to go, or say --claims")
    client = connect(namespace, context)
    if claims:
        _clean_claims(client, yes)
    else:
        _clean_checkpoints(client, name, yes)


def _clean_claims(client: Client, yes: bool) -> None:
    from qwensft.cli import cleaning
    from qwensft.client.errors import ConflictError, NotFoundError

    def look() -> list[cleaning.Removable]:
        # Claims first: that of a run that begins meanwhile is then among those of runs, or not there yet.
        items = client.connection.list("persistentvolumeclaims")["items"]
        return cleaning.claims(items, client.list_jobs(), client.connection.list("pods")["items"])

    shown = look()
    if not _agreed(shown, yes):
        return
    removable, kept = cleaning.still(shown, look())
    removed: list[cleaning.Removable] = []
    for one in removable:
        conditions = {"uid": one.uid, "resourceVersion": one.version}
        try:
            client.connection.delete("persistentvolumeclaims", one.name, preconditions=conditions)
            removed.append(one)
        except (ConflictError, NotFoundError):
            kept.append(one)
    for one in kept:
        remark(f"{one.name} was changed, or came into use, since it was shown: it is left alone")
    show("removed" if removed else "nothing was removed")
    if kept:
        raise typer.Exit(FAILED)


def _clean_checkpoints(client: Client, name: str, yes: bool) -> None:
    from qwensft.cli import cleaning
    from qwensft.cli.volume_pod import volume_of

    def look() -> QwenSFTJob:
        job = client.get_job(name)
        cleaning.require_succeeded(job)
        return job

    job = look()
    with volume_of(client, job, writable=True) as volume:
        found = cleaning.checkpoints(job, volume.sizes(f"{job.run_path}/train"))
        if not _agreed(found, yes):
            return
        if look().metadata.uid != job.metadata.uid:
            raise CommandError(f"{name} is another run by now: nothing was removed; call again", FAILED)
        volume.remove([one.name for one in found])
        show("removed")


def _agreed(found: list[Any], yes: bool) -> bool:
    """Show what would go; whether it may."""
    from qwensft.cli import cleaning

    if not found:
        show("nothing to remove")
        return False
    show(cleaning.text(found))
    if yes:
        return True
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        remark("nothing was removed: say --yes, or answer at a terminal")
        return False
    return bool(typer.confirm("Remove it?"))


def samples_of(name: str, namespace: str, context: str) -> list[dict[str, Any]]:
    """Return the preview that prepare has left on a run's volume.

    Raises:
        CommandError: there is none yet.
    """
    from qwensft.client.files import open_files

    client = connect(namespace, context)
    job = client.get_job(name)
    with open_files(client.connection, job, lambda: client.image_for(job)) as files:
        found = files.read(_PREVIEW)
    if _PREVIEW not in found:
        raise CommandError(f"{name} has no preview yet: the prepare stage makes it; see qwensft why {name}", FAILED)
    samples: list[dict[str, Any]] = json.loads(found[_PREVIEW])["samples"]
    return samples


COMMANDS: Final = (plot, pull, clean)
