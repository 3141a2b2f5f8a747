"""The process that answers for samples.py: the base first, then what was trained, to the same prompts, greedily.

`python -m qwensft_trainer.training.generation TASK`. It writes what it has after each batch. No text of a row or an
answer is printed, nor an error's own words, which may hold one.
"""

from __future__ import annotations

import gc
import inspect
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from qwensft_trainer.base import files, upstream
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.media_marks import shortened
from qwensft_trainer.training import imports, sample_rows
from qwensft_trainer.training.sample_rows import Question
from qwensft_trainer.training.samples import ALLOWED_SECONDS, Answer, Generated, Sample, Task

_BATCH_TOKENS = 16_384  # of a batch, with what is answered: keys and values of a model of 8B take 2.3 GiB for so many
_TRAIN, _VALIDATION = "train", "validation"  # splits of the tokenised rows; of each set, validation_<name>
_OF_THE_TIME = f"not all was answered within {ALLOWED_SECONDS:.0f} s"
_NO_PROMPT = (
    "no row that was looked at has a prompt before the first learnt token, with all of its images and videos in it"
)


class TooLargeError(Exception):
    """The model does not fit into the accelerators that this process sees."""


def main() -> None:
    """Do the task in the file that the command line names. What fails is told in what is written."""
    task = Task.model_validate(files.read_json_object(Path(sys.argv[1])))
    generation = Generation(task)
    try:
        generation.run()
    except Exception as error:  # whatever loading and generating raises
        traceback.print_tb(error.__traceback__)
        generation.tell(why=reason(error))


def reason(error: Exception) -> str:
    """What failed, without words of the error that may hold a row's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "there was not enough memory to load the model or to answer"
    if isinstance(error, TooLargeError):
        return "the model does not fit into the accelerators of one pod"
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(last.filename).name}, {last.name}; the log has more"


class Generation:
    """One task. Its answers are kept as they come, and written after each batch."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._generated = Generated()

    def tell(self, **changes: Any) -> None:
        """Write what there is, with these changes."""
        self._generated = Generated(**dict(self._generated) | changes)
        files.write_json(self._task.target, self._generated.document())

    def run(self) -> None:
        """Answer twice to each question. Raises whatever libraries do."""
        task = self._task
        source, rows = _rows(task.rows)
        models = _Models(task)
        questions = sample_rows.choose(rows, task.count, models.media_tokens)
        asked = (
            Sample(row=one.row + 1, prompt=models.text(one.prompt), wanted=models.text(models.answer(one.wanted)[0]))
            for one in questions
        )
        self.tell(
            source=source,
            rows=len(rows),
            new_tokens=sample_rows.new_tokens(questions),
            samples=tuple(asked),
            why=None if questions else _NO_PROMPT,
        )
        if not questions:
            return
        now = time.monotonic()
        self._pass("before", models, models.base(), questions, until=now + (task.until - now) / 2)
        self._pass("after", models, models.trained(), questions, until=task.until)

    def _pass(
        self, when: str, models: _Models, model: PreTrainedModel, questions: Sequence[Question], *, until: float
    ) -> None:
        """Answer all questions with one model, as far as the time goes."""
        done, complete, most = 0, True, self._generated.new_tokens
        for batch in sample_rows.batches(questions, _BATCH_TOKENS, most):
            if time.monotonic() >= until:
                break
            samples = list(self._generated.samples)
            for place, (tokens, ended) in enumerate(models.answers(model, batch, most, until), start=done):
                answer = Answer(text=models.text(tokens), complete=ended)
                samples[place] = Sample(**dict(samples[place]) | {when: answer})
                complete = complete and ended
            done += len(batch)
            self.tell(samples=tuple(samples))
        if time.monotonic() >= until and not (complete and done == len(questions)):
            self.tell(why=_OF_THE_TIME)
        log(f"answered {done} of {len(questions)} prompts {when} the training")


class _Models:
    """Base and trained model, one after the other in the same memory, and what turns texts into tokens and back."""

    def __init__(self, task: Task) -> None:
        upstream.load_no_code()
        upstream.load_tokenizers_once()
        upstream.compute_experts_without_cuda()
        if not imports.uses_bitsandbytes(task.arguments):
            upstream.leave_bitsandbytes_out()
        from llamafactory.data import get_template_and_fix_tokenizer
        from llamafactory.hparams import get_infer_args
        from llamafactory.model import load_tokenizer

        self._task = task
        self._get_arguments: Callable[[dict[str, Any]], Any] = get_infer_args
        model_args, data_args, _, _ = get_infer_args(dict(task.arguments))
        loaded = load_tokenizer(model_args)
        self._tokenizer, self._processor = loaded["tokenizer"], loaded["processor"]
        template = get_template_and_fix_tokenizer(self._tokenizer, data_args)
        self._plugin = template.mm_plugin
        self._stops = frozenset(template.get_stop_token_ids(self._tokenizer))
        marks = [mark for mark in (self._plugin.image_token, self._plugin.video_token) if mark]
        self.media_tokens = frozenset(self._tokenizer.convert_tokens_to_ids(marks)) if marks else frozenset()
        self._base: PreTrainedModel | None = None
        self._adapters: Any = None  # peft's model around the base, whose layers it changes in their place

    def base(self) -> PreTrainedModel:
        """The model before the training."""
        self._base = self._load(self._task.base)
        if self._task.begun_with is not None:
            self._put_on(self._task.begun_with, "before")
        return self._base

    def trained(self) -> PreTrainedModel:
        """The model after the training. The base is used up."""
        if self._task.adapter:
            self._put_on(self._task.trained, "trained")
            return self._base
        self._base = None
        gc.collect()
        torch.cuda.empty_cache()
        return self._load(self._task.trained)

    def _put_on(self, directory: Path, name: str) -> None:
        """Have the base answer with an adapter, in the place of the one before."""
        from peft import PeftModel

        if self._adapters is None:
            self._adapters = PeftModel.from_pretrained(self._base, str(directory), adapter_name=name)
        else:
            self._adapters.load_adapter(str(directory), name)
        self._adapters.set_adapter(name)
        self._adapters.requires_grad_(False).eval()

    def _load(self, directory: Path) -> PreTrainedModel:
        from llamafactory.model import load_model

        model_args, _, finetuning_args, _ = self._get_arguments(
            self._task.arguments | {"model_name_or_path": str(directory)}
        )
        model: PreTrainedModel = load_model(self._tokenizer, model_args, finetuning_args, is_trainable=False)
        if torch.cuda.is_available() and {"cpu", "disk"} & set(getattr(model, "hf_device_map", {}).values()):
            raise TooLargeError
        ends = model.generation_config.eos_token_id
        self._stops |= frozenset(ends if isinstance(ends, list) else [ends] if ends is not None else [])
        # Its own settings, of which some samples and penalise, would fill what ours leave open.
        model.generation_config = GenerationConfig(
            do_sample=False,
            eos_token_id=sorted(self._stops),
            pad_token_id=self._tokenizer.pad_token_id,
        )
        return model

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens say, control tokens included."""
        return shortened(self._tokenizer.decode(tokens))

    def answer(self, tokens: Sequence[int]) -> tuple[list[int], bool]:
        """The tokens of an answer up to its end, and whether it has come to one."""
        return sample_rows.until_stop(tokens, self._stops)

    def answers(
        self, model: PreTrainedModel, batch: Sequence[Question], most: int, until: float
    ) -> Iterator[tuple[list[int], bool]]:
        """The answers to a batch, all at once, of so many tokens at most; at the time `until` they end."""
        longest = max(len(one.prompt) for one in batch)
        padding = [longest - len(one.prompt) for one in batch]
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * left + one.prompt for left, one in zip(padding, batch, strict=True)])
        mask = torch.tensor([[0] * left + [1] * (longest - left) for left in padding])
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=most,
                stopping_criteria=StoppingCriteriaList([_TimeIsOver(until)]),
                use_cache=True,
                **self._media(model, batch, ids),
            )
        return map(self.answer, found[:, longest:].tolist())

    def _media(self, model: PreTrainedModel, batch: Sequence[Question], ids: torch.Tensor) -> Mapping[str, Any]:
        """Images and videos of a prompt that is alone in its batch, as LLaMA-Factory's collator has them."""
        one = batch[0]
        if not one.has_media:
            return {}
        inputs = self._plugin.get_mm_inputs(
            images=one.images,
            videos=one.videos,
            audios=[],
            imglens=[len(one.images)],
            vidlens=[len(one.videos)],
            audlens=[0],
            batch_ids=[one.prompt],
            processor=self._processor,
        )
        given = {name: self._on_device(model, value) for name, value in inputs.items()}
        # Of which kind each token is: transformers 5 computes positions by it.
        if "mm_token_type_ids" in inspect.signature(model.forward).parameters:
            kinds = torch.zeros_like(ids)
            for kind, name in enumerate(("image_token_id", "video_token_id"), start=1):
                kinds[ids == getattr(model.config, name, -1)] = kind
            given["mm_token_type_ids"] = kinds.to(model.device)
        return given

    @staticmethod
    def _on_device(model: PreTrainedModel, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(model.device, model.dtype if value.is_floating_point() else None)


class _TimeIsOver(StoppingCriteria):  # type: ignore[misc]  # transformers carries no types here
    """Ends all answers of a batch at a time of the monotonic clock."""

    def __init__(self, until: float) -> None:
        self._until = until

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), time.monotonic() >= self._until, device=input_ids.device)


def _rows(directory: Path) -> tuple[str, Any]:
    """Where the prompts are from, and the rows: those to evaluate on where there are any, else those trained on."""
    from datasets import concatenate_datasets, load_from_disk

    splits = load_from_disk(str(directory))
    held_out = [rows for name, rows in splits.items() if name.startswith(_VALIDATION)]
    if any(len(rows) for rows in held_out):
        return "evaluation", concatenate_datasets(held_out)
    return "training", splits[_TRAIN]


if __name__ == "__main__":
    main()
