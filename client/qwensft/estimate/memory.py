"""How much memory a training takes: the formulas alone. docs/memory.md derives them and tells how far they are off.

Nothing here knows what is available, what to do about it, or the API's status; see `estimate`.
ADR 0046 says why.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwensft.api.v1alpha1 import Quantization, Spec
from qwensft.api.v1alpha1.families import VISION
from qwensft.estimate.architectures import Architecture

_CONTEXT = 2e9  # bytes per process on a device: CUDA context, libraries' workspaces, fragmentation
_INTERPRETER = 4e9  # bytes per process in host memory: Python, PyTorch, CUDA's host side, pinned buffers
_INTERPRETER_ON_CPU = 2e9
_OFFLOAD = 1.5  # what DeepSpeed holds in host memory for a byte that it offloads: pinned copies, buffers

# Bytes per parameter that every process holds, and bytes that the processes share, by ZeRO stage. 2 are the bf16
# weight, 2 its gradient, 16 the fp32 gradient, weight and two moments of Adam.
_MIXED = {0: (20, 0), 1: (4, 16), 2: (2, 18), 3: (0, 18)}
_FP32 = {0: (16, 0), 1: (8, 8), 2: (4, 12), 3: (0, 16)}
_MIXED_OFFLOADED = {1: (4, 0), 2: (2, 0), 3: (0, 2)}
_FP32_OFFLOADED = {1: (8, 0), 2: (4, 0), 3: (0, 4)}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that one training process takes on its device, and one pod in host memory. Without any margin."""

    weights: float  # frozen ones
    states: float  # of what is trained: weights, gradients, optimiser
    activations: float
    overhead: float
    host: float

    @property
    def device(self) -> float:
        """All bytes of one process on its device."""
        return self.weights + self.states + self.activations + self.overhead


def footprint(spec: Spec, model: Architecture, longest: int | None = None) -> Footprint | None:
    """Return the memory of a training; None with a DeepSpeed configuration of the user's, which is not read.

    Args:
        spec: What is trained, and how.
        model: Shape of the base model.
        longest: Tokens of the longest example, where that is known; without packing nothing is padded beyond it.
    """
    deepspeed = spec.distribution.deepspeed
    if deepspeed is not None and deepspeed.stage is None:
        return None
    stage = deepspeed.stage if deepspeed is not None else None
    offload_optimizer = deepspeed is not None and deepspeed.offload_optimizer
    offload_parameters = deepspeed is not None and deepspeed.offload_parameters
    processes, nodes = spec.processes_per_node, spec.distribution.nodes
    shards = processes * nodes
    trained, frozen = _trained(spec, model), _frozen(spec, model)

    replicated, shared = _state_bytes(spec, stage, several=shards > 1)
    if stage is not None and offload_optimizer:
        replicated, shared = (_FP32_OFFLOADED if _is_fp32(spec) else _MIXED_OFFLOADED)[stage]
    if offload_parameters:
        replicated, shared = 0, 0
    states = trained * (replicated + shared / shards)
    weights, live = frozen, 0.0
    if stage == 3:
        weights = 0 if offload_parameters else frozen / shards
        live = 2.0 * _width(spec) * max(model.embedding, model.layer)  # one layer at work, the next one on its way

    offloaded = 16 * trained * offload_optimizer + (2 * trained + frozen) * offload_parameters
    saved = 0 if spec.tuning.uses_adapter else (4 if stage is None and not _is_pure(spec) else 2) * model.parameters
    on_host = _OFFLOAD * offloaded / nodes + saved
    activations = _activations(spec, model, longest)
    if spec.worker.accelerator.count == 0:
        process = weights + states + live + activations + _INTERPRETER_ON_CPU
        return Footprint(0, 0, 0, 0, processes * process + on_host)
    return Footprint(weights, states, activations, _CONTEXT + live, processes * _INTERPRETER + on_host)


def _is_fp32(spec: Spec) -> bool:
    return spec.training.precision == "fp32"


def _is_pure(spec: Spec) -> bool:
    return spec.training.precision == "pure_bf16"


def _width(spec: Spec) -> int:
    """Bytes of a number in the computation."""
    return 4 if _is_fp32(spec) else 2


def _state_bytes(spec: Spec, stage: int | None, *, several: bool) -> tuple[float, float]:
    """Return the bytes per trained parameter: on every process, and spread over all of them."""
    if stage is not None:
        return (_FP32 if _is_fp32(spec) else _MIXED)[stage]
    gradient = 2 if _is_pure(spec) else 4
    # Weight, gradient, two moments. DistributedDataParallel reduces gradients in buckets of its own.
    held = 4 * gradient + (gradient if several else 0)
    # autocast keeps bf16 copies of fp32 weights; those of adapters are too small to count.
    copies = 0 if _is_fp32(spec) or _is_pure(spec) or spec.tuning.uses_adapter else 2
    return held + copies, 0


def _trained(spec: Spec, model: Architecture) -> float:
    """Return the number of trained parameters."""
    lora = spec.tuning.effective_lora
    if lora is None:
        return _trained_weights(spec, model)
    targets = _target_matrices(lora.targets, model)
    vectors = sum(columns for _, columns in targets) if spec.tuning.method == "dora" else 0
    adapters = model.layers * (sum(lora.rank * (rows + columns) for rows, columns in targets) + vectors)
    whole = set(lora.additional_targets)
    if spec.model.add_tokens or spec.model.add_special_tokens:
        whole |= {"embed_tokens", "lm_head"}  # LLaMA-Factory trains them, so that new tokens come to mean something
    return adapters + model.embedding * len(whole & {"embed_tokens", "lm_head"})


def _target_matrices(targets: list[str], model: Architecture) -> list[tuple[int, int]]:
    """Return inputs and outputs of a layer's modules that get an adapter."""
    names = {target.rpartition(".")[2] for target in targets}
    return [shape for name, shape in model.matrices.items() if name in names or "all" in names]


def _trained_weights(spec: Spec, model: Architecture) -> float:
    """Return the number of the base model's own parameters that are trained."""
    freeze, vision = spec.tuning.effective_freeze, spec.tuning.vision
    if freeze is not None:
        parts = {"self_attn": model.attention, "mlp": model.mlp, "all": model.layer}
        layer = sum(parts.get(name, 0) for name in set(freeze.trainable_modules))
        extra = len({"embed_tokens", "lm_head"} & set(freeze.extra_modules))
        return min(abs(freeze.trainable_layers), model.layers) * layer + extra * model.embedding
    if spec.tuning.uses_adapter:
        return 0
    if vision is None and spec.model.effective_template not in VISION:
        return model.parameters
    tower_is_trained = vision is not None and not vision.freeze_tower
    language_is_trained = vision is None or not vision.freeze_language_model
    return model.language * language_is_trained + model.vision * tower_is_trained


def _frozen(spec: Spec, model: Architecture) -> float:
    """Return the bytes of the weights that stay as they are."""
    # Without an accelerator LLaMA-Factory expands the files' bf16 to fp32, with one it does not.
    width = 4 if _is_fp32(spec) and spec.worker.accelerator.count == 0 else 2
    quantization = spec.tuning.effective_quantization
    linear = model.parameters - model.embeddings
    if quantization is not None:
        # bitsandbytes and the others replace linear layers; experts are none since transformers 5.
        experts = model.layers * model.mlp if model.experts else 0
        return _quantised_bytes(quantization) * (linear - experts) + width * (experts + model.embeddings)
    if model.weight_bytes < 2:
        return model.weight_bytes * linear + width * model.embeddings
    return width * (model.parameters - _trained_weights(spec, model))


def _quantised_bytes(quantization: Quantization) -> float:
    """Return the bytes of a quantised weight, its share of the block's constants included."""
    if quantization.bits == 8:
        return 1.0625 if quantization.method == "hqq" else 1.0
    if quantization.method == "bnb":
        return 0.516 if quantization.double_quantization else 0.5625
    return 0.5625


def _activations(spec: Spec, model: Architecture, longest: int | None) -> float:
    """Return the bytes at the peak of a step, which is the loss over the vocabulary or the work inside one layer."""
    training, width = spec.training, _width(spec)
    length = training.cutoff_len if training.packing or not longest else min(training.cutoff_len, longest)
    tokens = training.per_device_train_batch_size * length
    inside = _inside_layer(spec, model, tokens, length)
    checkpointed, whole = _stored_layers(spec, model)
    stored = tokens * width * model.hidden * checkpointed + inside * whole
    # Logits, their fp32 copy and both gradients; Liger's kernel computes the loss piece by piece instead.
    loss = tokens * (3 * width * model.hidden if training.liger_kernel else 12 * model.vocabulary)
    peak = stored + max(loss, inside if checkpointed else 0)
    if spec.evaluation is None or not spec.evaluation.has_rows:
        return peak
    # Nothing is kept for a backward pass, but there the logits are made whole, also with Liger.
    batch = spec.evaluation.batch_size or training.per_device_train_batch_size
    return max(peak, batch * length * 10 * model.vocabulary)


def _stored_layers(spec: Spec, model: Architecture) -> tuple[int, int]:
    """Return how many layers keep only their input for the backward pass, and how many all that is inside them."""
    freeze = spec.tuning.effective_freeze
    checkpointed, whole = model.layers, 0
    if freeze is not None:
        checkpointed = min(abs(freeze.trainable_layers), model.layers)
        # LLaMA-Factory checkpoints only layers that are trained; gradients also pass through frozen ones above them.
        passes = freeze.trainable_layers < 0 or "embed_tokens" in freeze.extra_modules
        whole = model.layers - checkpointed if passes else 0
    return (checkpointed, whole) if spec.training.gradient_checkpointing else (0, checkpointed + whole)


def _inside_layer(spec: Spec, model: Architecture, tokens: int, length: int) -> float:
    """Return the bytes that a batch leaves inside one layer for its backward pass."""
    query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
    lora, width = spec.tuning.effective_lora, _width(spec)
    targets = _target_matrices(lora.targets, model) if lora is not None else []
    if lora is None:
        numbers = 7 * model.hidden + 6 * query + 5 * key + 4 * model.intermediate
    else:  # a frozen layer keeps nothing for gradients of its weights
        down_is_trained = model.matrices.get("down_proj") in targets
        numbers = 5 * model.hidden + 5 * query + 4 * key + (4 if down_is_trained else 3) * model.intermediate
    if model.experts:
        numbers += _EXPERTS_PER_TOKEN * (4 * model.expert_intermediate + 2 * model.hidden)
    scores = 10 * model.heads * length if spec.model.attention == "eager" else 0  # fused kernels never hold them
    matrices = 0
    if spec.tuning.method == "dora":
        # Two more outputs per adapter, and the identity matrix that is sent through it to get the update.
        numbers += 2 * sum(columns for _, columns in targets)
        matrices = sum(rows * rows for rows, _ in targets)
    return tokens * (width * numbers + scores) + width * matrices


_EXPERTS_PER_TOKEN = 10  # Qwen's MoE models route a token to 8 or 10 experts
