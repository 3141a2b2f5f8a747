"""Rules on number formats: a base that is quantised already, and one that is to be quantised while an adapter trains.

What LLaMA-Factory would refuse on the accelerators (llamafactory/model/adapter.py), or do wrong in silence.
"""

from __future__ import annotations

from collections.abc import Iterator

from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import PermanentError, invalid_config, invalid_model
from qwensft_trainer.model.checks.checked_job import OTHER_IMAGE, CheckedJob, Rule, has_package

# The modules that a method needs, for LLaMA-Factory 0.9.5 and for transformers 5.
_MODULES = {
    "bnb": ("bitsandbytes",),
    "bitsandbytes": ("bitsandbytes",),
    "hqq": ("hqq",),
    "eetq": ("eetq", "kernels"),
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("awq", "gptqmodel"),
}
_PACKAGES = {"awq": "autoawq"}  # where a package is not called as its module


def not_mergeable(run: Run, method: str) -> PermanentError:
    """The error for an adapter on a base of the quantization method that is to be merged."""
    return invalid_model(
        f"{run.model.name} is quantised ({method}), so an adapter cannot be merged into it. Train on the bf16 base of "
        "the same model (spec.tuning.method: qlora quantises it while training) and merge on that, or set "
        "spec.merge.enabled to false and serve the adapter beside the quantised model."
    )


def _quantised_base(job: CheckedJob) -> Iterator[str]:
    method = job.model.quantization
    if method is None:
        return
    base = f"{job.run.model.name} is quantised already ({method}, by config.json)"
    if not job.has_adapter:
        raise invalid_model(f"{base}: its weights cannot be trained. Use the bf16 model, or spec.tuning.method: lora.")
    if job.run.tuning.quantization is not None:
        raise invalid_config(
            f"{base}, so it cannot be quantised again. Set spec.tuning.method to lora (or dora without a quantization) "
            "to train an adapter on it as it is, or use the bf16 model."
        )
    if job.run.tuning.pissa:
        raise invalid_config(f"{base}: spec.tuning.lora.pissa needs the bf16 model. Remove it, or use that model.")
    if job.run.tuning.dora and method != "bitsandbytes":
        raise invalid_config(f"{base}: DoRA needs a bf16 or bitsandbytes model. Use that, or spec.tuning.method: lora.")
    if job.is_on("resize_vocab"):
        raise invalid_config(f"{base}: spec.model.addTokens cannot grow its vocabulary. Use the bf16 model.")
    if job.zero == 3:
        raise invalid_config(
            f"{base}: ZeRO-3 cannot shard such weights. Set spec.distribution.deepspeed.stage to 2, or use the "
            "bf16 model."
        )
    if job.run.merge_planned:
        raise not_mergeable(job.run, method)
    yield from ()


def _package(job: CheckedJob) -> Iterator[str]:
    quantization = job.run.tuning.quantization
    method = quantization.method if quantization is not None else job.model.quantization
    if absent := [module for module in _MODULES.get(method or "", ()) if not has_package(module)]:
        names = " and ".join(_PACKAGES.get(module, module) for module in absent)
        change = (
            "Set spec.tuning.quantization.method to bnb,"
            if quantization is not None
            else "Use the bf16 model (spec.tuning.method: qlora quantises it while training),"
        )
        raise invalid_config(f"Quantization by {method} needs {names}, absent here. {change} {OTHER_IMAGE}.")
    yield from ()


def _on_the_fly(job: CheckedJob) -> Iterator[str]:
    quantization = job.run.tuning.quantization
    if quantization is None:
        return
    if job.model.experts:
        raise invalid_config(
            f"{job.run.model.name} is a mixture of experts: transformers 5 keeps its experts, nearly all its weights, "
            f"out of reach of {quantization.method}, so quantization would save no memory. Set spec.tuning.method to "
            "lora."
        )
    if quantization.method != "bnb" and job.run.tuning.dora:
        raise invalid_config(
            f"DoRA on a base quantised by {quantization.method} does not work: set "
            "spec.tuning.quantization.method to bnb."
        )
    if job.zero == 3 and (quantization.method != "bnb" or quantization.bits != 4):
        raise invalid_config(
            f"ZeRO-3 works with 4-bit bnb only, not with {quantization.bits}-bit {quantization.method}: set "
            "spec.tuning.quantization (method: bnb, bits: 4), or spec.distribution.deepspeed.stage to 2."
        )
    if job.is_on("fp8"):
        raise invalid_config("spec.extraArguments.fp8 does not work with a quantised base: remove one of the two.")
    if job.is_on("resize_vocab"):
        raise invalid_config(
            "spec.model.addTokens cannot grow the vocabulary of a quantised base: remove one of the two."
        )
    yield from ()


RULES: tuple[Rule, ...] = (
    _quantised_base,
    _on_the_fly,
    _package,  # last: what is wrong anyway should not be answered with another image
)
