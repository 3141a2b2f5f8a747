"""Writes conversations of the normal form as the model's own chat template does, with LLaMA-Factory's template.

LLaMA-Factory 0.9.5 writes some things otherwise than the chat templates that the models are shipped with: which system
prompt a row without one gets, where the tools stand in it, how calls are set apart from what is said before them, which
blanks are taken off, and it takes thoughts for what they are in one spelling only. Here is all of that; special
tokens, formats of calls and the encoding itself are the template's. ADR 0084 has the list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwensft_trainer.data import thoughts, tool_calls
from qwensft_trainer.data.tool_calls import Call
from qwensft_trainer.data.turns import ASSISTANT, FUNCTION
from qwensft_trainer.model import families

_XML_CALLS = "qwen3_5"  # LLaMA-Factory's name for the calls of Qwen3-Coder, and of Qwen3.5 and later
_SYSTEM, _END, _TOOLS = "<|im_start|>system\n", "<|im_end|>\n", "# Tools\n"
_ANY_TOOL = {"type": "function", "function": {"name": "any", "description": "", "parameters": {}}}
_NO_SCALARS = (dict, list, str)

Pairs = list[tuple[list[int], list[int]]]


@dataclass(frozen=True)
class Defaults:
    """How a chat template begins a conversation that has no system prompt: without tools, and before its tools."""

    system: str
    before_tools: str

    @classmethod
    def of(cls, template: Any) -> Defaults:
        """As LLaMA-Factory's template begins it."""
        system = str(template.default_system)
        return cls(system, f"{system}\n\n" if system else "")


@dataclass(frozen=True)
class ChatForm:
    """One template's way of writing. `template` is LLaMA-Factory's `name`.

    With `thinks` false no thoughts are trained; an empty pair of tags is part of the prompt, as at inference.
    """

    template: Any
    name: str
    defaults: Defaults
    thinks: bool

    def __post_init__(self) -> None:
        self.template.default_system = ""  # it would stand in for a system prompt that is meant to be empty

    def encode(
        self,
        tokenizer: Any,
        messages: Sequence[Mapping[str, Any]],
        system: str | None = None,
        tools: str | None = None,
        last_alone: bool = False,
    ) -> Pairs:
        """Token ids of each question and its answer, like Template.encode_multiturn, in whose place this stands.

        A message with a false "learn" is an answer that is not to be learnt: it becomes part of the next question. With
        `last_alone` (mask_history) the answers before the last one have no thoughts, since only the last is
        trained.
        """
        written = [dict(message) for message in messages]
        empty_pairs = set()
        for index in range(1, len(written), 2):
            remembers = not last_alone or index == len(written) - 1
            thought, written[index] = self._answer(written[index], with_thought=remembers)
            cut_off = self.thinks and thoughts.begins(written[index]["content"])
            if self._reasons and remembers and thought is None and not cut_off:
                empty_pairs.add(index)
        for index in range(0, len(written), 2):
            results = written[index]["content"].split(tool_calls.NEXT_RESULT)
            written[index]["content"] = tool_calls.NEXT_RESULT.join(self._trimmed(result) for result in results)
        encoded = self.template._encode(tokenizer, written, self._system(system, tools), None)
        pair = self.template.get_thought_word_ids(tokenizer) if empty_pairs else []
        for index in empty_pairs:
            if self.thinks:
                encoded[index] = pair + encoded[index]
            else:
                encoded[index - 1] = encoded[index - 1] + pair
        return _pairs(encoded, [message.get("learn") is not False for message in messages[1::2]])

    def _answer(self, message: dict[str, str], *, with_thought: bool) -> tuple[str | None, dict[str, str]]:
        thought, said = thoughts.apart(message["content"])
        if self._reasons and not (with_thought and self.thinks):
            thought = None
        thought = thought and self._trimmed(thought)
        if message["role"] in (FUNCTION, "function"):
            said, calls = tool_calls.read(said)
            said = self._with_calls(said.strip() if self._has_xml_calls else said, calls)
        else:
            said = self._trimmed(said)
            said = said.lstrip("\n") if self._reasons else said
        return thought, {"role": ASSISTANT, "content": thoughts.together(thought, said)}

    def _with_calls(self, said: str, calls: Sequence[Call]) -> str:
        from llamafactory.data.tool_utils import FunctionCall

        gap = ("\n\n" if self._has_xml_calls else "\n") if said else ""
        texts = [FunctionCall(call.name, json.dumps(self._arguments(call), ensure_ascii=False)) for call in calls]
        return said + gap + str(self.template.format_function.tool_utils.function_formatter(texts))

    def _arguments(self, call: Call) -> dict[str, Any]:
        if not self._has_xml_calls:
            return call.arguments
        # Jinja's `string` filter, which the chat templates use, writes True and None as Python does.
        return {key: value if isinstance(value, _NO_SCALARS) else str(value) for key, value in call.arguments.items()}

    def _system(self, system: str | None, tools: str | None) -> str:
        prompt = self._trimmed(system or self.defaults.system)
        if not tools:
            return prompt
        text = str(self.template.format_tools.apply(content=self._tools(tools))[0]).lstrip("\n")
        if self._is_qwen3_5:
            return text + ("\n\n" if prompt else "") + prompt
        return (f"{system}\n\n" if system else self.defaults.before_tools) + text

    def _tools(self, tools: str) -> str:
        """LLaMA-Factory takes {type, function} off tools that it writes as XML does; the chat templates leave it."""
        listed = json.loads(tools)
        wrapped = [{"type": "function", "function": tool} for tool in listed] if self._has_xml_calls else listed
        return json.dumps(wrapped, ensure_ascii=False)

    @property
    def _reasons(self) -> bool:
        return self.name in families.REASONING

    @property
    def _is_qwen3_5(self) -> bool:
        return self.name in families.QWEN3_5

    @property
    def _has_xml_calls(self) -> bool:
        return bool(self.template.format_tools.tool_format == _XML_CALLS)

    def _trimmed(self, text: str) -> str:
        return text.strip() if self._is_qwen3_5 else text


def _pairs(encoded: Sequence[list[int]], learnt: Sequence[bool]) -> Pairs:
    pairs: Pairs = []
    before: list[int] = []
    for question, answer, is_learnt in zip(encoded[::2], encoded[1::2], learnt, strict=True):
        if is_learnt:
            pairs.append((before + question, answer))
            before = []
        else:
            before = before + question + answer
    return pairs


def defaults_of(render: Callable[..., str]) -> Defaults | None:
    """How a chat template begins conversations without a system prompt; None where it cannot be told.

    `render` applies the model's chat template to messages, and `tools`, and gives its text.
    """
    question = [{"role": "user", "content": "question"}]
    try:
        plain, with_tools = render(question), render(question, tools=[_ANY_TOOL])
    except Exception:  # whatever a template of the user's own raises
        return None
    before, _, _ = with_tools.partition(_TOOLS)
    if not before.startswith(_SYSTEM) or _TOOLS not in with_tools:
        return None
    system = plain.removeprefix(_SYSTEM).partition(_END)[0] if plain.startswith(_SYSTEM) else ""
    return Defaults(system, before.removeprefix(_SYSTEM))
