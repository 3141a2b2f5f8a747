"""The commands that look into a run's volume, through a pod that mounts it: plot, pull, clean; and preview --run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from qwensft.cli.cluster import Context, Name, Namespace, Output, connect, names
from qwensft.cli.failures import FAILED, CommandError
from qwensft.cli.output import dumped, is_terminal, paint_for, remark, show

if TYPE_CHECKING:
    from qwensft.api.v1alpha1 import Output as Result
    from qwensft.cli.volume import Volume

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
    from qwensft.cli.views import words
    from qwensft.cli.volume_pod import volume_of

    client = connect(namespace, context)
    job = client.get_job(name)
    result = pulling.result_of(job, what)
    target = Path(to or name)
    report = pulling.report_of(job)
    with volume_of(client, job) as volume:
        if result is report:
            pulled = pulling.pull_report(volume, result, target, _Progress())
        else:
            pulled = pulling.pull(volume, result, target, _Progress())
            if report is not None and pulling.REPORT not in pulled.names:
                _pull_report(volume, report, target)
    files = words.count(pulled.fetched + pulled.kept, "file")
    had = f", {pulled.kept} of them here already" if pulled.kept else ""
    proof = "each as the run has told it" if pulled.proven else "the run has told no digest to compare them with"
    show(f"{result.path} is in {target}: {files}, {words.size(pulled.size)}{had}; {proof}")


def _pull_report(volume: Volume, report: Result, target: Path) -> None:
    """Fetch the report beside a result, which is worth having without it."""
    from qwensft.cli import pulling
    from qwensft.client.errors import TransferError

    try:
        pulling.pull_report(volume, report, target, _Progress())
    except (CommandError, TransferError) as error:
        remark(f"without the report: {error}")
    else:
        remark(f"the run's report is {target / pulling.REPORT}")


class _Progress:
    """Tells on a terminal how much of a file is here."""

    def __init__(self) -> None:
        self._live = is_terminal(sys.stderr)
        self._name = ""

    def __call__(self, name: str, done: int, size: int) -> None:
        from qwensft.cli.views import words

        if self._live:
            sys.stderr.write(
                f"\r\x1b[K{name}: {words.size(done)} of {words.size(size)}" + ("\n" if done == size else "")
            )
            sys.stderr.flush()
        elif name != self._name:
            remark(f"{name}: {words.size(size)}")
        self._name = name


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
    from qwensft.cli import cleaning
    from qwensft.cli.volume_pod import volume_of

    if bool(name) == claims:
        raise CommandError("name a run whose checkpoints are to go, or say --claims")
    client = connect(namespace, context)
    if claims:
        found = cleaning.claims(
            client.connection.list("persistentvolumeclaims")["items"],
            client.list_jobs(),
            client.connection.list("pods")["items"],
        )
        if _agreed(found, yes):
            for one in found:
                client.connection.delete("persistentvolumeclaims", one.name)
            show("removed")
        return
    job = client.get_job(name)
    cleaning.require_succeeded(job)
    with volume_of(client, job, writable=True) as volume:
        found = cleaning.checkpoints(job, volume.sizes(f"{job.run_path}/train"))
        if _agreed(found, yes):
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
