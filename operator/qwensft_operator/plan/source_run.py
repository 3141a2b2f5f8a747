"""A run that begins with what another has trained: the wait for that one, and which merged model or adapter it is.

`spec.model.source.run` names a run for its merged model, `spec.model.adapter.run` one for its adapter; who names both
waits for one after the other. The choice is written into the status before anything is made, and holds for all
attempts, whatever becomes of the other run. While one waits, nothing is asked of the cluster: the store tells when the
other run ends.
Runs that wait for each other in a circle are told so: none of them can begin.
ADR 0180 says why. ADR 0195 says why, of adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from qwensft.api.v1alpha1 import (
    ConditionType,
    InvalidJobError,
    Output,
    Outputs,
    Phase,
    Reason,
    SourceRun,
    Status,
    differences,
    parse_job,
    read_status,
)
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.step import Step, held_phase
from qwensft_operator.plan.types import SourceRunView


@dataclass(frozen=True, slots=True)
class Part:
    """What another run leaves, and this one begins with."""

    what: str
    block: str  # of spec.model, in which `run` names the other run
    in_status: str

    @property
    def field(self) -> str:
        """The field of the spec that names the other run."""
        return f"spec.model.{self.block}.run"

    def noted(self, status: Status) -> SourceRun | None:
        """Return which one it is, as far as the status tells."""
        return status.adapter_run if self is ADAPTER else status.source_run

    def note(self, status: Status, chosen: SourceRun) -> Status:
        """Return the status that tells which one it is."""
        return status.replace(adapter_run=chosen) if self is ADAPTER else status.replace(source_run=chosen)

    def left_by(self, found: SourceRunView) -> Output | None:
        """Return where the other run has it, by its status."""
        outputs = found.status.outputs or Outputs()
        return outputs.adapter if self is ADAPTER else outputs.merged


MODEL = Part("merged model", "source", "sourceRun")
ADAPTER = Part("adapter", "adapter", "adapterRun")


def named(run: Run) -> dict[Part, str]:
    """Return the runs that the spec names, by what of them this one begins with."""
    model = run.job.spec.model
    found = {MODEL: model.source.run.name} if model.source is not None and model.source.run is not None else {}
    return found | ({ADAPTER: model.adapter.run.name} if model.adapter is not None else {})


def chosen(run: Run) -> Iterator[tuple[Part, SourceRun]]:
    """Yield what this run begins with, as far as it is known; nothing that the spec does not name."""
    for part in named(run):
        if (begun := part.noted(run.status)) is not None:
            yield part, begun


def awaited_part(run: Run) -> Part | None:
    """Return what this run waits for; None where it waits for nothing, or is held."""
    if run.current_stage is None or run.current_child is not None or run.job.spec.run_policy.suspend:
        return None
    return next((part for part in named(run) if part.noted(run.status) is None), None)


def awaited(run: Run) -> str | None:
    """Return the name of the run that this one waits for; None where it waits for none, or is held."""
    part = awaited_part(run)
    return None if part is None else named(run)[part]


def awaited_by(manifest: dict[str, Any]) -> str | None:
    """Return the name of the run of which a QwenSFTJob does not know yet what it begins with; None where it does."""
    model, status = (manifest.get("spec") or {}).get("model") or {}, manifest.get("status") or {}
    for part in (MODEL, ADAPTER):
        other = (model.get(part.block) or {}).get("run") or {}
        if other.get("name") and not status.get(part.in_status):
            return str(other["name"])
    return None


def source_run_view(manifest: dict[str, Any], waits_for: Sequence[str] = ()) -> SourceRunView:
    """Reduce the QwenSFTJob with whose result another begins: also one of a version whose spec this one cannot read.

    Args:
        manifest: It, as stored.
        waits_for: The runs for which it waits itself, each for the next.
    """
    meta, spec = manifest["metadata"], manifest.get("spec") or {}
    storage = spec.get("storage") or {}
    named_claim = (storage.get("volume") or {}).get("claimName")
    try:
        read = parse_job(manifest, rules=False).spec
    except InvalidJobError:
        read = None
    return SourceRunView(
        uid=meta["uid"],
        status=read_status(manifest.get("status") or {}),
        directory=storage.get("path") or f"{meta['name']}-{meta['uid'][:8]}",
        claim=named_claim or f"{meta['name']}-workspace",
        names_claim=named_claim is not None,
        retains=storage.get("retain") is not False,
        merges=(spec.get("merge") or {}).get("enabled") is not False,
        deleting="deletionTimestamp" in meta,
        spec=read,
        waits_for=tuple(waits_for),
    )


def source_run_awaited(run: Run, _: datetime) -> Step | None:
    """Wait for the run with whose result this one begins, and note which model or adapter that is."""
    part, found = awaited_part(run), run.observed.source_run
    if part is None:
        return None
    name = named(run)[part]
    if found is None or found.deleting:
        return _wait(run, _missing(part, name, deleting=found is not None))
    if (obstacle := _obstacle(run, part, name, found)) is not None:
        return _unavailable(run, obstacle)
    if found.status.completion_time is None or found.status.phase is not Phase.SUCCEEDED:
        return _wait(run, f"waiting until QwenSFTJob {name} has succeeded, with whose {part.what} this run begins")
    return _begin(run, part, name, found)


def _obstacle(run: Run, part: Part, name: str, found: SourceRunView) -> str | None:
    """Say why waiting would be for nothing; None where it is not."""
    if part is ADAPTER and (unlike := _unlike(run, name, found)):  # before hours of waiting for what cannot be used
        return unlike
    if found.status.completion_time is None:
        return _in_a_circle(run, part, name, found) if run.job.metadata.name in found.waits_for else None
    return _failed(part, name, found) if found.status.phase is Phase.FAILED else None


def _wait(run: Run, message: str) -> Step:
    return Step(held_phase(run), Reason.WAITING_FOR_SOURCE_RUN, message, run.status, waits=True)


def _unavailable(run: Run, message: str) -> Step:
    reason = Reason.SOURCE_RUN_UNAVAILABLE
    return Step(held_phase(run), reason, message, run.status, warning=True, stalled=True, waits=True)


def _begin(run: Run, part: Part, name: str, found: SourceRunView) -> Step:
    choice = _choice(part, name, found)
    if choice is None:
        return _unavailable(run, _without(part, name, found))
    if _is_within(run, found):
        return _unavailable(run, _entangled(run, part, name, found))
    message = f"begins with the {part.what} of QwenSFTJob {name} (UID {choice.uid}): {choice.digest}"
    goes_with_it = not (found.retains or found.names_claim)
    if goes_with_it:
        until = "been prepared" if part is ADAPTER else "ended"
        message += (
            f". Claim {choice.claim_name} is deleted with that QwenSFTJob, whose spec.storage.retain is false: keep it "
            f"until this run has {until}"
        )
    status = part.note(run.status, choice)
    return Step(held_phase(run), Reason.STARTING, message, status, warning=goes_with_it, requeue_after=0)


def _choice(part: Part, name: str, found: SourceRunView) -> SourceRun | None:
    """Return what is begun with; None when the status tells of no such result in the directory of that run."""
    left = part.left_by(found)
    if not left or not left.path or not left.digest or left.claim_name != found.claim:
        return None
    if not left.path.startswith(f"{found.directory}/") or ".." in left.path.split("/"):
        return None
    return SourceRun(name=name, uid=found.uid, claim_name=found.claim, path=left.path, digest=left.digest)


def _is_within(run: Run, found: SourceRunView) -> bool:
    """Whether one run's directory lies in the other's: what this one writes, or Overwrite deletes, would be theirs."""
    own, theirs = run.job.run_path.split("/"), found.directory.split("/")
    depth = min(len(own), len(theirs))
    return run.job.workspace_claim == found.claim and own[:depth] == theirs[:depth]


def _unlike(run: Run, name: str, found: SourceRunView) -> str:
    """Say why this run cannot train on the other's adapter, by the two specs; "" where it can, or nobody knows."""
    if found.spec is None or not run.job.spec.tuning.uses_adapter:
        return ""
    if not found.spec.tuning.uses_adapter:
        return (
            f"QwenSFTJob {name} trains no adapter (spec.tuning.method: {found.spec.tuning.method}): create this "
            "QwenSFTJob anew with spec.model.source.run in place of spec.model.adapter, to begin with its merged model"
        )
    changes = differences(found.spec, run.job.spec)
    if not changes:
        return ""
    return (
        f"the adapter of QwenSFTJob {name} can be trained on only as it is. Create this QwenSFTJob anew: "
        f"{'; '.join(changes)}"
    )


def _missing(part: Part, name: str, *, deleting: bool) -> str:
    how = "is being deleted" if deleting else "does not exist"
    kept = ", in place of spec.model.adapter" if part is ADAPTER else ""
    return (
        f"QwenSFTJob {name}, with whose {part.what} this run begins, {how}; this run goes on once it has been created "
        "and has succeeded. If its volume was kept: create this QwenSFTJob anew with spec.model.source.volume, for its "
        f"merged model{kept}"
    )


def _failed(part: Part, name: str, found: SourceRunView) -> str:
    told = found.status.condition(ConditionType.SUCCEEDED)
    why = f" ({told.reason})" if told else ""
    return (
        f"QwenSFTJob {name}, with whose {part.what} this run begins, has failed{why}: mend that and change its "
        "spec.runPolicy.retry, and this run goes on once it has succeeded; or create this QwenSFTJob anew with another "
        f"spec.model.{part.block}"
    )


def _in_a_circle(run: Run, part: Part, name: str, found: SourceRunView) -> str:
    own = run.job.metadata.name
    between = found.waits_for[: found.waits_for.index(own)]
    through = f", by way of {', '.join(between)}" if between else ""
    return (
        f"QwenSFTJob {name}, with whose {part.what} this run begins, waits for this run itself{through}: none of them "
        f"can begin. Delete one of them, and create it anew with another spec.model.{part.block}"
    )


def _without(part: Part, name: str, found: SourceRunView) -> str:
    way = (
        "change something in its spec.merge, such as shardSizeGB"
        if found.merges or part is ADAPTER  # the merge tells of an adapter's digest, too
        else "set its spec.merge.enabled to true"
    )
    return (
        f"QwenSFTJob {name} has succeeded, but its status tells of no {part.what} that this run could begin with: "
        f"{way}, which merges without training again"
    )


def _entangled(run: Run, part: Part, name: str, found: SourceRunView) -> str:
    return (
        f"the directory of this run ({run.job.run_path}) and that of QwenSFTJob {name} ({found.directory}), whose "
        f"{part.what} it reads, lie in one another on claim {found.claim}: create this QwenSFTJob anew with another "
        "spec.storage.path, or none"
    )
