"""What training makes of a row's thoughts, by the template and spec.model.enableThinking, and what to say of it.

docs/models.md has the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import and_
from typing import Any

from qwensft_trainer.data import thoughts
from qwensft_trainer.data.turns import USER
from qwensft_trainer.model import families

LEFT_OUT = "have thoughts, which spec.model.enableThinking: false leaves out of the training"
EARLIER = (
    "have thoughts in answers before the last question: they are trained, but the model's chat template leaves them "
    "out of later prompts"
)
AS_TEXT = (
    "have thoughts, which are trained as text of the answer: template {} and the model's chat template have none. Take "
    "them out, or train a model that thinks"
)

SKIPPED = "have no thoughts, but this model always thinks: it unlearns that. An Instruct model needs none"


@dataclass(frozen=True)
class Thinking:
    """How a model is trained to think: LLaMA-Factory's template, the model's own chat template, and enableThinking."""

    template: str
    chat_template: str | None = None
    on: bool = True

    def remarks(self, messages: Sequence[dict[str, Any]]) -> tuple[str, ...]:
        """What the rows' owner should know of a row in the normal form."""
        thinking = [bool(thoughts.apart(message["content"])[0]) for message in messages[1::2]]
        asked = max(index for index in range(0, len(messages), 2) if index == 0 or messages[index]["role"] == USER)
        chat_template = self.chat_template or ""
        if not any(thinking):
            always = "<think>" in chat_template and "enable_thinking" not in chat_template
            return (SKIPPED,) if always else ()
        if self.template not in families.REASONING:
            return () if "<think>" in chat_template else (AS_TEXT.format(self.template),)
        if not self.on:
            return (LEFT_OUT,)
        learnt = [message.get("learn") is not False for message in messages[1:asked:2]]
        return (EARLIER,) if any(map(and_, thinking, learnt)) else ()
