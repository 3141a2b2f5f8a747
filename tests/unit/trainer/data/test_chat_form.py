"""How conversations are written, with a stand-in that has the parts of LLaMA-Factory's templates that are used.

That real templates give what the models' chat templates give is shown in the image (tests/templates).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from qwensft_trainer.data import tool_calls
from qwensft_trainer.data.chat_form import ChatForm, Defaults, defaults_of
from qwensft_trainer.data.tool_calls import Call

PAIR = "<think>\n\n</think>\n\n"


class FunctionCall(NamedTuple):
    """LLaMA-Factory's."""

    name: str
    arguments: str


class Template:
    """Gives one "token id" per message: its text."""

    def __init__(self, tool_format: str = "qwen") -> None:
        self.default_system = "of LLaMA-Factory"
        self.format_tools = SimpleNamespace(
            tool_format=tool_format, apply=lambda content: [f"\n\n# Tools\n{len(json.loads(content))}"]
        )
        self.format_function = SimpleNamespace(
            tool_utils=SimpleNamespace(
                function_formatter=lambda calls: "|".join(f"{c.name} {c.arguments}" for c in calls)
            )
        )

    def _encode(self, _: Any, messages: list[dict[str, str]], system: str, tools: None) -> list[list[str]]:
        assert tools is None
        assert self.default_system == ""  # LLaMA-Factory would put it in the place of an empty one
        texts = [f"{one['role']}: {one['content']}" for one in messages]
        return [[f"system: {system}; {texts[0]}"], *([text] for text in texts[1:])]

    def get_thought_word_ids(self, _: Any) -> list[str]:
        return [PAIR]


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("llamafactory.data.tool_utils")
    vars(module)["FunctionCall"] = FunctionCall
    for name in ("llamafactory", "llamafactory.data"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "llamafactory.data.tool_utils", module)


def form(name: str = "qwen3", *, thinks: bool = True, tool_format: str = "qwen") -> ChatForm:
    return ChatForm(Template(tool_format), name, Defaults("Be kind.", "Use tools.\n\n"), thinks=thinks)


def encoded(writer: ChatForm, *answers: Any, system: str = "S", tools: str = "", **options: Any) -> Any:
    messages = [
        message
        for one in answers
        for message in (
            {"role": "user", "content": " Q "},
            one if isinstance(one, dict) else {"role": "assistant", "content": one},
        )
    ]
    return writer.encode(None, messages, system, tools, **options)


def test_an_empty_pair_is_learnt_or_part_of_the_prompt() -> None:
    assert encoded(form(), "A") == [(["system: S; user:  Q "], [PAIR, "assistant: A"])]
    assert encoded(form(thinks=False), "A") == [(["system: S; user:  Q ", PAIR], ["assistant: A"])]
    assert encoded(form("qwen"), "A") == [(["system: S; user:  Q "], ["assistant: A"])]


def test_with_the_last_answer_alone_earlier_ones_have_no_thoughts() -> None:
    thought = "<think>\nhm\n</think>\n\nA"
    assert encoded(form(), thought, thought, last_alone=True) == [
        (["system: S; user:  Q "], ["assistant: A"]),
        (["user:  Q "], [f"assistant: {thought}"]),
    ]


def test_an_answer_that_is_not_learnt_is_part_of_the_next_question() -> None:
    unlearnt = {"role": "assistant", "content": "A", "learn": False}
    assert encoded(form("qwen"), unlearnt, "B") == [
        (["system: S; user:  Q ", "assistant: A", "user:  Q "], ["assistant: B"]),
    ]


@pytest.mark.parametrize(
    ("name", "tool_format", "expected"),
    [
        ("qwen3", "qwen", 'assistant: Hm. \nweather {"sunny": true, "days": [1]}'),
        ("qwen3_5", "qwen3_5", 'assistant: Hm.\n\nweather {"sunny": "True", "days": [1]}'),
    ],
)
def test_calls_are_written_after_what_is_said(name: str, tool_format: str, expected: str) -> None:
    content = tool_calls.written("Hm. ", [Call("weather", {"sunny": True, "days": [1]})])
    [(_, learnt)] = encoded(form(name, tool_format=tool_format), {"role": "function", "content": content})
    assert learnt == [PAIR, expected]


@pytest.mark.parametrize(
    ("name", "system", "tools", "expected"),
    [
        ("qwen", "", "", "Be kind."),
        ("qwen", "S", "[1]", "S\n\n# Tools\n1"),
        ("qwen", "", "[1]", "Use tools.\n\n# Tools\n1"),
        ("qwen3_5", " S ", "[1]", "# Tools\n1\n\nS"),
    ],
)
def test_the_system_prompt_and_the_tools(name: str, system: str, tools: str, expected: str) -> None:
    [(asked, _)] = encoded(form(name), "A", system=system, tools=tools)
    assert asked[0].removeprefix("system: ").partition("; user")[0] == expected


def test_qwen3_5_has_its_texts_trimmed_results_one_by_one() -> None:
    content = tool_calls.NEXT_RESULT.join([" a ", " b "])
    said = "<think>\n  hm\n</think>\n\n A\n"
    messages = [{"role": "observation", "content": content}, {"role": "assistant", "content": said}]
    pairs: Any = form("qwen3_5").encode(None, messages, "S")
    [(asked, learnt)] = pairs
    assert asked == [f"system: S; observation: {tool_calls.NEXT_RESULT.join('ab')}"]
    assert learnt == ["assistant: <think>\nhm\n</think>\n\nA"]


def rendering(plain: str, with_tools: str) -> Callable[..., str]:
    return lambda messages, tools=None: with_tools if tools else plain


@pytest.mark.parametrize(
    ("plain", "with_tools", "expected"),
    [
        ("<|im_start|>user\n", "<|im_start|>system\n# Tools\n", Defaults("", "")),
        (
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n",
            "<|im_start|>system\nUse them.\n\n# Tools\n",
            Defaults("Be kind.", "Use them.\n\n"),
        ),
        ("[INST]", "[INST]", None),
        ("<|im_start|>user\n", "<|im_start|>user\n", None),
    ],
)
def test_defaults_are_asked_of_the_chat_template(plain: str, with_tools: str, expected: Defaults | None) -> None:
    assert defaults_of(rendering(plain, with_tools)) == expected


def test_a_chat_template_that_fails_tells_nothing() -> None:
    def render(*_: Any, **__: Any) -> str:
        raise ValueError("no")

    assert defaults_of(render) is None
