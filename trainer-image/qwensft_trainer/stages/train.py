"""The train stage on one node: decides (or learns) where to start, runs torchrun, and says truthfully how it ended.

Node rank 0 leads: it picks the checkpoint, serves the metrics and records the result in train.json.
"""

from __future__ import annotations

import datetime
import functools
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from qwensft_trainer.base import files, metrics_server
from qwensft_trainer.base.environment import forbid_hub_access, training_environment
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import arguments, termination, workspace
from qwensft_trainer.contract.access import denied_later
from qwensft_trainer.contract.config import Evaluation, Run, load_arguments, load_run
from qwensft_trainer.contract.digest import configuration_digest
from qwensft_trainer.contract.errors import Interrupted, PermanentError, StageError
from qwensft_trainer.contract.stage import DRAIN_FLAG, DRAINED_FILE, PROGRESS_FILE, SELECTION_FILE, Result, StageContext
from qwensft_trainer.contract.termination import Report
from qwensft_trainer.model import source as model_source
from qwensft_trainer.model.checks import chain as model_checks
from qwensft_trainer.training import (
    accelerators,
    checkpoints,
    failures,
    figures,
    pissa,
    progress,
    rendezvous,
    torchrun,
)
from qwensft_trainer.training.peers import Peers
from qwensft_trainer.training.torchrun import Gang


def main(context: StageContext) -> Result:
    """Train this node's part. Raises StageError with the root cause, Interrupted when the gang saved and stopped."""
    gang = Gang.from_environment(os.environ)
    for name in (DRAIN_FLAG, DRAINED_FILE, PROGRESS_FILE, SELECTION_FILE):
        (context.scratch / name).unlink(missing_ok=True)
    shutil.rmtree(context.scratch / "tmp", ignore_errors=True)
    (context.scratch / "tmp").mkdir()
    stop = torchrun.StopRequest(context.scratch / DRAIN_FLAG, lambda: _announce_drain(context, gang))
    with stop.handled():
        try:
            return _Attempt(context, gang, stop).run()
        except (StageError, Interrupted) as error:
            known = progress.read(context.scratch / PROGRESS_FILE)
            error.metrics = known.metrics() if known else {}
            raise


def _announce_drain(context: StageContext, gang: Gang) -> None:
    """Leave a message for the case that the grace period ends first: nothing of ours runs after a SIGKILL."""
    log("SIGTERM: the workers save a checkpoint after this step and stop")
    known = progress.read(context.scratch / PROGRESS_FILE)
    termination.write(
        context.termination_log,
        Report(
            outcome="Failed",
            stage=context.name,
            attempt=context.attempt,
            rank=gang.node_rank,
            exit_code=137,
            reason="KilledBeforeSaved",
            message="The pod was asked to stop and its grace period ended before a checkpoint was saved. The next "
            "attempt goes on from the last regular checkpoint; a lower spec.training.saveSteps loses less.",
            metrics=known.metrics() if known else {},
        ),
    )


@dataclass(frozen=True)
class _Attempt:
    context: StageContext
    gang: Gang
    stop: torchrun.StopRequest

    def run(self) -> Result:
        run = load_run(self.context.config)
        train_arguments = load_arguments(self.context.config / "train.yaml")
        digest = configuration_digest(run, train_arguments)
        workspace.require_ownership(run)
        if (recorded := _recorded(run, digest)) is not None:
            log("training is complete already")
            return recorded
        model_checks.check_packages(train_arguments)
        model_source.require(run)
        _require_preparation(run)
        if run.accelerator.count > 0:
            accelerators.require(self.gang.processes_per_node)
        if self.gang.leads:
            metrics_server.start(self.context.metrics_port, figures.figures(self.context.scratch / PROGRESS_FILE))
        peers = Peers(self.gang.master_address, self.gang.nodes)
        rendezvous.wait_for_gang(peers.names, self.gang.node_rank, self.gang.master_port)
        output = run.attempt_directory(self.context.attempt)
        decision = self._decide(run, digest, output)
        if finished := decision.get("finishedIn"):
            if self.gang.leads:
                checkpoints.publish(run.run_directory / finished, (run.run_directory / finished).parent)
            return self._finish(run, digest, (run.run_directory / finished).parent, train_arguments)
        resume = decision.get("resumeFrom")
        completed = arguments.training_arguments(
            train_arguments, run, output=output, resume=run.run_directory / resume if resume else None
        )
        if run.evaluation is not None:
            files.write_json(self.context.scratch / SELECTION_FILE, _selection(run.evaluation))
        path = self.context.scratch / "train.yaml"
        files.write_text(path, yaml.safe_dump(completed, sort_keys=False, allow_unicode=True))
        forbid_hub_access()
        training_environment(processes=self.gang.processes_per_node, accelerators=run.accelerator.count)
        rendezvous.wait_for_name(self.gang.master_address, self.gang.master_port)
        end = torchrun.run(self.gang.command(path), self.stop, peers)
        self._judge(end)
        return self._finish(run, digest, output, train_arguments)

    def _decide(self, run: Run, digest: str, output: Path) -> dict[str, Any]:
        """Where this attempt starts, chosen once by node rank 0. Paths are relative to the run directory."""
        path = output / checkpoints.ATTEMPT_FILE
        if not self.gang.leads:
            return rendezvous.wait_for_decision(path, run.owner.uid)
        newest = checkpoints.newest_complete(output.parent, digest)
        decision: dict[str, Any] = {
            "ownerUid": run.owner.uid,
            "attempt": self.context.attempt,
            "configDigest": digest,
            "nodes": self.gang.nodes,
        }
        if newest is None:
            log(f"attempt {self.context.attempt} starts from the base model")
        elif newest.finished:
            decision["finishedIn"] = str(newest.path.relative_to(run.run_directory))
            log(f"attempt {newest.attempt} had trained all {newest.max_steps} steps: its last checkpoint is the result")
        else:
            decision["resumeFrom"] = str(newest.path.relative_to(run.run_directory))
            decision["resumeStep"] = newest.step
            log(f"attempt {self.context.attempt} resumes from {decision['resumeFrom']} of {newest.max_steps} steps")
            # onExisting: Resume may go on in the very directory of the attempt before.
            if run.tuning.pissa and newest.path.parent != output:
                shutil.copytree(newest.path.parent / pissa.INITIAL, output / pissa.INITIAL, dirs_exist_ok=True)
        files.write_json(path, decision)
        return decision

    def _judge(self, end: torchrun.End) -> None:
        """Raise what the workers' end means, unless they trained to the last step."""
        drained = files.read_json_object(self.context.scratch / DRAINED_FILE)
        if drained is not None:
            who = "this pod" if self.stop.requested else "another pod of this training"
            raise Interrupted(f"{who} was asked to stop; a checkpoint at step {drained['step']} is saved.")
        if end.lost_peer is not None:
            raise StageError("PeerLost", f"{end.lost_peer} went away; the cause stands in that pod.")
        if end.exit_code != 0:
            left = failures.read_error_files(self.context.scratch / "tmp")
            denied = functools.partial(denied_later, workspace=self.context.workspace, scratch=self.context.scratch)
            raise failures.cause(left, end.tail, end.exit_code, denied)

    def _take_best(self, directory: Path, state: dict[str, Any]) -> None:
        best = checkpoints.best_of(directory.parent, state)
        if best is None:
            log(
                "warning: keepBest finds no checkpoint of the best evaluation (step "
                f"{state.get('best_global_step')}): no loss was finite, or it is gone. The last one is taken"
            )
            return
        log(f"the result is {best.parent.name}/{best.name}, with the lowest evaluation loss ({state['best_metric']})")
        checkpoints.publish(best, directory)

    def _finish(self, run: Run, digest: str, directory: Path, train_arguments: Mapping[str, Any]) -> Result:
        """Record the result: exit code 0 alone proves nothing, the trainer's state must say that all steps are done."""
        if not self.gang.leads:
            return Result(message="this node's part is done")
        state = checkpoints.read_state(directory)
        is_done = state is not None and (
            state.get("global_step", -1) >= state.get("max_steps", 0)
            or checkpoints.ended_early(state)
            or train_arguments.get("early_stopping_steps") is not None  # of runs begun by an earlier version
        )
        if state is None or not is_done:
            done = (
                f"stopped at step {state['global_step']} of {state['max_steps']}"
                if state
                else "left no trainer_state.json"
            )
            raise StageError("TrainingIncomplete", f"Training exited without an error but {done}.")
        known = progress.read(self.context.scratch / PROGRESS_FILE)
        metrics = known.metrics() if known else _metrics_of(state)
        if run.evaluation is not None and run.evaluation.keep_best:
            self._take_best(directory, state)
        if run.tuning.pissa:
            pissa.convert(directory)
        kind = "adapter" if run.tuning.method == "lora" else "model"
        outputs = {kind: _describe_output(directory, self.context.workspace)}
        files.write_json(
            run.train_result,
            {
                "configDigest": digest,
                "attempt": self.context.attempt,
                "completedAt": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "directory": str(directory.relative_to(run.run_directory)),
                "metrics": {key: value for key, value in metrics.items() if value is not None},
                "outputs": outputs,
            },
        )
        return Result(metrics=metrics, outputs=outputs)


def _selection(evaluation: Evaluation) -> dict[str, Any]:
    """What the workers are told of spec.evaluation."""
    return evaluation.model_dump(mode="json", by_alias=True, include={"keep_best", "early_stopping"})


def _recorded(run: Run, digest: str) -> Result | None:
    recorded = files.read_json_object(run.train_result)
    if recorded is None:
        return None
    if recorded.get("configDigest") != digest:
        raise PermanentError(
            "OutputExists",
            f"{run.run_directory} holds a finished run with other inputs. Set spec.storage.path to a new "
            "directory, or spec.storage.onExisting to Overwrite.",
        )
    return Result(metrics=recorded["metrics"], outputs=recorded["outputs"])


def _require_preparation(run: Run) -> None:
    if not run.prepare_result.is_file() or not run.tokenized_directory.is_dir():
        raise PermanentError(
            "PreparationMissing",
            f"{run.run_directory} was not prepared: run the prepare stage on this volume first.",
        )


def _metrics_of(state: Mapping[str, Any]) -> dict[str, float | int | None]:
    """The same numbers out of a checkpoint, for a run that finished in an earlier attempt."""
    tracker = progress.Tracker(step=state["global_step"], total_steps=state["max_steps"], tokens=0, now=0.0)
    tracker.restore_losses(state.get("log_history", []))
    return tracker.progress.metrics() | {"epoch": state.get("epoch")}


def _describe_output(directory: Path, volume: Path) -> dict[str, Any]:
    manifest = files.manifest_of(directory, exclude=(checkpoints.ATTEMPT_FILE,))
    return {
        "path": str(directory.relative_to(volume)),
        "sizeBytes": sum(entry["sizeBytes"] for entry in manifest.values()),
        "digest": files.manifest_digest(manifest),
    }
