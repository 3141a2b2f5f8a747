"""What prepare trains is what the chat template that a model is shipped with makes of the same conversation.

200 generated conversations in each format, token by token; docs/models.md lists what differs, and why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from quickstart import inputs
from quickstart.pods import printed_json, run_script
from quickstart.shell import REPOSITORY
from tests.e2e.runs import installed
from tests.templates.shipped import chat_templates

NAMESPACE = "qwensft-templates"
DOCUMENT = REPOSITORY / "docs" / "models.md"
SCRIPTS = Path(__file__).parent / "scripts"
CONVERSATIONS = 200
FORMATS = ("alpaca", "openai", "sharegpt")


@dataclass(frozen=True)
class Case:
    """A model's chat template (`shipped`), and how such a model is trained.

    With `only_answers` the prompts are not compared: LLaMA-Factory describes Qwen3-Coder's tools otherwise.
    """

    name: str
    template: str
    shipped: str
    thinks: bool = True
    tool_format: str | None = None
    only_answers: bool = False

    @property
    def described(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "template": self.template,
            "shipped": self.shipped,
            "thinks": self.thinks,
            "toolFormat": self.tool_format,
            "onlyAnswers": self.only_answers,
        }


CASES = (
    Case("Qwen2.5", "qwen", "Qwen-Qwen2.5-7B-Instruct"),
    Case("QwQ", "qwen", "Qwen-QwQ-32B"),
    Case("Qwen3", "qwen3", "Qwen-Qwen3-0.6B"),
    Case("Qwen3, thinking off", "qwen3", "Qwen-Qwen3-0.6B", thinks=False),
    Case("Qwen3-Coder", "qwen3_nothink", "Qwen3-Coder", tool_format="qwen3_5", only_answers=True),
    Case("Qwen3.5", "qwen3_5", "Qwen3.5-4B"),
    Case("Qwen3.5, thinking off", "qwen3_5", "Qwen3.5-4B", thinks=False),
)


def documented() -> dict[str, list[list[str]]]:
    """The table of docs/models.md: each row's answer, and for each column what the prompt gets and what is learnt."""
    table = re.search(r"^\| answer in the row .*?\n\n", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert table
    rows = [line.strip("| ").split(" | ") for line in table[0].splitlines()[2:] if line]
    return {_text(first): [_parts(cell) for cell in cells] for first, *cells in rows}


def _parts(cell: str) -> list[str]:
    added, _, learnt = cell.rpartition("**`")
    return [_text(added.strip()), _text(f"`{learnt}".removesuffix("**"))]


def _text(code: str) -> str:
    return code.strip("`").replace("⏎", "\n")


@pytest.fixture(scope="module")
def compared() -> Iterator[dict[str, Any]]:
    """What compare_templates.py says of all cases, in the trainer image."""
    ready = installed()
    ready.kubectl.delete("namespace", NAMESPACE)
    inputs.make_namespace(ready.kubectl, NAMESPACE)
    printed = run_script(
        ready.kubectl,
        NAMESPACE,
        SCRIPTS / "compare_templates.py",
        [str(CONVERSATIONS), json.dumps([case.described for case in CASES]), json.dumps(list(documented()))],
        image=ready.images.tiny_model,  # the trainer image, and a tokenizer
        claims={},
        files={"conversations.py": (SCRIPTS / "conversations.py").read_text()}
        | chat_templates({case.shipped for case in CASES}),
    )
    yield printed_json(printed)
    ready.kubectl.delete("namespace", NAMESPACE)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_trained_is_what_the_chat_template_writes(case: Case, form: str, compared: dict[str, Any]) -> None:
    found = compared[case.name][form]
    assert found["compared"] == CONVERSATIONS
    assert found["differences"] == []


@pytest.mark.parametrize(("column", "case"), enumerate(["Qwen3", "Qwen3, thinking off", "Qwen2.5"]))
def test_thoughts_become_what_the_documentation_says(column: int, case: str, compared: dict[str, Any]) -> None:
    assert compared[case]["learnt"] == {answer: cells[column] for answer, cells in documented().items()}
