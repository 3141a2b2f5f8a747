"""What nothing reads is listed once for each dataset, with counts and with what to set."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft_trainer.contract.config import Dataset
from qwensft_trainer.data.unread import Unread

ROW = {"instruction": "Which tea?", "output": "Green."}
ASKED, SAID = {"role": "user", "content": "Which tea?"}, {"role": "assistant", "content": "Green."}


def seen(*rows: Any, format_: Any = "alpaca", template: str = "qwen3", **more: Any) -> Unread:
    unread = Unread(Dataset(name="tea", format=format_, **more), template)
    for row in rows:
        unread.add(row)
    return unread


def warning(*rows: Any, **more: Any) -> str | None:
    return seen(*rows, **more).warning()


def test_rows_of_which_everything_is_read_need_no_warning() -> None:
    assert warning(ROW | {"input": "", "system": "Be brief.", "history": [], "tools": "[]", "images": None}) is None
    talk = [
        ASKED | {"weight": None},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "Hm.",
            "tool_calls": [{"id": "1", "type": "function"}],
        },
        {"role": "tool", "tool_call_id": "1", "name": "shop", "content": "Green."},
        SAID | {"weight": 1, "refusal": None},
    ]
    assert warning({"messages": talk, "tools": []}, format_="openai") is None


def test_unread_columns_are_counted_with_hints_first_and_usual_ones_last() -> None:
    found = warning(
        ROW | {"id": 1, "aroma": "grass", "context": "At home."}, ROW | {"aroma": "hay"}, ROW | {"source": "x"}
    )
    assert found == (
        "dataset tea: nothing reads column 'context' (1 of 3 rows: set columns.query to 'context'), "
        "column 'aroma' (2 of 3 rows), nor id, source"
    )


def test_usual_columns_alone_are_told_in_a_few_words() -> None:
    assert warning(ROW | {"id": 1, "source": "x"}) == "dataset tea: nothing reads id, source"


def test_a_column_that_is_empty_in_every_row_is_not_missed() -> None:
    assert warning(ROW | {"aroma": None, "notes": "", "images_of": []}) is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("system_prompt", "set columns.system to 'system_prompt'"),
        ("sytem", "set columns.system to 'sytem'"),
        ("functions", "set columns.tools to 'functions'"),
        ("Context", "set columns.query to 'Context'"),
        ("image", "this model reads text only"),
        ("Complex_CoT", "thoughts belong before the answer, between <think> tags"),
        ("rejected", "of a preference pair; the row's own answer is learned"),
        ("label", "if it marks bad answers, remove those rows"),
        ("split", "rows of all splits are used"),
        ("audio", "audio cannot be trained on"),
        ("enable_thinking", "spec.model.enableThinking holds for all rows"),
    ],
)
def test_a_name_that_tells_what_is_meant_gets_a_hint(name: str, hint: str) -> None:
    assert warning(ROW | {name: "x"}) == f"dataset tea: nothing reads column '{name}' (1 of 1 rows: {hint})"


def test_no_hint_takes_a_column_from_another_that_is_there() -> None:
    assert warning(ROW | {"system": "Be brief.", "system_prompt": "x"}) == (
        "dataset tea: nothing reads column 'system_prompt' (1 of 1 rows)"
    )


def test_a_model_that_sees_is_told_how_to_read_images() -> None:
    row = ROW | {"image": "tea.png"}
    assert warning(row, template="qwen2_vl") == (
        "dataset tea: nothing reads column 'image' (1 of 1 rows: set columns.images to 'image' and write <image> where "
        "each belongs)"
    )
    hint = seen(template="qwen2_vl").media_hint
    assert hint(row) == "; the row has 'image': set columns.images to 'image'"
    assert hint(row | {"images": ["tea.png"]}) == ""
    assert hint(ROW) == ""


def test_unread_keys_of_messages_and_parts_are_listed_with_hints() -> None:
    parts = [{"type": "image", "url": "tea.png"}, {"type": "text", "text": "Which?"}]
    row = {"messages": [ASKED | {"content": parts, "name": "Ann"}, SAID | {"tool_cals": [{"id": "1"}], "mood": "calm"}]}
    assert warning(row, row, format_="openai") == (
        "dataset tea: nothing reads message key 'tool_cals' (2 of 2 rows: did you mean 'tool_calls'?), "
        "key of a part 'url' (2 of 2 rows: a file belongs under 'image' or 'video'), message key 'mood' (2 of 2 rows), "
        "nor name"
    )


def test_sharegpt_messages_are_read_by_the_jobs_tags_also_from_text_cells() -> None:
    row = {"conversations": '[{"who": "human", "value": "Hi", "from": "x"}, {"who": "gpt", "value": "Hello"}]'}
    assert warning(row, format_="sharegpt", tags={"role_tag": "who"}) == (
        "dataset tea: nothing reads message key 'from' (1 of 1 rows)"
    )
    calls = {"conversations": [{"from": "gpt", "value": "", "function_call": {"name": "shop"}}]}
    assert "'function_call' (1 of 1 rows: format openai reads it)" in (warning(calls, format_="sharegpt") or "")


def test_names_are_shortened_and_their_number_is_bounded() -> None:
    found = warning(*(ROW | {f"{number:04}" + "x" * 99: 1} for number in range(1200)), ROW | {"system": "x"})
    assert found is not None
    assert "'0000" + "x" * 33 + "...'" in found
    assert found.endswith("959 more")  # 1000 names, of which eleven are read and thirty are shown


def test_columns_that_the_job_names_and_no_row_has_are_named_with_those_there_are() -> None:
    columns = {"messages": "messages", "system": "persona", "tools": "functoins", "images": "images"}
    rows = [{"messages": [ASKED, SAID], "system_prompt": "x"}, {"messages": [ASKED, SAID], "functions": "[]"}]
    assert seen(*rows, format_="openai", columns=columns).missing() == (
        "dataset tea: columns.system is 'persona' and columns.tools is 'functoins', which no row has; rows have "
        "functions, messages, system_prompt. Did you mean to set columns.system to 'system_prompt' and columns.tools "
        "to 'functions'?"
    )


def test_a_named_column_may_be_empty_or_in_some_rows_only_or_have_its_usual_name() -> None:
    assert seen(ROW, ROW | {"persona": None}, columns={"system": "persona"}).missing() is None
    assert seen(ROW, columns={"history": "history", "query": "input"}).missing() is None


def test_nothing_is_said_of_rows_that_could_not_be_read() -> None:
    assert seen(ROW, None, columns={"system": "persona"}).missing() is None
