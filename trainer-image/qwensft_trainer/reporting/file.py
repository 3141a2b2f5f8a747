"""report.html in the run's directory, beside the model: left by the training, and anew by every merge.

A run that has its model has not failed: what keeps the page from being written is a warning. ADR 0177 says why.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.config import Run

GENERATOR = "qwensft-trainer"
"""How the page names its maker, in a meta element."""


def leave(run: Run, volume: Path) -> dict[str, dict[str, Any]]:
    """Write the page of a run whose training is done, of what its stages have left on the volume.

    Returns {"report": what the termination message says of it: path on the volume, bytes, digest}; {} with a warning in
    the log where it could not be written.
    """
    path = run.run_directory / workspace.REPORT
    try:
        from qwensft_trainer.reporting import page, records  # not at the start of a training, which holds accelerators

        workspace.require_ownership(run)  # another job may have been told to take the directory over meanwhile
        _require_ours(path)
        text = page.render(run, records.read(run), GENERATOR)
        files.write_text(path, text)
    except Exception as error:  # whatever strange files and volumes raise
        log(f"warning: {workspace.REPORT} is not written: {type(error).__name__}: {error}")
        return {}
    content = text.encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"report": {"path": str(path.relative_to(volume)), "sizeBytes": len(content), "digest": digest}}


def _require_ours(path: Path) -> None:
    """Raises FileExistsError where a file of somebody's own has the name, or another error for what is no file."""
    if not path.exists() and not path.is_symlink():
        return
    text = "" if path.is_symlink() else files.read_text(path)
    if f'content="{GENERATOR} ' not in text:
        raise FileExistsError(f"{path} is no report of a run: give it another name")
