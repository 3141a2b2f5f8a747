"""What others have published, to be shown beside what is measured: their figures, with their own code and settings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """`mfu` is a share; None where it is not told. `source` is where the figure stands."""

    who: str
    model: str
    method: str
    device: str
    tokens_per_second: float
    source: str
    mfu: float | None = None


_NEMO = "docs.nvidia.com/nemo/automodel, Performance Summary: sequences of 4096, bf16"
_SUROGATE = "docs.surogate.ai/reference/benchmarks: by the makers of Surogate, Unsloth's figures, too"

PUBLISHED = (
    Published("NeMo AutoModel", "Qwen2.5-7B", "lora", "1 x H100", 14_110, _NEMO, 0.428),
    Published("Unsloth", "Qwen3-0.6B", "lora", "1 x H100", 21_300, _SUROGATE),
    Published("Surogate", "Qwen3-0.6B", "lora", "1 x H100", 53_900, _SUROGATE),
    Published("Unsloth", "Qwen3-0.6B", "lora", "1 x H200", 21_700, _SUROGATE),
    Published("Unsloth", "Qwen3-0.6B", "qlora", "1 x H100", 18_000, _SUROGATE),
    Published("Unsloth", "Qwen3-1.7B", "lora", "1 x H100", 20_800, _SUROGATE),
    Published("Surogate", "Qwen3-1.7B", "lora", "1 x H100", 32_800, _SUROGATE),
    Published("Unsloth", "Qwen3-1.7B", "lora", "1 x H200", 21_400, _SUROGATE),
    Published("Unsloth", "Qwen3-1.7B", "qlora", "1 x H100", 18_000, _SUROGATE),
    Published("Unsloth", "Qwen3-1.7B", "qlora", "1 x H200", 18_300, _SUROGATE),
    Published("Unsloth", "Qwen3-8B", "lora", "1 x H100", 8_900, _SUROGATE),
    Published("Surogate", "Qwen3-8B", "lora", "1 x H100", 10_200, _SUROGATE),
)


def table() -> str:
    """All of it as lines of text, the sources below."""
    lines = [f"{'published':<16}{'model':<13}{'method':<8}{'device':<10}{'tokens/s':>9}{'MFU':>8}  source"]
    sources = list(dict.fromkeys(one.source for one in PUBLISHED))
    for one in PUBLISHED:
        share = "-" if one.mfu is None else f"{one.mfu:.1%}"
        lines.append(
            f"{one.who:<16}{one.model:<13}{one.method:<8}{one.device:<10}{one.tokens_per_second:>9,.0f}{share:>8}"
            f"  [{sources.index(one.source) + 1}]"
        )
    return "\n".join([*lines, *(f"[{number}] {source}" for number, source in enumerate(sources, 1))])
