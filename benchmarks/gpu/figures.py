"""Pure arithmetic of the benchmark: parameters, FLOPs per token, rates out of a training log, ratios, the table.

Runs and measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwensft_trainer.training.efficiency import PEAK_TFLOPS


@dataclass(frozen=True)
class Shape:
    """A dense Qwen3 with tied embeddings, in the numbers of its config.json."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int = 151936

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers inside the blocks: each is used once for every token."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner)

    @property
    def parameters(self) -> int:
        """All weights; the embedding counts once, being the output layer, too."""
        norms = self.layers * (2 * self.hidden + 2 * self.head_dim) + self.hidden
        return self.linear_parameters + self.vocabulary * self.hidden + norms

    def lora_parameters(self, rank: int) -> int:
        """Weights of an adapter of that rank on all linear layers."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        sides = [(self.hidden, query), (self.hidden, key), (self.hidden, key), (query, self.hidden)]
        sides += [(self.hidden, self.inner), (self.hidden, self.inner), (self.inner, self.hidden)]
        return self.layers * rank * sum(one + other for one, other in sides)


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("0.6b", hidden=1024, layers=28, heads=16, kv_heads=8, head_dim=128, inner=3072),
        Shape("1.7b", hidden=2048, layers=28, heads=16, kv_heads=8, head_dim=128, inner=6144),
        Shape("dry", hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, inner=128, vocabulary=512),
    )
}


def flops_per_token(shape: Shape, *, length: int, lora_rank: int | None) -> float:
    """FLOPs that training on one token needs at least, in sequences of `length` tokens with causal attention.

    Forward: 2 for each weight of a linear layer and of the output layer, and 2 x layers x heads x head_dim x length
    for the attention (4 x ... x length for scores and values, half of it hidden by the causal mask). Backward: twice
    that for full fine-tuning; with LoRA once, since frozen weights need no gradient of their own, plus 6 in all for
    each weight of the adapter. What gradient checkpointing computes again does not count: MFU, not HFU.
    """
    weights = 2.0 * (shape.linear_parameters + shape.vocabulary * shape.hidden)
    attention = 2.0 * shape.layers * shape.heads * shape.head_dim * length
    if lora_rank is None:
        return 3 * (weights + attention)
    return 2 * weights + 3 * attention + 6.0 * shape.lora_parameters(lora_rank)


def peak_tflops(device: str) -> float | None:
    """The bfloat16 peak of a device by its name; None when the table has none."""
    return next((peak for name, peak in PEAK_TFLOPS.items() if name in device), None)


@dataclass(frozen=True)
class Measured:
    """One training: what it did per second once it was warm, and at most needed."""

    tokens_per_second: float
    step_seconds: float
    first_step_seconds: float
    peak_memory_gib: float
    last_loss: float


def rates(
    log: Sequence[Mapping[str, Any]],
    arrivals: Sequence[float],
    memory_gib: float,
    *,
    warm_up: int,
    tokens_per_step: float,
) -> Measured:
    """Read the figures out of trainer_log.jsonl, which has a line for each step.

    `arrivals`: seconds from the process's start until each line was there. `memory_gib` counts unless the log tells
    what the GPU had reserved at most (RECORD_VRAM). Raises ValueError when the log ends before the warm-up does.
    """
    steps = [(line, at) for line, at in zip(log, arrivals, strict=True) if line.get("loss") is not None]
    if len(steps) <= warm_up:
        raise ValueError(f"the log tells of {len(steps)} steps; more than {warm_up} are needed")
    seconds = steps[-1][1] - steps[warm_up - 1][1]
    counted = len(steps) - warm_up
    reserved = max(float(line.get("vram_reserved", 0.0)) for line in log)
    return Measured(
        tokens_per_second=counted * tokens_per_step / seconds,
        step_seconds=seconds / counted,
        first_step_seconds=steps[0][1],
        peak_memory_gib=reserved or memory_gib,
        last_loss=float(steps[-1][0]["loss"]),
    )


def best(rounds: Sequence[Measured]) -> Measured:
    """The fastest of several rounds: whatever else the machine did can only have slowed one down."""
    return max(rounds, key=lambda measured: measured.tokens_per_second)


def mfu(measured: Measured, flops: float, peak: float | None) -> float | None:
    """Share of the device's peak that went into training; None for a device of unknown peak."""
    return measured.tokens_per_second * flops / (peak * 1e12) if peak else None


def summary(
    trainer: Sequence[Measured], bare: Sequence[Measured], *, flops: float, peak: float | None
) -> dict[str, Any]:
    """Everything that is reported about both, with the ratios trainer / bare (1.0: the trainer costs nothing)."""
    ours, theirs = best(trainer), best(bare)

    def figures(measured: Measured, rounds: Sequence[Measured]) -> dict[str, Any]:
        return {
            "tokensPerSecond": round(measured.tokens_per_second, 1),
            "mfu": mfu(measured, flops, peak),
            "stepSeconds": round(measured.step_seconds, 4),
            "firstStepSeconds": round(measured.first_step_seconds, 1),
            "peakMemoryGiB": round(measured.peak_memory_gib, 2),
            "lastLoss": measured.last_loss,
            "rounds": [round(one.tokens_per_second, 1) for one in rounds],
        }

    return {
        "trainer": figures(ours, trainer),
        "bare": figures(theirs, bare),
        "ratio": {
            "tokensPerSecond": round(ours.tokens_per_second / theirs.tokens_per_second, 4),
            "peakMemoryGiB": round(ours.peak_memory_gib / theirs.peak_memory_gib, 4),
            "firstStepSeconds": round(ours.first_step_seconds / theirs.first_step_seconds, 4),
        },
    }


def table(found: Mapping[str, Any]) -> str:
    """The summary as lines of text."""
    rows = [
        ("tokens/s", "tokensPerSecond", "{:,.0f}"),
        ("MFU", "mfu", "{:.1%}"),
        ("seconds a step", "stepSeconds", "{:.3f}"),
        ("seconds to the first step", "firstStepSeconds", "{:.1f}"),
        ("peak memory, GiB", "peakMemoryGiB", "{:.2f}"),
        ("last loss", "lastLoss", "{:.4f}"),
    ]
    lines = [f"{'':<26}{'trainer':>12}{'bare':>12}{'ratio':>9}"]
    for title, key, form in rows:
        values = [found[side][key] for side in ("trainer", "bare")]
        shown = ["-" if value is None else form.format(value) for value in values]
        ratio = found["ratio"].get(key)
        lines.append(f"{title:<26}{shown[0]:>12}{shown[1]:>12}{'' if ratio is None else f'{ratio:.3f}':>9}")
    return "\n".join(lines)


def overview(found: Sequence[Mapping[str, Any]]) -> str:
    """The scenes beside each other as lines of text."""
    lines = [f"{'':<22}{'trainer t/s':>12}{'bare t/s':>12}{'ratio':>8}{'MFU':>8}{'GiB':>8}{'ratio':>8}"]
    for one in found:
        share = one["trainer"]["mfu"]
        lines.append(
            f"{one['scene']:<22}{one['trainer']['tokensPerSecond']:>12,.0f}{one['bare']['tokensPerSecond']:>12,.0f}"
            f"{one['ratio']['tokensPerSecond']:>8.3f}{'-' if share is None else f'{share:.1%}':>8}"
            f"{one['trainer']['peakMemoryGiB']:>8.2f}{one['ratio']['peakMemoryGiB']:>8.3f}"
        )
    return "\n".join(lines)
