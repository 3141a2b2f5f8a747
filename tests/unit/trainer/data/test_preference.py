"""Preference data is never learned by accident, and the message says how to learn the better answer."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft_trainer.contract.config import Dataset
from qwensft_trainer.data.row_checks import conversation
from qwensft_trainer.data.row_fields import RowProblem

ASKED = {"role": "user", "content": "Which tea?"}
GOOD, BAD = {"role": "assistant", "content": "Green."}, {"role": "assistant", "content": "Mud."}


def problem(format_: Any, row: dict[str, Any], **more: Any) -> str:
    with pytest.raises(RowProblem) as caught:
        conversation(Dataset(name="d", format=format_, **more), row)
    return str(caught.value)


@pytest.mark.parametrize(
    ("format_", "row", "fix"),
    [
        ("alpaca", {"instruction": "Which tea?", "chosen": "Green.", "rejected": "Mud."},
         "set columns.response to 'chosen'"),
        ("alpaca", {"prompt": "Which tea?", "chosen": "Green.", "rejected": "Mud."},
         "set columns.prompt to 'prompt', columns.response to 'chosen'"),
        ("openai", {"prompt": "Which tea?", "chosen": "Green.", "rejected": "Mud."},
         "set the dataset's format to alpaca, columns.prompt to 'prompt', columns.response to 'chosen'"),
        ("openai", {"prompt": "Which tea?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
         "set columns.messages to 'chosen'"),
        ("sharegpt", {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
         "set the dataset's format to openai, columns.messages to 'chosen'"),
        ("openai", {"messages": [ASKED], "chosen": GOOD, "rejected": BAD},
         "append it to 'messages' as its last message"),
        ("openai", {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
         "append it to 'prompt' as its last message, and set columns.messages to 'prompt'"),
        ("alpaca", {"chosen": "\n\nHuman: Which tea?\n\nAssistant: Green.", "rejected": "Mud."},
         "write question and chosen answer as the messages of one conversation"),
    ],
)  # fmt: skip
def test_a_pair_without_an_answer_of_its_own_is_refused_with_the_fix(
    format_: Any, row: dict[str, Any], fix: str
) -> None:
    said = problem(format_, row)
    assert said.startswith(
        "it is a preference pair ('chosen', 'rejected'), and supervised fine-tuning learns one answer"
    )
    assert said.endswith(f": to learn 'chosen', {fix}")


def test_other_names_of_pairs_are_known() -> None:
    row = {"instruction": "Which tea?", "accepted": "Green.", "rejected": "Mud."}
    assert "'accepted', set columns.response to 'accepted'" in problem("alpaca", row)


def test_what_the_message_says_works() -> None:
    row = {"prompt": "Which tea?", "chosen": "Green.", "rejected": "Mud."}
    dataset = Dataset(name="d", format="alpaca", columns={"prompt": "prompt", "response": "chosen"})
    assert conversation(dataset, row).messages[1]["content"] == "Green."
    chosen = Dataset(name="d", format="openai", columns={"messages": "chosen"})
    assert conversation(chosen, {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}).messages[1] == GOOD


def test_a_pair_beside_a_whole_conversation_does_no_harm() -> None:
    row = {"messages": [ASKED, GOOD], "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}
    assert conversation(Dataset(name="d", format="openai"), row).messages[1] == GOOD


def test_another_fault_of_a_row_with_a_pair_is_told_as_it_is() -> None:
    row = {"instruction": 7, "output": "Green.", "chosen": "Green.", "rejected": "Mud."}
    assert problem("alpaca", row) == "field 'instruction' is a number; expected text"


@pytest.mark.parametrize("label", [False, "false", " False "])
@pytest.mark.parametrize("name", ["label", "kto_tag"])
def test_an_answer_that_is_labelled_as_bad_is_refused(name: str, label: Any) -> None:
    row = {"messages": [ASKED, BAD], name: label}
    assert problem("openai", row).startswith(f"'{name}' is false, which marks an answer to be avoided")


@pytest.mark.parametrize("label", [True, "true", 0, "negative", None])
def test_other_labels_pass(label: Any) -> None:
    assert conversation(Dataset(name="d", format="openai"), {"messages": [ASKED, GOOD], "label": label})


def test_a_label_that_the_job_reads_as_the_answer_is_one() -> None:
    dataset = Dataset(name="d", format="alpaca", columns={"response": "label"})
    assert conversation(dataset, {"instruction": "Is tea wine?", "label": "false"}).messages[1]["content"] == "false"
