"""Families of Qwen models, recognised by name: the chat template that LLaMA-Factory uses, and what users need to know.

The names are those that Qwen publishes; what is not in LLaMA-Factory's own table (Qwen3-Coder, Qwen3.6, FP8 copies)
follows the models that it is derived from. Audio and omni models are left out on purpose: rows have no audio column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

_SIZE = r"[0-9]+(\.[0-9]+)?B(-A[0-9]+(\.[0-9]+)?B)?"
_OWNER = r"([^/]+/)*"
_QUANTISED = r"(-(AWQ|FP8|GPTQ-Int[48]))?"

REASONING: Final = ("qwen3", "qwen3_vl", "qwen3_5", "qwen3_6")
"""Templates with a thinking mode that `enableThinking` turns on and off."""

VISION: Final = ("qwen2_vl", "qwen3_vl", "qwen3_vl_nothink", "qwen3_5", "qwen3_5_nothink", "qwen3_6")
"""Templates of models with a vision tower."""


@dataclass(frozen=True, slots=True)
class Family:
    """Models that share a template and limits."""

    title: str
    template: str
    pattern: str
    """The names without owner and quantisation suffix, as a regular expression that RE2 (CEL) and Python read alike."""
    context: int
    """Longest sequence that the models were trained for, in tokens; YaRN stretches some of them at inference."""
    thinking: Literal["never", "always", "switchable", "not trained"]
    """Whether answers begin with a chain of thought; base models were trained for neither."""

    @property
    def vision(self) -> bool:
        """Whether the models see images and videos."""
        return self.template in VISION


FAMILIES: Final = (
    Family("Qwen2", "qwen", rf"Qwen2-{_SIZE}(-Instruct)?", 32_768, "never"),
    Family("Qwen2-Math", "qwen", rf"Qwen2-Math-{_SIZE}(-Instruct)?", 4_096, "never"),
    Family("Qwen2.5", "qwen", rf"Qwen2\.5-{_SIZE}(-Instruct)?", 32_768, "never"),
    Family("Qwen2.5-1M", "qwen", rf"Qwen2\.5-{_SIZE}-Instruct-1M", 1_010_000, "never"),
    Family("Qwen2.5-Coder", "qwen", rf"Qwen2\.5-Coder-{_SIZE}(-Instruct)?", 32_768, "never"),
    Family("Qwen2.5-Math", "qwen", rf"Qwen2\.5-Math-{_SIZE}(-Instruct)?", 4_096, "never"),
    Family("QwQ", "qwen", r"QwQ-32B(-Preview)?", 32_768, "always"),
    Family("Qwen3 (hybrid)", "qwen3", rf"Qwen3-{_SIZE}", 32_768, "switchable"),
    Family("Qwen3 Base", "qwen3", rf"Qwen3-{_SIZE}-Base", 32_768, "not trained"),
    Family("Qwen3 Thinking-2507", "qwen3", rf"Qwen3-{_SIZE}-Thinking-2507", 262_144, "always"),
    Family("Qwen3 Instruct-2507", "qwen3_nothink", rf"Qwen3-{_SIZE}-Instruct-2507", 262_144, "never"),
    Family("Qwen3-Next Thinking", "qwen3", rf"Qwen3-Next-{_SIZE}-Thinking", 262_144, "always"),
    Family("Qwen3-Next Instruct", "qwen3_nothink", rf"Qwen3-Next-{_SIZE}-Instruct", 262_144, "never"),
    Family("Qwen3-Coder", "qwen3_nothink", rf"Qwen3-Coder-({_SIZE}-Instruct|Next(-Base)?)", 262_144, "never"),
    Family("Qwen2-VL", "qwen2_vl", rf"Qwen2-VL-{_SIZE}(-Instruct)?", 32_768, "never"),
    Family("Qwen2.5-VL", "qwen2_vl", rf"Qwen2\.5-VL-{_SIZE}-Instruct", 32_768, "never"),
    Family("QVQ", "qwen2_vl", r"QVQ-72B-Preview", 32_768, "always"),
    Family("Qwen3-VL Thinking", "qwen3_vl", rf"Qwen3-VL-{_SIZE}-Thinking", 262_144, "always"),
    Family("Qwen3-VL Instruct", "qwen3_vl_nothink", rf"Qwen3-VL-{_SIZE}-Instruct", 262_144, "never"),
    Family("Qwen3.5", "qwen3_5", rf"Qwen3\.5-{_SIZE}", 262_144, "switchable"),
    Family("Qwen3.5 Base", "qwen3_5", rf"Qwen3\.5-{_SIZE}-Base", 262_144, "not trained"),
    Family("Qwen3.6", "qwen3_6", rf"Qwen3\.6-{_SIZE}", 262_144, "switchable"),
)

MIXTURE_OF_EXPERTS: Final = rf"^{_OWNER}Qwen[^/]*-([0-9]+(\.[0-9]+)?B-A[0-9]+(\.[0-9]+)?B|Coder-Next)(-[^/]*)?$"
"""Names of mixtures of experts: the size is followed by that of the active part."""

LINEAR_ATTENTION: Final = rf"^{_OWNER}Qwen3(\.[56]-|-Next-|-Coder-Next)[^/]*$"
"""Names of models with layers of linear attention (gated delta net), beside those of full attention."""

NOT_YET: Final = rf"^{_OWNER}Qwen3\.8-[^/]*$"
"""Names of models that LLaMA-Factory does not know in the release that the trainer image holds."""

PRE_QUANTISED: Final = r"^.*-(AWQ|GPTQ-Int[48])$"
"""Names of models that are published quantised, in a form whose weights cannot be sharded."""


def family_pattern(families: Iterable[Family]) -> str:
    """Return one anchored regular expression for the names of the families."""
    names = "|".join(family.pattern for family in families)
    return rf"^{_OWNER}({names}){_QUANTISED}$"


def find_family(name: str) -> Family | None:
    """Return the family of a model name such as `Qwen/Qwen3-8B`, or None if the name tells none.

    The owner (the part before the last slash) does not matter: mirrors keep the names.
    """
    return next((family for family in FAMILIES if re.fullmatch(family_pattern([family]), name)), None)


def infer_template(name: str) -> str | None:
    """Return LLaMA-Factory's template for a model name, or None if the name tells no family."""
    family = find_family(name)
    return family.template if family else None


def is_mixture_of_experts(name: str) -> bool:
    """Whether the name tells a mixture of experts."""
    return re.fullmatch(MIXTURE_OF_EXPERTS, name) is not None


def has_linear_attention(name: str) -> bool:
    """Whether the name tells layers of linear attention."""
    return re.fullmatch(LINEAR_ATTENTION, name) is not None


def is_not_yet_known(name: str) -> bool:
    """Whether the name tells a model that cannot be trained yet."""
    return re.fullmatch(NOT_YET, name) is not None


def is_pre_quantised(name: str) -> bool:
    """Whether the name tells GPTQ or AWQ weights."""
    return re.fullmatch(PRE_QUANTISED, name) is not None
