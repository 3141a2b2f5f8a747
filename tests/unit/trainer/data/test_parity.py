"""Rows that are trained otherwise than the model's chat template writes them are counted, with the first one's place.

With a stand-in for LLaMA-Factory's template; tests/templates compares the real ones.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from qwensft_trainer.data import tool_calls
from qwensft_trainer.data.parity import Comparison, Parity
from qwensft_trainer.data.tool_calls import Call

CALL = tool_calls.written("", [Call("kiln", {"cone": 6})])


def turn(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def chat_template(messages: list[dict[str, Any]], **options: Any) -> str:
    text = "".join(turn(one["role"], one["content"] + "".join(map(str, one.get("tool_calls", ())))) for one in messages)
    return text + ("<|im_start|>assistant\n" if options.get("add_generation_prompt") else "")


class Form:
    """Trains what the chat template writes, but for answers that hold "other"."""

    name, thinks = "qwen", True

    def encode(self, tokenizer: Any, messages: list[dict[str, Any]], system: str, tools: str) -> Any:
        pairs, asked = [], turn("system", system) if system else ""
        for question, answer in zip(messages[::2], messages[1::2], strict=True):
            for part in question["content"].split(tool_calls.NEXT_RESULT):
                asked += turn("tool" if question["role"] == "observation" else "user", part)
            said = answer["content"]
            if answer["role"] == "function":
                calls = tool_calls.read(said)[1]
                said = "".join(str({"type": "function", "function": vars(call)}) for call in calls)
            said = said.replace("other", "another")
            pairs.append((tokenizer.encode(asked + "<|im_start|>assistant\n"), tokenizer.encode(said + "<|im_end|>\n")))
            asked = ""
        return pairs


TOKENIZER = SimpleNamespace(
    encode=lambda text, **_: list(map(ord, text)), decode=lambda tokens: "".join(map(chr, tokens))
)


def compared(*rows: list[dict[str, str]], system: str = "") -> Parity:
    found = Parity()
    columns = {
        "messages": list(rows),
        "system": [system] * len(rows),
        "tools": [""] * len(rows),
        "dataset": ["tea"] * len(rows),
        "place": [f"file tea.json, row {number}" for number in range(1, len(rows) + 1)],
    }
    Comparison(Form(), TOKENIZER, chat_template).add(found, columns)  # type: ignore[arg-type]
    return found


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[index % 2], "content": content} for index, content in enumerate(contents)]


def test_rows_that_agree() -> None:
    calls = [
        {"role": "user", "content": "Fire it."},
        {"role": "function_call", "content": CALL},
        {"role": "observation", "content": "hot" + tool_calls.NEXT_RESULT + "hotter"},
        {"role": "assistant", "content": "Done."},
    ]
    found = compared(said("Hi", "Hello"), said("Hi", "Hello", "When?", "Friday"), calls, system="Be brief.")
    assert found == Parity(compared=3)
    assert found.warning() is None
    assert found.document() == {"compared": 3, "differ": 0}


def test_rows_that_differ_are_counted_and_the_first_is_named() -> None:
    found = compared(said("Hi", "Hello"), said("Which?", "The other."), said("A", "other", "B", "C"))
    assert (found.compared, found.differ, found.first) == (3, 2, "dataset tea, file tea.json, row 2")
    assert "2 of 3 sample rows are trained otherwise" in (found.warning() or "")


def test_a_template_that_fails_agrees_with_nothing() -> None:
    found = Parity()

    def fails(*_: Any, **__: Any) -> str:
        raise ValueError("no tools here")

    rows = {"messages": [said("Hi", "Hello")], "system": [""], "tools": [""], "dataset": ["tea"], "place": ["row 1"]}
    Comparison(Form(), TOKENIZER, fails).add(found, rows)  # type: ignore[arg-type]
    assert found.differ == 1


def test_rows_with_images_are_left_out() -> None:
    found = Parity()
    rows = {"messages": [said("Hi", "Hello")], "images": [["a.png"]], "system": [""], "tools": [""]}
    Comparison(Form(), TOKENIZER, chat_template).add(found, rows)  # type: ignore[arg-type]
    assert found.compared == 0
