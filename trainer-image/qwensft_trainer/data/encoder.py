"""LLaMA-Factory's encoder of rows for supervised fine-tuning, with a meter: what each row becomes, and what it loses.

It is loaded by tokenization.py; why its own loader around it is not used stands in ADR 0055.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.contract.errors import PermanentError, StageError, invalid_config, invalid_dataset
from qwensft_trainer.data import fast_tokens, parity, preview, processes, shards
from qwensft_trainer.data.chat_form import ChatForm
from qwensft_trainer.data.lengths import Lengths
from qwensft_trainer.data.normalised_rows import TEXT_SIZE
from qwensft_trainer.data.parity import Parity
from qwensft_trainer.data.preview import Sample
from qwensft_trainer.data.turns import FUNCTION

_ROWS_WORTH_A_PROCESS = 2000


class Encoder:
    """LLaMA-Factory's processor for supervised fine-tuning, with a meter: called with groups of rows."""

    def __init__(self, processor: Any, form: ChatForm, render: parity.Render | None, *, seed: int) -> None:
        self.seed = seed
        self.each_evaluation_set = bool(processor.data_args.eval_on_each_dataset)
        # With packing LLaMA-Factory keeps a token of it for itself.
        self.cutoff = int(processor.data_args.cutoff_len)
        self._processor = processor
        self._data_args = processor.data_args
        self._template = processor.template
        self._tokenizer = fast_tokens.faster(processor.tokenizer)
        self._measures: list[dict[str, Any]] = []
        self._full: list[int] = []
        self._encode_row = processor._encode_data_example
        self._form = form
        self.default_system = form.defaults.system
        self._render = render
        processor._encode_data_example = self._measure_row
        processor.template.encode_multiturn = self._measure_turns
        plugin = processor.template.mm_plugin
        tokens = [token for token in (plugin.image_token, plugin.video_token) if token]
        self._media_tokens = set(self._tokenizer.convert_tokens_to_ids(tokens)) if tokens else set()

    def write(self, rows: Any, directory: Path) -> Lengths:
        """Encode rows of the normal form to a directory: what LLaMA-Factory's collator reads; returns their lengths."""
        asked = self._data_args.preprocessing_num_workers
        workers = processes.most(asked) if asked else min(processes.most(), len(rows) // _ROWS_WORTH_A_PROCESS)
        return shards.write_split(
            rows,
            self,
            self._features(),
            directory,
            sizes=rows.select_columns(TEXT_SIZE).with_format("numpy")[:][TEXT_SIZE].tolist(),
            group_rows=self._data_args.preprocessing_batch_size,
            workers=workers,
        )

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Encode a batch. With packing there are fewer sequences than rows: the first one has all the measures.

        Raises PermanentError InvalidDataset that names the row on which the encoder fails.
        """
        self._measures = []
        _refuse_learning_prompts(self._data_args, rows)
        try:
            encoded = self._processor.preprocess_dataset(_aligned(rows))
        except (MemoryError, StageError):
            raise
        except Exception as error:  # whatever LLaMA-Factory, a tokenizer or an image processor raises
            raise_unless_inputs(error)
            number = len(self._measures)
            if number == len(rows["place"]):  # all rows are encoded: it is about packing them
                raise
            raise _not_encoded(rows["dataset"][number], rows["place"][number], error) from error
        measures = [
            {"dataset": dataset, "place": place} | measure
            for dataset, place, measure in zip(rows["dataset"], rows["place"], self._measures, strict=False)
        ]
        sequences = len(encoded["input_ids"])
        encoded["measures"] = [measures] + [[]] * (sequences - 1) if sequences else []
        return dict(encoded)

    def preview(self, rows: dict[str, list[Any]]) -> list[Sample]:
        """Encode rows of the normal form one by one, without packing, to be looked at."""
        aligned = _aligned(rows)
        samples = []
        for number, (dataset, place) in enumerate(zip(rows["dataset"], rows["place"], strict=True)):
            example = {key.removeprefix("_"): values[number] for key, values in aligned.items()}
            media = {key: example[key] or [] for key in ("images", "videos", "audios")}
            try:
                encoded = self._measure_row(**example | media)
            except Exception as error:  # as in __call__
                raise_unless_inputs(error)
                raise _not_encoded(dataset, place, error) from error
            decode = self._tokenizer.decode
            full = self._measures[-1]["full"]
            samples.append(preview.sample(decode, dataset=dataset, place=place, encoded=encoded, full=full))
        return samples

    def compare(self, found: Parity, rows: dict[str, list[Any]]) -> None:
        """Count rows of the normal form that the model's chat template writes otherwise; none where it has none."""
        if self._render is not None and not self._data_args.mask_history:
            parity.Comparison(self._form, self._tokenizer, self._render).add(found, rows)

    def _measure_turns(self, _tokenizer: Any, *positional: Any, **named: Any) -> Any:
        pairs = self._form.encode(self._tokenizer, *positional, **named)
        self._full = [token for pair in pairs for side in pair for token in side]
        return pairs

    def _measure_row(self, **example: Any) -> Any:
        token_ids, labels = self._encode_row(**example)
        full = len(self._full) + bool(self._template.efficient_eos)
        # An image whose tokens are not all there makes the model's forward pass fail.
        cut = len(token_ids) < full and self._count_media(token_ids) < self._count_media(self._full)
        self._measures.append({"full": full, "kept": len(token_ids), "media_cut": cut})
        return token_ids, labels

    def _count_media(self, token_ids: list[int]) -> int:
        return sum(token in self._media_tokens for token in token_ids) if self._media_tokens else 0

    def _features(self) -> Any:
        """Types of all columns: inferred from the first batch, they would not fit when images first appear later."""
        from datasets import Features, List, Value

        numbers, texts = List(Value("int32")), List(Value("string"))
        features = {
            "input_ids": numbers,
            # Neat packing numbers the rows of a sequence in its mask; else the mask is 0 and 1.
            "attention_mask": numbers if self._data_args.neat_packing else List(Value("int8")),
            "labels": numbers,
            "images": texts,
            "videos": texts,
            "audios": texts,
        }
        if self._data_args.packing:
            features["position_ids"] = numbers
        if self._data_args.neat_packing:
            ids = List(Value("int64"))  # 2**32 stands for "none"
            media = {f"{kind}_subseq_ids": ids for kind in ("image", "video", "audio")}
            features["packing_params"] = {
                "sequence_boundaries": numbers,
                **media,
                "right_padding_length": Value("int32"),
            }
        return Features(features)


def _not_encoded(dataset: str, place: str, error: Exception) -> PermanentError:
    """Without the error's own text, which holds the row's."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return invalid_dataset(
        f"dataset {dataset}, {place}: LLaMA-Factory cannot encode the row ({type(error).__name__} in "
        f"{Path(last.filename).name}, {last.name}). Correct the row or take it out."
    )


def _refuse_learning_prompts(data_args: Any, rows: Mapping[str, list[Any]]) -> None:
    """An answer that is not to be learnt becomes part of a prompt."""
    if data_args.train_on_prompt and any(
        message["learn"] is False for messages in rows["messages"] for message in messages
    ):
        raise invalid_config(
            "train_on_prompt in spec.extraArguments learns all of a row, but rows say of answers that they are not to "
            "be learned: remove train_on_prompt, or these answers."
        )


def _aligned(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The form LLaMA-Factory's converters give: the last message apart, its own name for a function call."""
    turns = [
        [message | {"role": "function" if message["role"] == FUNCTION else message["role"]} for message in messages]
        for messages in rows["messages"]
    ]
    return {
        "_prompt": [messages[:-1] for messages in turns],
        "_response": [messages[-1:] for messages in turns],
        "_system": rows["system"],
        "_tools": rows["tools"],
        "_images": [images or None for images in rows["images"]],
        "_videos": [videos or None for videos in rows["videos"]],
        "_audios": [None] * len(turns),
    }
