"""Whether sample rows are trained as the model's own chat template writes them, which is how servers will ask.

Where they differ a warning says so, and so does the record of the merge. ADR 0084 names the differences that are meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qwensft_trainer.data import thoughts, tool_calls
from qwensft_trainer.data.chat_form import ChatForm
from qwensft_trainer.data.turns import ASSISTANT, FUNCTION, OBSERVATION
from qwensft_trainer.model import families

ROWS = 20
"""Of each dataset, so many rows are compared."""

# Where thoughts are part of what is said, the templates take what is left without them for words before a call.
_BEFORE_CALL = re.compile(r"(?<=</think>\n\n)\n(?=<tool_call>)|(?<=<\|im_start\|>assistant\n)\n(?=<tool_call>)")
_THOUGHT = re.compile(r"<think>\n.*?\n</think>\n\n", re.DOTALL)
_OPENED = "<think>\n"  # which thinking models' prompts end with, and training learns

_LONGEST = 100_000  # characters
Render = Callable[..., str]


@dataclass
class Parity:
    """How many rows were compared and how many differ; `first` is the place of the first of those."""

    compared: int = 0
    differ: int = 0
    first: str = ""

    def warning(self) -> str | None:
        """The sentence for a difference, None without any."""
        if not self.differ:
            return None
        return (
            f"{self.differ} of {self.compared} sample rows are trained otherwise than the model's own chat template "
            f"writes them (first: {self.first}), so servers will ask in another form: preview.txt shows what is trained"
        )

    def document(self) -> dict[str, Any]:
        """For the record."""
        return {"compared": self.compared, "differ": self.differ} | ({"first": self.first} if self.first else {})


class Comparison:
    """Compares rows with what `render`, the model's chat template, makes of messages."""

    def __init__(self, form: ChatForm, tokenizer: Any, render: Render) -> None:
        self._form, self._tokenizer, self._render = form, tokenizer, render
        self._reasons = form.name in families.REASONING

    def add(self, parity: Parity, rows: Mapping[str, list[Any]]) -> None:
        """Count rows of the normal form, those with images or videos and very long ones left out."""
        for number, messages in enumerate(rows["messages"]):
            if any(rows.get(kind, [None] * (number + 1))[number] for kind in ("images", "videos")):
                continue
            if sum(len(message["content"]) for message in messages) > _LONGEST:
                continue
            parity.compared += 1
            if not self._agrees(messages, rows["system"][number], rows["tools"][number]):
                parity.differ += 1
                parity.first = parity.first or f"dataset {rows['dataset'][number]}, {rows['place'][number]}"

    def _agrees(self, messages: list[dict[str, Any]], system: str, tools: str) -> bool:
        asked = [
            message | {"role": "function" if message["role"] == FUNCTION else message["role"]} for message in messages
        ]
        pairs = self._form.encode(self._tokenizer, asked, system, tools)
        chat = list(self._chat(messages, system))
        try:
            whole = self._shipped(chat, tools)
            prompt = self._shipped(chat[:-1], tools, add_generation_prompt=True).removesuffix(_OPENED)
        except Exception:  # whatever a template of the user's own raises
            return False
        if not whole.startswith(prompt) or pairs[-1][1] != self._ids(whole.removeprefix(prompt)):
            return False
        tokens = [token for pair in pairs for side in pair for token in side]
        if len(messages) == 2:
            return tokens == self._ids(whole)
        return _THOUGHT.sub("", str(self._tokenizer.decode(tokens))) == _THOUGHT.sub("", whole)

    def _chat(self, messages: list[dict[str, Any]], system: str) -> Iterator[dict[str, Any]]:
        """The row as a server is asked."""
        if system:
            yield {"role": "system", "content": system}
        for message in messages:
            content = message["content"]
            if message["role"] == OBSERVATION:
                yield from ({"role": "tool", "content": one} for one in content.split(tool_calls.NEXT_RESULT))
            elif message["role"] in (ASSISTANT, FUNCTION):
                yield self._answer(*thoughts.apart(content), calls=message["role"] == FUNCTION)
            else:
                yield {"role": "user", "content": content}

    def _answer(self, thought: str | None, said: str, *, calls: bool) -> dict[str, Any]:
        answer: dict[str, Any] = {"role": ASSISTANT, "content": said}
        if calls:
            said, found = tool_calls.read(said)
            function = [{"name": call.name, "arguments": call.arguments} for call in found]
            answer |= {"content": said, "tool_calls": [{"type": "function", "function": one} for one in function]}
        if thought is None or (self._reasons and not self._form.thinks):
            return answer
        if self._reasons:
            return answer | {"reasoning_content": thought}
        return answer | {"content": thoughts.together(thought, answer["content"])}

    def _shipped(self, chat: list[dict[str, Any]], tools: str, **options: Any) -> str:
        listed = json.loads(tools) if tools else None
        rendered = self._render(chat, tools=listed, enable_thinking=self._form.thinks, **options)
        return _BEFORE_CALL.sub("", rendered)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids
