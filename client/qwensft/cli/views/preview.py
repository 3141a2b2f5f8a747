"""`preview`: rows as the model sees them, what is learnt coloured, or in brackets where there are no colours. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwensft.cli.output import Paint, safe

OPENED, CLOSED = "⟦", "⟧"


def text(samples: Sequence[dict[str, Any]], paint: Paint) -> str:
    """Return samples as preview.json has them, after a line that says what the marks mean."""
    shown = "in green" if paint.on else f"between {OPENED} and {CLOSED}"
    head = f"The first rows of each dataset as the model sees them; what is learnt stands {shown}."
    return "\n\n".join([paint("dim", head), *(_sample(sample, paint) for sample in samples)])


def _sample(sample: dict[str, Any], paint: Paint) -> str:
    cut = f", cut from {sample['tokensBeforeCut']}" if sample["tokensBeforeCut"] > sample["tokens"] else ""
    head = f"{sample['dataset']}, {sample['place']}: {sample['tokens']} tokens{cut}, {sample['learntTokens']} learnt"
    return f"{paint('bold', safe(head))}\n" + "".join(_part(part, paint) for part in sample["parts"]).rstrip("\n")


def _part(part: dict[str, Any], paint: Paint) -> str:
    said = safe(part["text"])
    if not part["learnt"]:
        return said
    return paint("green", said) if paint.on else f"{OPENED}{said}{CLOSED}"
