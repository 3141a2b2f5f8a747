"""Tokenises the normalised datasets with LLaMA-Factory's own encoder into its tokenized_path, and measures every row.

Written beside the target and renamed, because LLaMA-Factory takes any non-empty tokenized_path for a finished one. How
rows are sampled and mixed is mixing.py's part; why LLaMA-Factory's loader is not used stands in ADR 0055.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from qwensft_trainer.base import files, upstream
from qwensft_trainer.base.causes import STORAGE_ADVICE, raise_unless_inputs
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import arguments
from qwensft_trainer.contract.config import Dataset, Run
from qwensft_trainer.contract.errors import PermanentError, StageError, invalid_config, invalid_dataset, invalid_model
from qwensft_trainer.data import mixing, parity, preview, shards
from qwensft_trainer.data import source as dataset_source
from qwensft_trainer.data.chat_form import ChatForm, Defaults, defaults_of
from qwensft_trainer.data.encoder import Encoder
from qwensft_trainer.data.lengths import Lengths
from qwensft_trainer.data.normalise import normalised_file
from qwensft_trainer.data.parity import Parity
from qwensft_trainer.data.preview import Sample
from qwensft_trainer.model import families

TRAIN, VALIDATION = "train", "validation"


class Tokenised(NamedTuple):
    """Lengths of each split (train, validation or validation_<dataset>), and warnings.

    `system` is what rows without a system prompt are trained with; `parity` tells of training and chat template.
    """

    lengths: dict[str, Lengths]
    warnings: list[str]
    system: str
    parity: Parity


def tokenise(run: Run, train_arguments: Mapping[str, Any], template: str, *, scratch: Path) -> Tokenised:
    """Fill data/tokenized.

    Raises PermanentError: InvalidConfig for arguments LLaMA-Factory refuses, InvalidModel for a tokenizer that does not
    load, InvalidDataset when rows or parts of images were lost on the way.
    """
    work = run.run_directory / ".tokenize"
    shutil.rmtree(work, ignore_errors=True)
    output, cache = work / "tokenized", work / "cache"
    completed = arguments.tokenising_arguments(
        dict(train_arguments) | {"template": template}, run, output=scratch / "prepare", cache=cache, tokenized=output
    )
    encoder = _load_encoder(completed, template)
    found = _preview(run, encoder)
    splits, warnings = _splits(run, encoder, cache)
    warnings += filter(None, [found.warning()])
    lengths = {}
    for name, split in splits.items():
        lengths[name] = encoder.write(split, output / name)
        _require_whole(lengths[name], len(split), encoder.cutoff)
    shards.write_index(output, list(splits))
    files.remove(run.tokenized_directory)
    output.rename(run.tokenized_directory)
    shutil.rmtree(work, ignore_errors=True)  # on NFS, names of what this process has mapped stay until it ends
    return Tokenised(lengths, warnings, encoder.default_system, found)


def samples(run: Run, train_arguments: Mapping[str, Any], template: str, *, scratch: Path, rows: int) -> list[Sample]:
    """The first rows of each normalised dataset as the model sees them; nothing is written.

    Raises PermanentError as `tokenise` does.
    """
    completed = arguments.tokenising_arguments(
        dict(train_arguments) | {"template": template},
        run,
        output=scratch / "prepare",
        cache=scratch / "cache",
        tokenized=scratch / "tokenized",
    )
    encoder = _load_encoder(completed, template)
    datasets = dataset_source.all_datasets(run)
    return [one for dataset in datasets for row in _first_rows(run, dataset, rows) for one in encoder.preview(row)]


def _preview(run: Run, encoder: Encoder) -> Parity:
    """Before all else is encoded, so that there is something to look at when that fails."""
    shown: list[Sample] = []
    found = Parity()
    for dataset in dataset_source.all_datasets(run):
        for number, row in enumerate(_first_rows(run, dataset, parity.ROWS)):
            shown += encoder.preview(row) if number < preview.ROWS else []
            encoder.compare(found, row)
    path = preview.write(run.run_directory, shown)
    lengths = ", ".join(f"{one.tokens} tokens ({one.learnt} learnt)" for one in shown)
    log(f"the first rows as the model sees them are in {path}: {lengths}")
    if run.prepare.preview == "Log":
        for line in preview.whole_text(shown).splitlines():
            log(line)
    return found


def _first_rows(run: Run, dataset: Dataset, count: int) -> Iterator[dict[str, list[Any]]]:
    """Rows of the normal form, one by one, each as a batch of its own."""
    from pyarrow import parquet

    with parquet.ParquetFile(normalised_file(run, dataset.name)) as file:
        for batch in islice(file.iter_batches(batch_size=1), count):
            yield batch.to_pydict()


def _splits(run: Run, encoder: Encoder, cache: Path) -> tuple[dict[str, Any], list[str]]:
    loaded = {
        dataset.name: _load(run, dataset, [encoder.seed, number], cache)
        for number, dataset in enumerate(dataset_source.all_datasets(run))
    }
    training = {dataset.name: loaded[dataset.name] for dataset in run.datasets}
    weights = [dataset.weight for dataset in run.datasets if dataset.weight is not None]
    probabilities = [weight / sum(weights) for weight in weights] if len(weights) == len(run.datasets) else None
    mixed = mixing.mix(list(training.values()), run.mixing.strategy, probabilities, seed=encoder.seed)
    missing = mixing.left_out(training, mixed)
    left = ", ".join(f"{count} of {len(training[name])} rows of {name}" for name, count in missing.items())
    warnings = [f"{run.mixing.strategy} ends with the first dataset that is used up and leaves out {left}"]
    return _with_validation(run, encoder, mixed, loaded), warnings if missing else []


def _with_validation(run: Run, encoder: Encoder, train: Any, loaded: Mapping[str, Any]) -> dict[str, Any]:
    if run.evaluation is None:
        return {TRAIN: train}
    if run.evaluation.fraction is not None:
        train, validation = mixing.split_off(train, run.evaluation.fraction, seed=encoder.seed)
        return {TRAIN: train, VALIDATION: validation}
    sets = {dataset.name: loaded[dataset.name] for dataset in run.evaluation.datasets}
    if encoder.each_evaluation_set:
        return {TRAIN: train} | {f"{VALIDATION}_{name}": rows for name, rows in sets.items()}
    return {TRAIN: train, VALIDATION: mixing.mix(list(sets.values()), "concat", None, seed=encoder.seed)}


def _load(run: Run, dataset: Dataset, seed: list[int], cache: Path) -> Any:
    from datasets import Dataset as Rows

    rows = Rows.from_parquet(str(normalised_file(run, dataset.name)), cache_dir=str(cache))
    return mixing.sample(rows, dataset.sample_count, seed=seed) if dataset.sample_count else rows


def _require_whole(lengths: Lengths, rows: int, cutoff: int) -> None:
    """Raise PermanentError when rows, or parts of images, were lost on the way."""
    if lengths.samples != rows:
        raise invalid_dataset(
            f"{rows} rows are valid but LLaMA-Factory encoded {lengths.samples}: it dropped {rows - lengths.samples}. "
            "Look for 'Dropped' in this pod's log."
        )
    if lengths.cut_media:
        more = lengths.cut_media - len(lengths.cut_media_rows)
        raise invalid_dataset(
            f"Part of an image would be cut off, which no model can be trained on, from rows longer than "
            f"spec.training.cutoffLen allows ({cutoff} tokens): {'; '.join(lengths.cut_media_rows)}"
            + (f"; and {more} more" if more else "")
            + ". Raise cutoffLen, or make images smaller with image_max_pixels in spec.extraArguments."
        )


def _load_encoder(completed: Mapping[str, Any], template: str) -> Encoder:
    """The first half of llamafactory.train.sft.run_sft, up to its data and without its model."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.data.loader import _get_dataset_processor
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    upstream.load_tokenizers_once()
    try:
        model_args, data_args, training_args, _, _ = get_train_args(dict(completed))
    except (ValueError, ImportError) as error:
        raise_unless_inputs(error)
        raise invalid_config(f"LLaMA-Factory refuses the training arguments: {error}{_hint(str(error))}") from error
    if training_args.predict_with_generate:
        raise invalid_config(
            "predict_with_generate needs data in another form: remove it from spec.extraArguments. Evaluation computes "
            "the loss."
        )
    try:
        loaded = load_tokenizer(model_args)
    except (ValueError, OSError) as error:
        raise_unless_inputs(error)
        what = error.__cause__ or error  # LLaMA-Factory's own words are "Failed to load tokenizer."
        raise invalid_model(f"The tokenizer in {model_args.model_name_or_path} does not load: {what}") from error
    if template in families.VISION and loaded["processor"] is None:
        raise _no_processor(model_args, template)
    try:
        fixed = get_template_and_fix_tokenizer(loaded["tokenizer"], data_args)
    except ValueError as error:
        raise invalid_config(f"spec.model.template: {error}") from error
    render = _shipped(**loaded)
    shipped = defaults_of(render) if render and data_args.default_system is None else None
    form = ChatForm(fixed, template, shipped or Defaults.of(fixed), thinks=data_args.enable_thinking is not False)
    processor = _get_dataset_processor(data_args, "sft", fixed, **loaded)
    return Encoder(processor, form, render, seed=int(training_args.seed))


def _shipped(tokenizer: Any, processor: Any) -> parity.Render | None:
    """The model's own chat template, None where it has none."""
    shipped = next((one for one in (tokenizer, processor) if getattr(one, "chat_template", None)), None)
    if shipped is None:
        return None
    return lambda messages, **more: str(shipped.apply_chat_template(messages, tokenize=False, **more))


def _no_processor(model_args: Any, template: str) -> PermanentError:
    """LLaMA-Factory only logs why the processor does not load: here it is loaded once more to learn that.

    Raises the exception itself where the volume is to blame, and StageError when it loads this time.
    """
    from transformers import AutoProcessor

    try:
        loaded = AutoProcessor.from_pretrained(
            model_args.model_name_or_path,
            use_fast=model_args.use_fast_tokenizer,
            trust_remote_code=model_args.trust_remote_code,
        )
    except Exception as error:  # whatever a model's own code raises
        raise_unless_inputs(error)
        why = f"{type(error).__name__}: {error!s:.300}"
    else:
        why = f"it holds a {type(loaded).__name__} alone"
        if "Processor" in type(loaded).__name__:  # LLaMA-Factory's own test
            raise StageError("PreparationFailed", f"The image processor did not load at first. {STORAGE_ADVICE}")
    return invalid_model(
        f"The image processor in {model_args.model_name_or_path} does not load, which the template {template} needs "
        f"({why}): the model directory lacks preprocessor_config.json or another part of it."
    )


def _hint(error: str) -> str:
    return " Remove or correct the key in spec.extraArguments." if "HfArgumentParser" in error else ""
