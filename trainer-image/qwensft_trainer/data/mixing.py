"""Makes the training and evaluation splits out of normalised datasets: sampling, mixing by weight, splitting off.

Does what LLaMA-Factory's loader does with num_samples, mix_strategy, interleave_probs and val_size, on Dataset objects
of the library `datasets`; why not with that loader stands in ADR 0055.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qwensft_trainer.contract.errors import invalid_dataset
from qwensft_trainer.data.duplicates import FINGERPRINT

_STOPPING = {"interleave_under": "first_exhausted", "interleave_over": "all_exhausted"}


def sample(dataset: Any, count: int, *, seed: Sequence[int]) -> Any:
    """`count` rows at random. All rows come once before any comes again, when there are fewer."""
    import numpy

    generator = numpy.random.default_rng(seed)
    rounds = [generator.permutation(len(dataset)) for _ in range(math.ceil(count / len(dataset)))]
    return dataset.select(numpy.concatenate(rounds)[:count])


def mix(datasets: Sequence[Any], strategy: str, probabilities: Sequence[float] | None, *, seed: int) -> Any:
    """One dataset out of several, by LLaMA-Factory's strategies.

    concat: one after the other. interleave_under: drawn in turn or by probability until the first one is used up.
    interleave_over: until each was used up once, rows of the others repeating. interleave_once: every row once.
    """
    from datasets import concatenate_datasets, interleave_datasets

    if len(datasets) == 1:
        return datasets[0]
    joined = concatenate_datasets(list(datasets))
    if strategy == "concat":
        return joined
    if strategy == "interleave_once":
        return joined.select(_once([len(dataset) for dataset in datasets], probabilities, seed))
    return interleave_datasets(
        list(datasets), probabilities=probabilities, seed=seed, stopping_strategy=_STOPPING[strategy]
    )


def _once(lengths: Sequence[int], probabilities: Sequence[float] | None, seed: int) -> Any:
    """An order of all rows of the joined datasets in which each dataset's own order is kept.

    Arrivals of a Poisson process for each dataset, with its probability as the rate, sorted by time: the next row is
    always drawn by probability among the datasets that still have some. Without probabilities they take turns.
    """
    import numpy

    generator = numpy.random.default_rng(seed)
    times = [
        numpy.arange(length, dtype=float)
        if probabilities is None
        else numpy.cumsum(generator.exponential(1 / probabilities[index], length))
        for index, length in enumerate(lengths)
    ]
    return numpy.argsort(numpy.concatenate(times), kind="stable")


def left_out(datasets: Mapping[str, Any], mixed: Any) -> dict[str, int]:
    """How many rows of each dataset are missing in the mix, by name; only those that lack some."""
    import pyarrow.compute

    counts = pyarrow.compute.value_counts(mixed.select_columns("dataset").with_format("arrow")[:]["dataset"])
    used = {entry["values"]: entry["counts"] for entry in counts.to_pylist()}
    return {name: missing for name, rows in datasets.items() if (missing := len(rows) - used.get(name, 0)) > 0}


def split_off(rows: Any, fraction: float, *, seed: int) -> tuple[Any, Any]:
    """(training, evaluation): a fraction of the different rows, rounded up, drawn at random.

    A row that repeats, in the files or as interleave_over and a large sample make it, is in one of the two only, and
    once in the evaluation. Raises PermanentError when nothing is left to train on.
    """
    import numpy

    prints = rows.select_columns([FINGERPRINT]).with_format("arrow")[:][FINGERPRINT].to_numpy()
    _, first, place = numpy.unique(prints, return_index=True, return_inverse=True)
    first, rank = numpy.sort(first), numpy.argsort(numpy.argsort(first))  # as the rows stand, not as they hash
    size = math.ceil(len(first) * fraction)
    if size >= len(first):
        raise invalid_dataset(
            f"With spec.evaluation.fraction {fraction} nothing of {len(first)} different rows is left to train on: "
            "lower it, or add rows."
        )
    evaluation = numpy.random.default_rng(seed).permutation(len(first)) < size
    return rows.select(numpy.flatnonzero(~evaluation[rank[place]])), rows.select(first[evaluation])
