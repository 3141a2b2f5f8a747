"""Which weights a training leaves that keeps its best checkpoint, or ends early."""

from __future__ import annotations

import json

import pytest

from qwensft_trainer.stages import train

from ..conftest import Scene
from .conftest import TRAINED, Torchrun

BEST = """
    import pathlib
    best = pathlib.Path(output) / "checkpoint-40"
    best.mkdir(parents=True)
    (best / "adapter_model.safetensors").write_text("best weights")
    (best / "optimizer.pt").write_text("optimizer")
    json.dump({"global_step": 40, "max_steps": 100}, open(best / "trainer_state.json", "w"))
    state = {"global_step": 60, "max_steps": 100, "epoch": 3.0, "best_metric": 1.5, "best_global_step": 40}
    state["best_model_checkpoint"] = str(best)
    state["log_history"] = [{"eval_loss": 1.5, "step": 40}, {"eval_loss": 1.75, "step": 60}]
    counted = {"early_stopping_patience_counter": 1}
    callback = {"args": {"early_stopping_patience": 1, "early_stopping_threshold": 0.1}, "attributes": counted}
    state["stateful_callbacks"] = {"EarlyStopping": callback}
    os.makedirs(output + "/checkpoint-60")
    for folder in (output, output + "/checkpoint-60"):
        json.dump(state, open(folder + "/trainer_state.json", "w"))
        open(folder + "/adapter_model.safetensors", "w").write("last weights")
    seal(output + "/checkpoint-40")
    seal(output + "/checkpoint-60")
"""
SELECTION = {"fraction": 0.1, "keepBest": True, "earlyStopping": {"patience": 1, "minDelta": 0.1}}


def test_a_training_that_may_stop_early_is_complete_when_it_does(prepared: Scene, torchrun: Torchrun) -> None:
    prepared.train["early_stopping_steps"] = 3
    torchrun.does(TRAINED.replace('"global_step": 100', '"global_step": 60'))
    assert train.main(prepared.context).metrics["totalSteps"] == 100


def test_the_best_checkpoint_is_the_result_of_a_training_that_ended_early(prepared: Scene, torchrun: Torchrun) -> None:
    prepared.document["evaluation"] = SELECTION
    torchrun.does(BEST)
    result = train.main(prepared.context)
    directory = prepared.run_directory / "train" / "1"
    assert (directory / "adapter_model.safetensors").read_text() == "best weights"
    assert not (directory / "optimizer.pt").exists()
    assert json.loads((prepared.root / "scratch" / "selection.json").read_text()) == {
        "keepBest": True,
        "earlyStopping": {"patience": 1, "minDelta": 0.1},
    }
    assert {key: result.metrics[key] for key in ("step", "evalLoss", "bestEvalLoss", "bestStep")} == {
        "step": 60,
        "evalLoss": 1.75,
        "bestEvalLoss": 1.5,
        "bestStep": 40,
    }


def test_an_attempt_that_died_after_it_had_ended_early_is_not_trained_on(prepared: Scene, torchrun: Torchrun) -> None:
    prepared.document["evaluation"] = SELECTION
    torchrun.does(BEST)
    train.main(prepared.context)
    (prepared.run_directory / "train.json").unlink()
    torchrun.does("sys.exit(9)")
    train.main(prepared.attempt(2))
    assert (prepared.run_directory / "train" / "1" / "adapter_model.safetensors").read_text() == "best weights"


def test_without_a_best_checkpoint_the_last_one_is_taken_and_nothing_is_lost(
    prepared: Scene, torchrun: Torchrun, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared.document["evaluation"] = SELECTION
    torchrun.does(BEST + "    import shutil; shutil.rmtree(best)\n")
    train.main(prepared.context)
    directory = prepared.run_directory / "train" / "1"
    assert (directory / "adapter_model.safetensors").read_text() == "last weights"
    assert "keepBest finds no checkpoint of the best evaluation (step 40)" in capsys.readouterr().out


def test_without_the_wish_the_last_weights_are_the_result(prepared: Scene, torchrun: Torchrun) -> None:
    prepared.document["evaluation"] = SELECTION | {"keepBest": False}
    torchrun.does(BEST)
    train.main(prepared.context)
    directory = prepared.run_directory / "train" / "1"
    assert (directory / "adapter_model.safetensors").read_text() == "last weights"
