"""A run that begins with the merged model of another (`spec.model.source.run`): the wait for it, and which model it is.

The choice is written into the status before anything is made, and holds for all attempts, whatever becomes of the other
run. While one waits, nothing is asked of the cluster: the store tells when the other run ends.
ADR 0180 says why.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from qwensft.api.v1alpha1 import ConditionType, Phase, Reason, SourceRun, read_status
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.step import Step, held_phase
from qwensft_operator.plan.types import SourceRunView


def awaited(run: Run) -> str | None:
    """Return the name of the run whose model this one waits for; None where it waits for none, or is held."""
    source = run.job.spec.model.source
    if source is None or source.run is None or run.status.source_run is not None:
        return None
    if run.current_stage is None or run.current_child is not None or run.job.spec.run_policy.suspend:
        return None
    return source.run.name


def awaited_by(manifest: dict[str, Any]) -> str | None:
    """Return the name of the run whose model a QwenSFTJob does not know yet; None where it begins with none."""
    model = (manifest.get("spec") or {}).get("model") or {}
    source = (model.get("source") or {}).get("run") or {}
    return None if (manifest.get("status") or {}).get("sourceRun") else source.get("name")


def source_run_view(manifest: dict[str, Any]) -> SourceRunView:
    """Reduce the QwenSFTJob with whose model another begins: also one of a version whose spec this one cannot read."""
    meta, spec = manifest["metadata"], manifest.get("spec") or {}
    storage = spec.get("storage") or {}
    named = (storage.get("volume") or {}).get("claimName")
    return SourceRunView(
        uid=meta["uid"],
        status=read_status(manifest.get("status") or {}),
        directory=storage.get("path") or f"{meta['name']}-{meta['uid'][:8]}",
        claim=named or f"{meta['name']}-workspace",
        names_claim=named is not None,
        retains=storage.get("retain") is not False,
        merges=(spec.get("merge") or {}).get("enabled") is not False,
        deleting="deletionTimestamp" in meta,
    )


def source_run_awaited(run: Run, _: datetime) -> Step | None:
    """Wait for the run whose model this one begins with, and note which model that is."""
    name, found = awaited(run), run.observed.source_run
    if name is None:
        return None
    if found is None or found.deleting:
        return _wait(run, _missing(name, deleting=found is not None))
    ended = found.status.completion_time is not None
    if ended and found.status.phase is Phase.FAILED:
        return _unavailable(run, _failed(name, found))
    if not ended or found.status.phase is not Phase.SUCCEEDED:
        return _wait(run, f"waiting until QwenSFTJob {name} has succeeded, with whose merged model this run begins")
    return _begin(run, name, found)


def _wait(run: Run, message: str) -> Step:
    return Step(held_phase(run), Reason.WAITING_FOR_SOURCE_RUN, message, run.status, waits=True)


def _unavailable(run: Run, message: str) -> Step:
    reason = Reason.SOURCE_RUN_UNAVAILABLE
    return Step(held_phase(run), reason, message, run.status, warning=True, stalled=True, waits=True)


def _begin(run: Run, name: str, found: SourceRunView) -> Step:
    chosen = _chosen(name, found)
    if chosen is None:
        return _unavailable(run, _unmerged(name, found))
    if _is_within(run, found):
        return _unavailable(run, _entangled(run, name, found))
    message = f"begins with the merged model of QwenSFTJob {name} (UID {chosen.uid}): {chosen.digest}"
    goes_with_it = not (found.retains or found.names_claim)
    if goes_with_it:
        message += (
            f". Claim {chosen.claim_name} is deleted with that QwenSFTJob, whose spec.storage.retain is false: keep it "
            "until this run has ended"
        )
    status = run.status.replace(source_run=chosen)
    return Step(held_phase(run), Reason.STARTING, message, status, warning=goes_with_it, requeue_after=0)


def _chosen(name: str, found: SourceRunView) -> SourceRun | None:
    """Return what is begun with; None when the status tells of no merged model in the directory of that run."""
    merged = found.status.outputs and found.status.outputs.merged
    if not merged or not merged.path or not merged.digest or merged.claim_name != found.claim:
        return None
    if not merged.path.startswith(f"{found.directory}/") or ".." in merged.path.split("/"):
        return None
    return SourceRun(name=name, uid=found.uid, claim_name=found.claim, path=merged.path, digest=merged.digest)


def _is_within(run: Run, found: SourceRunView) -> bool:
    """Whether one run's directory lies in the other's: what this one writes, or Overwrite deletes, would be theirs."""
    own, theirs = run.job.run_path.split("/"), found.directory.split("/")
    depth = min(len(own), len(theirs))
    return run.job.workspace_claim == found.claim and own[:depth] == theirs[:depth]


def _missing(name: str, *, deleting: bool) -> str:
    how = "is being deleted" if deleting else "does not exist"
    return (
        f"QwenSFTJob {name}, with whose merged model this run begins, {how}; this run goes on once it has been created "
        "and has succeeded. If its volume was kept: create this QwenSFTJob anew with spec.model.source.volume"
    )


def _failed(name: str, found: SourceRunView) -> str:
    told = found.status.condition(ConditionType.SUCCEEDED)
    why = f" ({told.reason})" if told else ""
    return (
        f"QwenSFTJob {name}, with whose merged model this run begins, has failed{why}: mend that and change its "
        "spec.runPolicy.retry, and this run goes on once it has succeeded; or create this QwenSFTJob anew with another "
        "spec.model.source"
    )


def _unmerged(name: str, found: SourceRunView) -> str:
    way = (
        "change something in its spec.merge, such as shardSizeGB"
        if found.merges
        else "set its spec.merge.enabled to true"
    )
    return (
        f"QwenSFTJob {name} has succeeded, but its status tells of no merged model that this run could begin with: "
        f"{way}, which merges without training again"
    )


def _entangled(run: Run, name: str, found: SourceRunView) -> str:
    return (
        f"the directory of this run ({run.job.run_path}) and that of QwenSFTJob {name} ({found.directory}), whose "
        f"model it reads, lie in one another on claim {found.claim}: create this QwenSFTJob anew with another "
        "spec.storage.path, or none"
    )
