"""Mends what the pinned libraries get wrong for us, in the process that trains or verifies. Each with the version seen.

Delete a mend once its library is updated and tests/matrix passes without it.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def mend(*, deepspeed: bool = False, collective_timeout: timedelta | None = None) -> None:
    """Apply all of them; those of DeepSpeed only when it is used. Imports torch, transformers and LLaMA-Factory.

    `collective_timeout` is what a collective operation may wait for the slowest rank; None: what libraries choose.
    """
    from qwensft_trainer.base import sampling

    load_no_code(deepspeed=deepspeed)
    if collective_timeout:
        _wait_in_all_groups(collective_timeout)
    if deepspeed:
        _leave_cpu_collectives_to_gloo()
    _restore_optimizers_on_cpu()
    _allow_dora_on_bitsandbytes()
    _save_processors_first()
    sampling.order_by_seed()
    _tell_adapters_their_base()
    load_tokenizers_once()
    compute_experts_without_cuda()


def load_no_code(*, deepspeed: bool = False) -> None:
    """DeepSpeed 0.19.8 has torch run whatever a checkpoint says, and others may write to the claim that it lies on.

    From now on torch 2.8 loads numbers and a few named types, whatever the caller asks for (ADR 0125).
    """
    import torch

    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # read at every load
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    if deepspeed:
        from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
        from deepspeed.runtime.zero.config import ZeroStageEnum
        from deepspeed.utils.tensor_fragment import fragment_address

        torch.serialization.add_safe_globals([DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address])
        torch.serialization.add_safe_globals([(_member, "builtins.getattr")])


def _member(kind: object, name: str) -> Enum:
    """What stands for getattr in a checkpoint: Python 3.11 before 3.11.4 pickles a member of an enumeration by it."""
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        raise TypeError(f"{kind!r} is no enumeration, so nothing of it is loaded")
    return kind[name]


def _wait_in_all_groups(timeout: timedelta) -> None:
    """DeepSpeed 0.19.8 trains in groups that it makes itself, and torch 2.8 gives them its own limit: 10 min with NCCL.

    Who waited longer, for a rank that saves or evaluates, failed, whatever `ddp_timeout` said (transformers#38933).
    """
    from torch.distributed import distributed_c10d

    distributed_c10d.default_pg_timeout = distributed_c10d.default_pg_nccl_timeout = timeout


def _leave_cpu_collectives_to_gloo() -> None:
    """On CPUs DeepSpeed 0.19.8 compiles an operator for ranks that share a node, a minute of every pod's start."""
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _restore_optimizers_on_cpu() -> None:
    """On CPU nodes transformers 5.5.4 asks for torch.load(map_location="cpu:0"); torch 2.8 knows "cpu" only."""
    import torch

    torch.serialization.register_package(0, lambda _storage: None, _on_cpu)


def _on_cpu(storage: Any, location: str) -> Any:
    return storage if location.startswith("cpu:") else None


def _allow_dora_on_bitsandbytes() -> None:
    """LLaMA-Factory 0.9.5 compares transformers' "bitsandbytes" with its own "bnb" and refuses DoRA on that base."""
    from llamafactory.model import adapter
    from transformers.utils.quantization_config import QuantizationMethod

    adapter.QuantizationMethod = SimpleNamespace(BNB=QuantizationMethod.BITS_AND_BYTES)


def _save_processors_first() -> None:
    """LLaMA-Factory 0.9.5 adds a callback that writes the processor into a checkpoint after all other callbacks.

    It writes the tokenizer and its template again, with other sizes: after our callback has sealed the checkpoint.
    """
    from llamafactory.train.callbacks import SaveProcessorCallback
    from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer

    made = CustomSeq2SeqTrainer.__init__

    def ordered(self: Any, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        self.callback_handler.callbacks.sort(key=lambda callback: not isinstance(callback, SaveProcessorCallback))

    CustomSeq2SeqTrainer.__init__ = ordered


def _tell_adapters_their_base() -> None:
    """LLaMA-Factory 0.9.5 leaves an adapter that is trained on with the path of the base that another pod has seen.

    peft 0.18.1 looks there for whether the embeddings have grown, and writes it into the result.
    """
    from llamafactory.model import adapter
    from peft import PeftModel

    class Adapters:
        @staticmethod
        def from_pretrained(model: Any, path: str, **named: Any) -> Any:
            made = PeftModel.from_pretrained(model, path, **named)
            for config in made.peft_config.values():
                config.base_model_name_or_path = model.name_or_path
            return made

    adapter.PeftModel = Adapters


def compute_experts_without_cuda() -> None:
    """By default transformers 5.5.4 takes grouped_mm for the experts of a MoE; torch 2.8 has it for CUDA only."""
    import torch
    from transformers import PreTrainedModel

    if torch.cuda.is_available():
        return
    chosen = PreTrainedModel.get_correct_experts_implementation

    def eager_by_default(self: Any, requested_experts: str | None) -> str:
        return str(chosen(self, requested_experts or "eager"))

    PreTrainedModel.get_correct_experts_implementation = eager_by_default


def load_tokenizers_once() -> None:
    """LLaMA-Factory 0.9.5 asks transformers 5.5.4 for the processor of every model.

    Of a model without one transformers loads the tokenizer again, for seconds, which LLaMA-Factory drops.
    """
    from llamafactory.model import loader
    from transformers import AutoProcessor

    class Processors:
        @staticmethod
        def from_pretrained(name: str, **named: Any) -> Any:
            if _has_no_processor(Path(name)):
                raise OSError(f"{name} has none")  # LLaMA-Factory goes on without
            return AutoProcessor.from_pretrained(name, **named)

    loader.AutoProcessor = Processors


def _has_no_processor(model: Path) -> bool:
    """Whether none of the files that transformers 5.5.4 looks into can name one. Read errors prove nothing."""
    try:
        named = (model / name for name in ("config.json", "tokenizer_config.json"))
        return not any(model.glob("*processor_config.json")) and not any("rocessor" in p.read_text() for p in named)
    except (OSError, ValueError):
        return False


def leave_bitsandbytes_out() -> None:
    """Where bitsandbytes is installed peft 0.18.1 imports it, and 0.50.2 has torch load its compiler, for seconds.

    For processes without quantised weights, before peft looks for it.
    """
    sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]  # Python's mark of what cannot be imported
