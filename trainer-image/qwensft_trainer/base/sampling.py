"""The order of rows that are grouped by length: the same for all ranks, and after a restart.

transformers 5.5.4 shuffles them (`train_sampling_strategy: group_by_length`) by the random numbers of each process, and
these depend on what it has drawn before. A process that goes on from a checkpoint has drawn less. Ranks do not agree
where dropout draws from the same numbers, as on CPUs: then some rows are trained twice, and others not at all. Rows
that are not grouped are shuffled by accelerate, by seed and epoch, as it is done here.
`upstream.mend` calls it; ADR 0192 says why it is done so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler


class _Seeded(LengthGroupedSampler):  # type: ignore[misc, unused-ignore]
    """The same groups as another's; each epoch's order follows from seed and epoch alone."""

    def __init__(self, grouped: LengthGroupedSampler, seed: int, epoch: Callable[[], int]) -> None:
        super().__init__(grouped.batch_size, lengths=grouped.lengths)
        self._seed, self._epoch = seed, epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self._seed + self._epoch())
        return iter(super().__iter__())


def order_by_seed() -> None:
    """Have the Trainer do so: rows to train on come anew in each epoch, rows to evaluate on always alike."""
    to_train_on, to_evaluate_on = Trainer._get_train_sampler, Trainer._get_eval_sampler

    def train_sampler(self: Any, *arguments: Any, **named: Any) -> Any:
        # Rows are drawn when an epoch begins or is gone on with, and then its number is the whole part.
        return _seeded(to_train_on(self, *arguments, **named), self.args, lambda: int(self.state.epoch))

    def evaluation_sampler(self: Any, *arguments: Any, **named: Any) -> Any:
        return _seeded(to_evaluate_on(self, *arguments, **named), self.args, lambda: 0)

    Trainer._get_train_sampler, Trainer._get_eval_sampler = train_sampler, evaluation_sampler


def _seeded(sampler: Any, args: Any, epoch: Callable[[], int]) -> Any:
    if not isinstance(sampler, LengthGroupedSampler):
        return sampler
    return _Seeded(sampler, args.seed if args.data_seed is None else args.data_seed, epoch)
