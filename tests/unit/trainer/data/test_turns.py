"""Turns that mean one become one, and what follows the last answer that is learnt is left out."""

from __future__ import annotations

import pytest

from qwensft_trainer.data.row_fields import RowProblem
from qwensft_trainer.data.tool_calls import Call
from qwensft_trainer.data.turns import (
    ASSISTANT,
    FUNCTION,
    OBSERVATION,
    RESULT_OF_NOTHING,
    TAGS_AS_TEXT,
    TWO_RESULTS,
    USER,
    Turn,
    answer,
    joined,
    up_to_what_is_learnt,
)

CALL, OTHER = Call("weather", {"city": "Bonn"}), Call("weather", {"city": "Ulm"})
ASK, SAY = Turn(USER, "When?"), Turn(ASSISTANT, "Friday.")


def test_words_and_calls_in_turns_of_their_own_are_one_answer() -> None:
    said = Turn(ASSISTANT, "Let me see.", 2, thought="Hm.")
    calls = [Turn(FUNCTION, "", 3, calls=(CALL,)), Turn(FUNCTION, "", 4, calls=(OTHER,))]
    assert joined([ASK, said, *calls]) == [
        ASK,
        Turn(FUNCTION, "Let me see.", 2, thought="Hm.", calls=(CALL, OTHER)),
    ]


def test_words_between_calls_are_not_moved() -> None:
    calls = [Turn(FUNCTION, "", 3, calls=(CALL,)), Turn(FUNCTION, "And Ulm.", 4, calls=(OTHER,))]
    assert joined([ASK, *calls]) == [ASK, *calls]


def test_answers_in_a_row_stay_apart() -> None:
    assert joined([ASK, SAY, SAY]) == [ASK, SAY, SAY]


def test_empty_results_keep_their_place() -> None:
    [result] = joined([Turn(OBSERVATION, "sunny"), Turn(OBSERVATION, "")])
    assert result.content == "sunny\n</tool_response>\n<tool_response>\n"


def test_tags_that_are_no_calls_are_text_with_a_remark() -> None:
    turn = answer(Turn(ASSISTANT, "Write <tool_call> first."), None)
    assert (turn.role, turn.content, turn.remarks) == (ASSISTANT, "Write <tool_call> first.", (TAGS_AS_TEXT,))


UNLEARNT = Turn(ASSISTANT, "Monday.", learnt=False)


def test_an_answer_that_is_not_learnt_says_so() -> None:
    assert UNLEARNT.normal == {"role": ASSISTANT, "content": "Monday.", "learn": False}
    assert SAY.normal == {"role": ASSISTANT, "content": "Friday."}


def test_what_follows_the_last_learnt_answer_is_left_out() -> None:
    assert up_to_what_is_learnt([ASK, UNLEARNT, ASK, SAY, ASK, UNLEARNT], placeholders=True) == [
        ASK,
        UNLEARNT,
        ASK,
        SAY,
    ]


def test_a_row_without_anything_to_learn_is_refused() -> None:
    with pytest.raises(RowProblem, match="none of its answers is to be learned"):
        up_to_what_is_learnt([ASK, UNLEARNT], placeholders=True)


def test_images_cannot_be_left_out() -> None:
    with pytest.raises(RowProblem, match="it has images or videos after the last answer that is learned"):
        up_to_what_is_learnt([ASK, SAY, Turn(USER, "<image>", images=("a.png",)), UNLEARNT], placeholders=False)


def test_places_of_images_cannot_be_left_out_where_the_row_has_images() -> None:
    turns = [ASK, SAY, Turn(USER, "What is <image>?"), UNLEARNT]
    with pytest.raises(RowProblem, match="it has images or videos after the last answer that is learned"):
        up_to_what_is_learnt(turns, placeholders=True)
    assert up_to_what_is_learnt(turns, placeholders=False) == [ASK, SAY]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('<functioncall> {"name": "glaze_stock", "arguments": "{}"}', "<functioncall>"),
        ('I look it up. [TOOL_CALLS] [{"name": "glaze_stock"}]', "[TOOL_CALLS]"),
        ('<|python_tag|>{"name": "glaze_stock", "parameters": {}}', "<|python_tag|>"),
        ("<function=glaze_stock>\n</function>", "<function="),
        ('{"name": "glaze_stock", "arguments": {"colour": "teal"}}', "nothing but the JSON of a call"),
        ('[{"name": "glaze_stock", "parameters": {}}]', "nothing but the JSON of a call"),
    ],
)
def test_calls_in_other_spellings_are_text_with_a_remark(said: str, told: str) -> None:
    turn = answer(Turn(ASSISTANT, said), None)
    assert (turn.role, turn.content) == (ASSISTANT, said)
    assert told in turn.remarks[0]


@pytest.mark.parametrize("said", ['{"name": "Ada"}', "[]", '{"name": "x", "arguments"', '["name"]', '[{"name": {}}]'])
def test_other_json_is_an_answer_as_any(said: str) -> None:
    assert answer(Turn(ASSISTANT, said), None).remarks == ()


def test_two_results_of_one_call_are_told() -> None:
    call = Turn(FUNCTION, "", 2, calls=(CALL,), call_ids=("a",))
    results = [Turn(OBSERVATION, said, 3, call_ids=("a",)) for said in ("sunny", "rainy")]
    [*_, result] = joined([ASK, call, *results])
    assert result.remarks == (TWO_RESULTS,)


def test_a_result_after_an_answer_without_calls_is_told() -> None:
    [*_, result] = joined([ASK, Turn(ASSISTANT, "Action: weather"), Turn(OBSERVATION, "sunny")])
    assert result.remarks == (RESULT_OF_NOTHING,)
