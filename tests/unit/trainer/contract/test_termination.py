"""The termination message is strict JSON that fits into what the kubelet keeps."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qwensft_trainer.base import redaction
from qwensft_trainer.contract import termination
from qwensft_trainer.contract.termination import MAX_BYTES, MAX_MESSAGE_CHARACTERS, Report


def message_of(**fields: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"outcome": "Failed", "stage": "train", "attempt": 2, "rank": 0, "exit_code": 1}
    text = Report(**(base | fields)).to_json()
    assert len(text.encode()) <= MAX_BYTES
    parsed: dict[str, Any] = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    return parsed


def test_all_parts_are_told() -> None:
    outputs = {"adapter": {"path": "support/train/1", "sizeBytes": 7, "digest": "sha256:ab"}}
    assert message_of(
        outcome="Succeeded", exit_code=0, rank=0, metrics={"step": 5, "loss": 0.5, "evalLoss": None}, outputs=outputs
    ) == {
        "outcome": "Succeeded",
        "stage": "train",
        "attempt": 2,
        "rank": 0,
        "exitCode": 0,
        "message": "",
        "metrics": {"step": 5, "loss": 0.5},
        "outputs": outputs,
    }


def test_numbers_that_json_has_no_word_for_are_left_out() -> None:
    assert message_of(metrics={"loss": math.nan, "evalLoss": math.inf, "step": 3})["metrics"] == {"step": 3}


@given(text=st.text(alphabet=st.characters(codec=None), max_size=6000))
def test_any_message_fits_and_keeps_its_beginning(text: str) -> None:
    message = message_of(message=text * 3, reason="InvalidDataset")["message"]
    assert len(message) <= MAX_MESSAGE_CHARACTERS
    assert message[:20] == redaction.clean(text * 3)[:20]


def test_a_long_message_keeps_beginning_and_end() -> None:
    message = message_of(message="row 1 is bad. " + "x" * 9000 + " Set spec.datasets.")["message"]
    assert message.startswith("row 1 is bad.")
    assert message.endswith("Set spec.datasets.")


def test_four_byte_characters_are_counted_as_bytes() -> None:
    assert message_of(message="\N{DRAGON}" * 5000)["message"].startswith("\N{DRAGON}")


def test_a_file_that_cannot_be_written_does_not_end_the_stage(tmp_path: Path, capsys: Any) -> None:
    termination.write(tmp_path / "missing" / "log", Report("Succeeded", "prepare", 1, 0))
    assert "cannot write the termination message" in capsys.readouterr().out


def test_what_prepare_tells_is_told_as_it_is() -> None:
    model = {"layers": 28, "tied": True, "experts": None, "parameters": math.nan}
    metrics = {"samples": 3, "template": "qwen3", "warnings": ["2 rows are cut off"], "model": model}
    assert message_of(metrics=metrics)["metrics"] == metrics | {"model": {"layers": 28, "tied": True}}


def test_warnings_make_room_for_outputs() -> None:
    outputs = {"merged": {"path": "p", "digest": "sha256:1"}}
    found = message_of(metrics={"samples": 3, "warnings": ["x" * 1000] * 5}, outputs=outputs)
    assert (found["metrics"], found["outputs"]) == ({"samples": 3}, outputs)


def test_no_secret_and_no_control_character_is_in_any_part() -> None:
    redaction.secrets.add("hf_abcdefgh")
    found = message_of(
        message="401 for hf_abcdefgh \x1b[2J",
        metrics={"warnings": ["hf_abcdefgh"]},
        outputs={"adapter": {"path": "hf_abcdefgh/1"}},
    )
    assert found["message"] == "401 for [redacted] \\x1b[2J"
    assert found["metrics"] == {"warnings": ["[redacted]"]}
    assert found["outputs"] == {"adapter": {"path": "[redacted]/1"}}
