"""The train stage on one node: decides (or learns) where to start, runs torchrun, and says truthfully how it ended.

Node rank 0 leads: it picks the checkpoint and tells it to the others, serves the metrics and records the result in
train.json.
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from qwensft_trainer.base import files, metrics_server
from qwensft_trainer.base.environment import forbid_hub_access, training_environment
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import arguments, outputs, space, termination, workspace
from qwensft_trainer.contract.access import denied_later
from qwensft_trainer.contract.config import Run, load_arguments, load_run
from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.contract.errors import Interrupted, PermanentError, StageError
from qwensft_trainer.contract.stage import (
    ACTIVITY_FILE,
    BEGUN_FILE,
    DIFFERENT_FILE,
    DRAIN_FLAG,
    DRAINED_FILE,
    LINES_FILE,
    PROGRESS_FILE,
    SELECTION_FILE,
    START_FILE,
    STARTUP_FILE,
    TOLD_FILE,
    TRACKERS_FILE,
    UNLOADABLE_FILE,
    Result,
    StageContext,
)
from qwensft_trainer.contract.termination import Outcome, Report
from qwensft_trainer.model import source as model_source
from qwensft_trainer.model.checks import chain as model_checks
from qwensft_trainer.reporting import file as report_file
from qwensft_trainer.trackers.process import Reporting
from qwensft_trainer.training import (
    accelerators,
    checkpoints,
    continued,
    efficiency,
    failures,
    figures,
    pissa,
    progress,
    record,
    rendezvous,
    samples,
    stalls,
    start,
    startup,
    tidying,
    torchrun,
)
from qwensft_trainer.training import unloadable as unloading
from qwensft_trainer.training.peers import Peers
from qwensft_trainer.training.start import Start
from qwensft_trainer.training.torchrun import Gang
from qwensft_trainer.training.warming import Warming

_OF_THE_POD_BEFORE = (
    *(ACTIVITY_FILE, BEGUN_FILE, DIFFERENT_FILE, DRAIN_FLAG, DRAINED_FILE, START_FILE, UNLOADABLE_FILE),
    *(PROGRESS_FILE, SELECTION_FILE, STARTUP_FILE, LINES_FILE, TRACKERS_FILE, TOLD_FILE),
)


def main(context: StageContext) -> Result:
    """Train this node's part. Raises StageError with the root cause, Interrupted when the gang saved and stopped."""
    age = startup.process_age()
    gang = Gang.from_environment(os.environ)
    for name in _OF_THE_POD_BEFORE:
        (context.scratch / name).unlink(missing_ok=True)
    shutil.rmtree(context.scratch / "tmp", ignore_errors=True)
    (context.scratch / "tmp").mkdir()
    reader = figures.Reader(
        context.scratch / PROGRESS_FILE,
        time.time() - age,
        gang.processes,
        startup=context.scratch / STARTUP_FILE,
        began=time.monotonic() - age,
    )
    stop = torchrun.StopRequest(
        context.scratch / DRAIN_FLAG, context.scratch / BEGUN_FILE, lambda: _announce_drain(context, gang, reader)
    )
    reporting = Reporting(context.scratch, context.workspace, lambda: stop.requested)
    with stop.handled():
        try:
            with reporting:
                result = _Attempt(context, gang, stop, reader, reporting).run()
        except (StageError, Interrupted) as error:
            known = reader.read()
            error.metrics = (known.metrics() if known else {}) | reporting.metrics()
            raise
    return replace(result, metrics={**result.metrics, **reporting.metrics()})


def _announce_drain(context: StageContext, gang: Gang, reader: figures.Reader) -> None:
    """Leave a message for the case that the grace period ends first: nothing of ours runs after a SIGKILL."""
    log("SIGTERM: the workers save a checkpoint after this step and stop")
    killed = StageError(
        "KilledBeforeSaved",
        "The pod was asked to stop and its grace period ended before a checkpoint was saved. The next attempt goes on "
        "from the last regular checkpoint; a lower spec.training.saveSteps loses less.",
    )
    killed.exit_code = 137
    _announce(context, gang, reader, "Failed", killed)


def _announce(
    context: StageContext, gang: Gang, reader: figures.Reader, outcome: Outcome, error: StageError | Interrupted
) -> None:
    """Leave a message that holds unless a later one replaces it."""
    known = reader.read()
    termination.write(
        context.termination_log,
        Report(
            outcome=outcome,
            stage=context.name,
            attempt=context.attempt,
            rank=gang.node_rank,
            exit_code=error.exit_code,
            reason=error.reason,
            message=error.message,
            metrics=known.metrics() if known else {},
        ),
    )


def _differences(starts: list[Mapping[str, Any]]) -> str:
    """Rank 0's start, and that of the first rank that says otherwise; what they agree on is left out."""
    rank, other = next((rank, start) for rank, start in enumerate(starts) if start != starts[0])
    keys = sorted(key for key in {*starts[0], *other} if starts[0].get(key) != other.get(key))
    said = (f"{key} {starts[0].get(key)} and {other.get(key)}" for key in keys)
    return f"ranks 0 and {rank} have {', '.join(said)}"


@dataclass(frozen=True)
class _Attempt:
    context: StageContext
    gang: Gang
    stop: torchrun.StopRequest
    reader: figures.Reader
    reporting: Reporting

    def run(self) -> Result:
        run = load_run(self.context.config)
        workspace.require_within(run, self.context.workspace)
        train_arguments = load_arguments(self.context.config / "train.yaml")
        accelerator = accelerators.Question(self.gang.processes_per_node if run.accelerator.count > 0 else 0)
        workspace.require_ownership(run)
        _require_preparation(run)
        contents = (files.read_json_object(run.prepare_result) or {}).get("contents")
        experiment = Experiment.of(run, train_arguments, contents)
        if (recorded := record.read(run, experiment)) is not None:
            log("training is complete already")
            return self._reported(run, recorded, train_arguments)
        _require_inputs(run, train_arguments)
        answer = start.Answer(self.gang.nodes, run.owner.uid, self.context.attempt, lambda: self.stop.requested)
        if self.gang.leads:
            if run.accelerator.count > 0:
                self.reader.flops_per_token = efficiency.of_model(run.model.path, train_arguments)
            self._serve(run, answer)
        peers = Peers(self.gang.master_address, self.gang.nodes)
        self.reader.marks.mark(startup.CHECKED)
        warming = Warming([run.tokenized_directory, run.model.path])
        warming.start(imports=bool(peers.names))
        is_over = functools.partial(_is_over, run, experiment, accelerator)
        rendezvous.wait_for_gang(peers.names, self.gang.node_rank, self.gang.master_port, is_over)
        begun = self._start(run, experiment, answer, peers, is_over=is_over, accelerator=accelerator)
        if begun is None:
            return Result(message="this node's part was done before it came")
        output = run.run_directory / begun.output
        checkpoint = run.run_directory / begun.checkpoint if begun.checkpoint else None
        if begun.finished:
            if self.gang.leads and checkpoint is not None:
                checkpoints.publish(checkpoint, output)
            return self._finish(run, experiment, output, train_arguments)
        files.write_json(self.context.scratch / START_FILE, begun.as_seen(experiment, checkpoint))
        completed = arguments.training_arguments(train_arguments, run, output=output, resume=checkpoint)
        if run.evaluation is not None:
            files.write_json(
                self.context.scratch / SELECTION_FILE,
                run.evaluation.model_dump(mode="json", by_alias=True, include={"keep_best", "early_stopping"}),
            )
        path = self.context.scratch / "train.yaml"
        files.write_text(path, yaml.safe_dump(completed, sort_keys=False, allow_unicode=True))
        forbid_hub_access()
        training_environment(processes=self.gang.processes_per_node, accelerators=run.accelerator.count)
        rendezvous.wait_for_name(self.gang.master_address, self.gang.master_port)
        warming.stop()
        accelerator.check()
        self.reader.marks.mark(startup.GATHERED)
        watch = stalls.Watch(self.context.scratch, self.gang.stall_timeout)
        if self.gang.leads:
            self.reporting.begin(run, train_arguments, self.context.attempt, begun.step, self.gang.processes)
        stacks = output / "stacks" / f"node-{self.gang.node_rank}.txt"
        end = torchrun.run(
            self.gang.command(path),
            self.stop,
            peers,
            watch,
            on_stall=lambda: stalls.show_stacks(self.context.scratch, stacks),
            gives_up=lambda: accelerator.failure() is not None,
        )
        if end.exit_code != 0 and (missing := accelerator.answer()) is not None:
            raise missing
        self._judge(end, output, train_arguments)
        return self._finish(run, experiment, output, train_arguments)

    def _serve(self, run: Run, answer: start.Answer) -> None:
        port = self.context.metrics_port
        about = run.owner.about(self.context.attempt)
        told = figures.figures(self.reader.read, about, self.context.scratch / TOLD_FILE)
        served = metrics_server.start(port, told, {start.ROUTE: answer})
        if served is None and self.gang.nodes > 1:
            raise StageError(
                "RendezvousTimeout",
                f"port {port} is taken on this node, as happens with spec.worker.hostNetwork: the other pods ask there "
                "where to start. Free it, or keep the job off nodes with that program.",
            )

    def _start(
        self,
        run: Run,
        experiment: Experiment,
        answer: start.Answer,
        peers: Peers,
        *,
        is_over: Callable[[], bool],
        accelerator: accelerators.Question,
    ) -> Start | None:
        """Where this attempt starts; None when node rank 0 has recorded its result before this node could ask."""
        if not self.gang.leads:
            return rendezvous.wait_for_start(
                self.gang.master_address,
                self.context.metrics_port,
                node_rank=self.gang.node_rank,
                owner=run.owner.uid,
                attempt=self.context.attempt,
                is_over=is_over,
            )
        begun = start.decide(
            run, experiment, attempt=self.context.attempt, pod=self.gang.pod_uid, nodes=self.gang.nodes
        )
        answer.tell(begun)
        if not begun.finished:
            rendezvous.wait_for_nodes(answer, peers.names, self.gang.master_port, accelerator.check)
        return begun

    def _judge(self, end: torchrun.End, output: Path, train_arguments: Mapping[str, Any]) -> None:
        """Raise what the workers' end means, unless they trained to the last step."""
        drained = files.read_json_object(self.context.scratch / DRAINED_FILE)
        if drained is not None:
            who = "this pod" if self.stop.requested else "another pod of this training"
            interrupted = Interrupted(f"{who} was asked to stop; a checkpoint at step {drained['step']} is saved.")
            _announce(self.context, self.gang, self.reader, "Interrupted", interrupted)
            if self.gang.leads:
                tidying.remove_superseded(output, train_arguments.get("save_total_limit"))
            raise interrupted
        room, full = space.room(self.context.workspace), space.is_full(self.context.workspace)
        if end.exit_code != 0 and self.gang.nodes == 1:  # other nodes may still write, and hold the cause
            tidying.remove_incomplete(output)
        if (different := files.read_json_object(self.context.scratch / DIFFERENT_FILE)) is not None:
            raise StageError(
                "StartMismatch",
                "The pods were to start from different places, so nothing was trained: "
                f"{_differences(different['starts']):.700}. The next attempt decides anew.",
            )
        if end.stall is not None:
            raise StageError(
                "TrainingStalled",
                f"no step was done for {end.stall.seconds:.0f} s after step {end.stall.step} "
                "(spec.runPolicy.stallTimeoutSeconds). Where each process stood is in the logs of all training pods "
                f"and, on the volume, in train/{output.name}/stacks: mostly the others wait for the one that "
                "is not in a collective operation. If steps may take as long, raise the time.",
            )
        if end.lost_peer is not None:
            raise StageError("PeerLost", f"{end.lost_peer} went away; the cause stands in that pod.")
        if end.exit_code != 0:
            raise self._cause(end, output, room, full=full)

    def _cause(self, end: torchrun.End, output: Path, room: str, *, full: bool) -> StageError:
        """What made the workers fail. `room` is what was free on the volume then, `full` whether that is none."""
        left = failures.read_error_files(self.context.scratch / "tmp")
        denied = functools.partial(denied_later, workspace=self.context.workspace, scratch=self.context.scratch)
        error = failures.cause(left, end.output, end.exit_code, denied)
        unloadable = files.read_json_object(self.context.scratch / UNLOADABLE_FILE)
        # What has a reason of its own, such as memory, says nothing about the checkpoint.
        if unloadable is not None and error.reason == "TrainingFailed":
            checkpoint = Path(unloadable["checkpoint"])
            return unloading.judge(checkpoint, unloadable["why"], error, attempt=output.name)
        if error.reason != "DiskFull" and failures.UNWRITABLE not in error.message:
            return error
        if self.gang.leads:
            tidying.remove_incomplete(output)
        reason = "DiskFull" if full else error.reason
        return StageError(reason, f"{error.message} On {self.context.workspace} {room}.")

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

    def _finish(self, run: Run, experiment: Experiment, directory: Path, train_arguments: Mapping[str, Any]) -> Result:
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
        known = self.reader.read()
        metrics = known.metrics() if known else progress.metrics_of(state)
        if run.evaluation is not None and run.evaluation.keep_best:
            self._take_best(directory, state)
        if run.tuning.pissa:
            pissa.convert(directory)
        kind = "adapter" if run.tuning.method == "lora" else "model"
        output = outputs.describe(directory, self.context.workspace, exclude=checkpoints.NOT_OUTPUT)
        if not run.merge_planned:
            output = outputs.with_digest(output, self.context.workspace, exclude=checkpoints.NOT_OUTPUT)
        workspace.require_ownership(run)  # another job may have been told to take the directory over meanwhile
        result = Result(metrics=metrics, outputs={kind: output})
        record.write(
            run,
            experiment,
            directory,
            result,
            attempt=self.context.attempt,
            processes=self.gang.processes,
            device=known.device if known else None,
            arguments=train_arguments,
        )
        return self._reported(run, result, train_arguments)

    def _reported(self, run: Run, result: Result, train_arguments: Mapping[str, Any]) -> Result:
        """The recorded result, with the page that node rank 0 leaves of the run, and samples on it."""
        if not self.gang.leads:
            return result
        samples.leave(run, train_arguments, self.context.scratch, lambda: self.stop.requested)
        return replace(result, outputs={**result.outputs, **report_file.leave(run, self.context.workspace)})


def _is_over(run: Run, experiment: Experiment, accelerator: accelerators.Question) -> bool:
    """Whether there is nothing left to wait for: the training is recorded. Raises AcceleratorMissing."""
    if record.read(run, experiment) is not None:
        return True
    accelerator.check()
    return False


def _require_preparation(run: Run) -> None:
    if not run.prepare_result.is_file() or not run.tokenized_directory.is_dir():
        raise PermanentError(
            "PreparationMissing",
            f"{run.run_directory} was not prepared: run the prepare stage on this volume first.",
        )


def _require_inputs(run: Run, train_arguments: Mapping[str, Any]) -> None:
    """Packages, model and an adapter that is trained on: before others are waited for."""
    model_checks.check_packages(train_arguments)
    model_source.require(run)
    continued.require(run)
