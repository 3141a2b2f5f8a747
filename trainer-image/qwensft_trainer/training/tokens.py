"""Counts what training computes: tokens, and the places of padding beside them. In every worker, on its own device.

transformers can count, too (include_num_input_tokens_seen), but gathers from all processes and waits for the device in
every micro-batch. Here both happen only when somebody asks.
ADR 0132 says why.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from transformers import Trainer


class TokenCount:
    """The tokens of this process's micro-batches, counted where these are."""

    def __init__(self) -> None:
        self._tokens: Any = 0
        self._places = 0

    def add(self, inputs: dict[str, Any], padding: int | None) -> None:
        """Count a micro-batch. `padding` is the token id that fills up, None where there is none."""
        ids = inputs.get("input_ids")
        if ids is None:
            return
        mask = inputs.get("attention_mask")
        if mask is not None and mask.dim() == 2:  # neat packing numbers its examples from 1 in there
            self._tokens = self._tokens + (mask != 0).sum()
        elif padding is not None:
            self._tokens = self._tokens + (ids != padding).sum()
        else:
            self._tokens = self._tokens + ids.numel()
        self._places += ids.numel()

    def total(self, device: Any) -> tuple[int, int]:
        """Tokens and places of all processes. All must ask at the same step; waits for what the device has to do."""
        counts = torch.stack([torch.as_tensor(self._tokens, device=device), torch.tensor(self._places, device=device)])
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(counts)
        tokens, places = counts.tolist()
        return tokens, places


def count(into: TokenCount) -> None:
    """Have the Trainer hand every micro-batch over: transformers 5.5.4 calls this method after each one's backward."""
    before = Trainer._track_num_input_tokens

    def track(self: Any, inputs: dict[str, Any]) -> None:
        into.add(inputs, getattr(self.processing_class, "pad_token_id", None))
        before(self, inputs)

    Trainer._track_num_input_tokens = track
