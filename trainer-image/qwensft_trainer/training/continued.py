"""The adapter of another run that this one trains on: copied once, by prepare, and the very one at every attempt.

It is small beside the base. So prepare alone mounts the other run's volume, and what happens there afterwards changes
nothing. All files of the result are copied: the copy then has the digest by which the operator knows the adapter.
ADR 0196 says why.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import Adapter, Run
from qwensft_trainer.contract.errors import PermanentError, invalid_model
from qwensft_trainer.training.checkpoints import NOT_OUTPUT

MOUNT = Path("/adapter")  # the other run's volume, in the pod that prepares
_NEW = "Create this QwenSFTJob anew, to begin with what {name} has now, or with another spec.model.adapter."


def provide(run: Run) -> None:
    """Copy it unless it is there. Raises PermanentError InvalidModel when it is not the one with which this run began.

    What another experiment has left in its place is taken away where none is trained on.
    """
    target, adapter = run.adapter_directory, run.model.adapter
    if adapter is None:
        files.remove(target)
        return
    if _digest(target) == adapter.digest:
        return
    partial = target.with_name(f".{target.name}.partial")
    files.remove(partial)
    partial.mkdir(parents=True)
    _copy(adapter, partial)
    if (found := _digest(partial)) != adapter.digest:
        files.remove(partial)
        raise _another(adapter, f"{adapter.path} has the digest {found}, not {adapter.digest}")
    files.replace_directory(partial, target)
    log(f"copied the adapter of {adapter.name}, {adapter.digest}, to {target}")


def require(run: Run) -> None:
    """Compare every byte of the copy with what was chosen. Raises PermanentError InvalidModel."""
    adapter = run.model.adapter
    if adapter is not None and _digest(run.adapter_directory) != adapter.digest:
        raise _another(adapter, f"the copy in {run.adapter_directory} was changed or taken away after it was prepared")


def _copy(adapter: Adapter, target: Path) -> None:
    """The files of a training's result, of which none may be a link to elsewhere."""
    source = adapter.path
    root = MOUNT if source.is_relative_to(MOUNT) else source.parent
    if files.leads_out(source, root) or not source.is_dir():
        raise _another(adapter, f"there is no directory {source}")
    for path in sorted(source.iterdir()):
        if path.name in NOT_OUTPUT or not path.is_file():
            continue
        if files.leads_out(path, root):
            raise _another(adapter, f"{path} leads out of {root} by a symbolic link")
        shutil.copyfile(path, target / path.name)
        files.sync(target / path.name)


def _digest(directory: Path) -> str | None:
    return files.manifest_digest(files.manifest_of(directory)) if directory.is_dir() else None


def _another(adapter: Adapter, why: str) -> PermanentError:
    return invalid_model(
        f"This is not the adapter of QwenSFTJob {adapter.name} (UID {adapter.uid}) with which this run began: {why}. "
        + _NEW.format(name=adapter.name)
    )
