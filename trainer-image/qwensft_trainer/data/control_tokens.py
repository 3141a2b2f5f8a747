"""Control tokens inside the texts of rows: the tokenizer makes the template's own tokens of them.

A text that holds `<|im_end|>` ends its turn there. Rows like that are warned of or refused (`controlTokens`); ADR 0088
says why they cannot be escaped. Tokens that are content of their own (boxes, fill in the middle) are left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from qwensft_trainer.data.row_checks import Conversation
from qwensft_trainer.data.row_fields import RowProblem
from qwensft_trainer.data.turns import FUNCTION
from qwensft_trainer.model import families

_TURNS = re.compile(
    r"<\|(?:im_start|im_end|endoftext"
    r"|vision_start|vision_end|vision_pad|image_pad|video_pad|audio_start|audio_end|audio_pad)\|>"
)
_PADS = ("<|image_pad|>", "<|video_pad|>")
# Of other models' templates (Llama 2 to 4, Mistral, Gemma, Phi, Zephyr, DeepSeek, gpt-oss) and their images (Qwen-VL,
# Phi, InternLM), and what ms-swift fills in from a column of objects. "</s>" ends a text, else it is HTML.
_FOREIGN = re.compile(
    r"<\|(?:eot_id|eot|eom_id|end_of_text|begin_of_text|start_header_id|end_header_id|header_start|header_end"
    r"|assistant|user|system|end|channel|message|return|image_[0-9]+)\|>"
    r"|\[/INST\]|<(?:start|end)_of_turn>|<\uff5c(?:User|Assistant|end\u2581of\u2581sentence)\uff5c>"
    r"|</s>\s*\Z|<eos>\s*\Z|<bbox>|<ref-object>|<img>|<ImageHere>"
)
# Every token holds one of these, most rows hold none, and looking for them is many times faster than the patterns.
_HINTS = (
    "<|",
    "\\u003c",
    "[/INST]",
    "_of_turn>",
    "<\uff5c",
    "</s>",
    "<eos>",
    "<bbox>",
    "<ref-object>",
    "<img>",
    "<ImageHere>",
)

_OWN = "control tokens in their texts, which end or nest turns (the template writes its own; take them out)"
_OTHERS = "marks of another model's template or trainer in their texts, which are learned as text (take them out)"


class ControlTokens:
    """Counts the rows of one dataset that hold control tokens, and where the first one stands."""

    def __init__(self, template: str, *, refuse: bool = False) -> None:
        self._vision = template in families.VISION
        self._refuse = refuse
        self._own = _Found()
        self._foreign = _Found()

    def add(self, place: str, row: Conversation) -> None:
        """Look through a row; `place` names its file and number. Raises RowProblem where it must not be trained on."""
        whole = "\n".join([row.system, row.tools, *(message["content"] for message in row.messages)])
        if not any(hint in whole for hint in _HINTS):
            return
        for part, text in _texts(row):
            if tokens := _TURNS.findall(text):
                self._check(part, set(tokens))
                self._own.add(place, part, tokens)
            if tokens := [token.strip() for token in _FOREIGN.findall(text)]:
                self._foreign.add(place, part, tokens)

    def join(self, later: ControlTokens) -> None:
        """Add what was found in later rows."""
        self._own.join(later._own)
        self._foreign.join(later._foreign)

    def warnings(self, dataset: str, rows: int) -> list[str]:
        """One sentence for each of the two kinds of tokens that some of the dataset's `rows` hold."""
        return [
            f"dataset {dataset}: {found.rows} of {rows} rows hold {what}: {found.listed()}"
            for what, found in ((_OWN, self._own), (_OTHERS, self._foreign))
            if found.rows
        ]

    def _check(self, part: str, tokens: set[str]) -> None:
        if self._vision and (pad := next((pad for pad in _PADS if pad in tokens), None)):
            written = "<image>" if pad == _PADS[0] else "<video>"
            raise RowProblem(
                f"its {part} holds {pad}, which stands for no file: training would end there. Write {written} where "
                "the file belongs; the template does the rest"
            )
        if self._refuse:
            raise RowProblem(
                f"its {part} holds {', '.join(sorted(tokens))}, which the template writes itself: take it out, or set "
                "the dataset's controlTokens to Warn"
            )


class _Found:
    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first = self._last = ""
        self.rows = 0

    def add(self, place: str, part: str, tokens: list[str]) -> None:
        self._first = self._first or f"{place}, {part}"
        self._counts.update(tokens)
        self.rows += place != self._last
        self._last = place

    def join(self, later: _Found) -> None:
        self._first = self._first or later._first
        self._counts.update(later._counts)
        self.rows += later.rows

    def listed(self) -> str:
        counts = ", ".join(f"{count} times {token}" for token, count in self._counts.most_common())
        return f"{counts}, first in {self._first}"


def _texts(row: Conversation) -> Iterator[tuple[str, str]]:
    """Each text with what it is, such as "answer 2"."""
    yield "system prompt", row.system
    yield "tool descriptions", row.tools
    for index, message in enumerate(row.messages):
        text = message["content"]
        if message["role"] == FUNCTION:  # as the template will write it
            text = text.replace("\\u003c", "<")
        yield f"{'answer' if index % 2 else 'question'} {index // 2 + 1}", text
