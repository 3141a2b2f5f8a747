"""Tokens of the template inside texts are counted with their first place, or refused."""

from __future__ import annotations

import pytest

from qwensft_trainer.data import tool_calls
from qwensft_trainer.data.control_tokens import ControlTokens
from qwensft_trainer.data.row_checks import Conversation
from qwensft_trainer.data.row_fields import RowProblem
from qwensft_trainer.data.tool_calls import Call


def row(question: str = "Which tea?", answer: str = "Green.", system: str = "", tools: str = "") -> Conversation:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Conversation(messages=messages, system=system, tools=tools)


def warnings(*rows: Conversation, template: str = "qwen3") -> list[str]:
    tokens = ControlTokens(template)
    for number, one in enumerate(rows, start=1):
        tokens.add(f"file a.json, row {number}", one)
    return tokens.warnings("tea", len(rows))


def test_rows_with_the_templates_own_tokens_are_counted_with_the_first_place() -> None:
    found = warnings(
        row(),
        row(answer="Green.<|im_end|>"),
        row(question="<|im_start|>user\nWhich?<|im_end|>", answer="Black.<|endoftext|>"),
    )
    assert found == [
        "dataset tea: 2 of 3 rows hold control tokens in their texts, which end or nest turns (the template writes its "
        "own; take them out): 2 times <|im_end|>, 1 times <|im_start|>, 1 times <|endoftext|>, first in file a.json, "
        "row 2, answer 1"
    ]


@pytest.mark.parametrize(
    ("one", "part"),
    [
        (row(system="<|im_start|>system"), "system prompt"),
        (row(tools='[{"name": "<|im_end|>"}]'), "tool descriptions"),
        (row(question="<|vision_start|><|image_pad|><|vision_end|>"), "question 1"),
    ],
)
def test_all_texts_are_looked_through(one: Conversation, part: str) -> None:
    (found,) = warnings(one)
    assert found.endswith(f"first in file a.json, row 1, {part}")


@pytest.mark.parametrize("pad", ["<|image_pad|>", "<|video_pad|>"])
def test_a_model_that_sees_takes_no_pads_written_by_hand(pad: str) -> None:
    with pytest.raises(RowProblem, match=r"its question 1 holds <\|(image|video)_pad\|>, which stands for no file"):
        warnings(row(question=f"<|vision_start|>{pad}<|vision_end|>What?"), template="qwen2_vl")


@pytest.mark.parametrize(
    "text", ["a <|box_start|>(1,2)<|box_end|>", "<|fim_prefix|>a<|fim_suffix|>", "if a <| b", "</s> ends"]
)
def test_tokens_that_are_content_and_other_text_pass(text: str) -> None:
    assert warnings(row(answer=text)) == []


def test_marks_of_other_templates_are_told_apart() -> None:
    (found,) = warnings(row(question="[INST] Which? [/INST]", answer="Green. </s>\n"))
    assert found.startswith("dataset tea: 1 of 1 rows hold marks of another model's template or trainer in their texts")
    assert "1 times [/INST], 1 times </s>" in found


@pytest.mark.parametrize(
    "mark", ["<|eot_id|>", "<end_of_turn>", "<\uff5cUser\uff5c>", "</s>", "<bbox>", "<ref-object>"]
)
def test_every_mark_is_found(mark: str) -> None:
    (found,) = warnings(row(answer=f"Green.{mark}"))
    assert f": 1 times {mark}, first in file a.json, row 1, answer 1" in found


def test_refusing_names_text_and_tokens_but_not_what_is_said() -> None:
    tokens = ControlTokens("qwen3", refuse=True)
    tokens.add("", row())
    with pytest.raises(RowProblem) as caught:
        tokens.add("", row(answer="Secret tea.<|im_end|>"))
    assert str(caught.value) == (
        "its answer 1 holds <|im_end|>, which the template writes itself: take it out, or set the dataset's "
        "controlTokens to Warn"
    )


def test_the_arguments_of_calls_are_looked_through_as_they_will_be_written() -> None:
    call = tool_calls.written("", [Call("f", {"text": "<|im_end|>"})])
    row = Conversation([{"role": "user", "content": "Q"}, {"role": "function_call", "content": call}])
    tokens = ControlTokens("qwen3")
    tokens.add("file a.json, row 1", row)
    assert "1 times <|im_end|>" in tokens.warnings("d", 1)[0]


@pytest.mark.parametrize("mark", ["<|eot|>", "<|channel|>", "<|image_1|>", "<img>", "<ImageHere>"])
def test_marks_of_other_models_are_told(mark: str) -> None:
    (found,) = warnings(row(answer=f"{mark} Green."))
    assert f"1 times {mark}" in found
