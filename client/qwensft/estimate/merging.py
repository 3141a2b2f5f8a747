"""How much memory a merge by the streaming engine takes. docs/memory.md tells what was measured."""

from __future__ import annotations

from qwensft.estimate.architectures import Architecture

_LIBRARIES = 1.5e9  # bytes: Python, PyTorch, transformers and peft in the process that verifies
_FLOAT32 = 4
_OF_AN_UNKNOWN_MODEL = 8 * 2**30


def merge_memory(model: Architecture | None, *, logits: bool) -> float:
    """Return the bytes that the merge pod takes; with `logits` for verifying them, too.

    The engine itself takes less than 1 GiB for any model. Verifying holds a module and its sum with the adapter, or
    trained embeddings, and for the logits two layers and the embeddings, as float32.
    """
    if model is None:
        return _OF_AN_UNKNOWN_MODEL
    modules = max(4 * max(map(_size, model.matrices.values())), 2 * model.embedding)
    held = max(modules, 2 * (model.layer + model.embedding)) if logits else modules
    return _LIBRARIES + _FLOAT32 * held


def _size(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1]
