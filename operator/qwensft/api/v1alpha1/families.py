"""Families of Qwen text models, recognised by name, and the chat template that LLaMA-Factory uses for each.

Vision, audio and omni models are left out on purpose: they need processors and data columns that this version lacks.
"""

import re
from typing import Final

_SIZE = r"[0-9]+(\.[0-9]+)?B(-A[0-9]+(\.[0-9]+)?B)?"
_OWNER = r"([^/]+/)*"
_QUANTISED = r"(-(AWQ|FP8|GPTQ-Int[48]))?"

FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "qwen": (
        rf"Qwen2(\.5)?-((Coder|Math)-)?{_SIZE}(-Instruct)?(-1M)?",
        r"QwQ-32B(-Preview)?",
    ),
    "qwen3": (
        rf"Qwen3-{_SIZE}(-Base|-Thinking-2507)?",
        rf"Qwen3-Next-{_SIZE}-Thinking",
    ),
    "qwen3_nothink": (
        rf"Qwen3-{_SIZE}-Instruct-2507",
        rf"Qwen3-(Next|Coder)-{_SIZE}-Instruct",
    ),
}
"""Template -> names of the models that use it, as regular expressions that RE2 (CEL) and Python read alike."""


def family_pattern(*templates: str) -> str:
    """Return one anchored regular expression for the names of the families that use one of the templates."""
    names = "|".join(name for template in templates for name in FAMILIES[template])
    return rf"^{_OWNER}({names}){_QUANTISED}$"


def infer_template(name: str) -> str | None:
    """Return LLaMA-Factory's template for a model name such as `Qwen/Qwen3-8B`, or None if the name tells no family.

    The owner (the part before the last slash) does not matter: mirrors keep the names.
    """
    return next((template for template in FAMILIES if re.fullmatch(family_pattern(template), name)), None)
