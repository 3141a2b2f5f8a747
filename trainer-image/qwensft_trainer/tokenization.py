"""Tokenises the normalised datasets with LLaMA-Factory's own code into its tokenized_path, and counts the result.

Written beside the target and renamed, because LLaMA-Factory takes any non-empty tokenized_path for a finished one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from qwensft_trainer import arguments
from qwensft_trainer.config import Run
from qwensft_trainer.environment import cpu_limit
from qwensft_trainer.errors import invalid_config, invalid_dataset, invalid_model
from qwensft_trainer.log import log

_ROWS_WORTH_A_PROCESS = 5000


@dataclass(frozen=True)
class Tokenized:
    """`samples` are dataset rows (also with packing), `tokens` what one epoch feeds to the model, padding excluded."""

    samples: int
    tokens: int


def tokenise(run: Run, train_arguments: Mapping[str, Any], rows: int, *, scratch: Path) -> Tokenized:
    """Fill data/tokenized. `rows` is how many samples must come out of it.

    Raises PermanentError: InvalidConfig for arguments LLaMA-Factory refuses, InvalidModel for a tokenizer that does not
    load, InvalidDataset when rows were lost on the way.
    """
    work = run.run_directory / ".tokenize"
    shutil.rmtree(work, ignore_errors=True)
    output = work / "tokenized"
    completed = arguments.tokenising_arguments(
        train_arguments, run, output=scratch / "prepare", cache=work / "cache", tokenized=output
    )
    if workers := min(cpu_limit(), rows // _ROWS_WORTH_A_PROCESS):
        completed.setdefault("preprocessing_num_workers", workers)
    padding = _run_llamafactory(completed)
    result = _count(output, completed, rows, padding)
    shutil.rmtree(run.tokenized_directory, ignore_errors=True)
    output.rename(run.tokenized_directory)
    shutil.rmtree(work)
    return result


def _run_llamafactory(completed: Mapping[str, Any]) -> int:
    """The first half of llamafactory.train.sft.run_sft, until the model would be loaded. Returns the padding id."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    try:
        model_args, data_args, training_args, _, _ = get_train_args(dict(completed))
    except (ValueError, ImportError) as error:
        raise invalid_config(f"LLaMA-Factory refuses the training arguments: {error}{_hint(str(error))}") from error
    try:
        tokenizer_module = load_tokenizer(model_args)
    except (ValueError, OSError) as error:
        raise invalid_model(f"The tokenizer in {model_args.model_name_or_path} does not load: {error}") from error
    try:
        template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data_args)
    except ValueError as error:
        raise invalid_config(f"spec.model.template: {error}") from error
    get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizer_module)
    return int(tokenizer_module["tokenizer"].pad_token_id)


def _hint(error: str) -> str:
    return " Remove or correct the key in spec.extraArguments." if "HfArgumentParser" in error else ""


def _count(output: Path, completed: Mapping[str, Any], rows: int, padding: int) -> Tokenized:
    from datasets import load_from_disk

    samples = tokens = truncated = 0
    cutoff = int(completed.get("cutoff_len", 2048))
    packing = bool(completed.get("packing") or completed.get("neat_packing"))
    for split in load_from_disk(str(output)).values():
        samples += len(split)
        for batch in split.select_columns(["input_ids"]).with_format("arrow").iter(batch_size=1000):
            ends = batch["input_ids"].combine_chunks().offsets.to_pylist()
            tokens += ends[-1] - ends[0]
            if packing:
                tokens -= int((batch["input_ids"].combine_chunks().flatten().to_numpy() == padding).sum())
            truncated += sum(end - start >= cutoff for start, end in pairwise(ends))
    if packing:
        log(f"packed {rows} rows into {samples} sequences of {cutoff} tokens")
        return Tokenized(rows, tokens)
    if samples != rows:
        raise invalid_dataset(
            f"{rows} rows are valid but LLaMA-Factory tokenised {samples}: it dropped {rows - samples}. Look for "
            "'Dropped' in this pod's log."
        )
    if truncated:
        log(
            f"warning: {truncated} of {samples} samples reach spec.training.cutoffLen ({cutoff}) and were cut off there"
        )
    return Tokenized(samples, tokens)
