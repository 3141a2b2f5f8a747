"""A vision model has a processor in its checkpoints: LLaMA-Factory writes it beside the files of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from llamafactory.hparams import FinetuningArguments, TrainingArguments  # type: ignore[import-not-found, unused-ignore]
from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer  # type: ignore[import-not-found, unused-ignore]
from transformers import (  # type: ignore[import-not-found, unused-ignore]
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from qwensft_trainer.base import upstream
from qwensft_trainer.training import checkpoints, manifests
from qwensft_trainer.training.callback import RunCallback


class Processor:
    """As of Qwen2.5-VL: it tells the tokenizer whose it is, and has a chat template of its own."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def save_pretrained(self, directory: str) -> None:
        self._tokenizer._set_processor_class("Qwen2_5_VLProcessor")
        self._tokenizer.save_pretrained(directory)
        Path(directory, "chat_template.jinja").write_text("{{ messages }} of the processor")
        Path(directory, "processor_config.json").write_text("{}")


def test_a_processor_that_writes_the_tokenizer_again_damages_no_checkpoint(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CustomSeq2SeqTrainer, "__init__", CustomSeq2SeqTrainer.__init__)  # taken back in the end
    upstream._save_processors_first()
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{{ messages }}"
    output = tmp_path / "train" / "1"
    output.mkdir(parents=True)
    (output / checkpoints.ATTEMPT_FILE).write_text(json.dumps({checkpoints.SEALED: True}))
    arguments = TrainingArguments(
        output_dir=str(output), use_cpu=True, report_to="none", max_steps=2, save_steps=1, per_device_train_batch_size=1
    )
    row = {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "labels": [5, 6, 7]}
    trainer = CustomSeq2SeqTrainer(
        finetuning_args=FinetuningArguments(),
        processor=Processor(tokenizer),
        model=AutoModelForCausalLM.from_pretrained(model),
        args=arguments,
        train_dataset=[row, row],
        tokenizer=tokenizer,
        callbacks=[RunCallback(tmp_path)],
    )
    trainer.train()
    for step in (1, 2):
        folder = output / f"checkpoint-{step}"
        assert manifests.is_sealed(folder)
        assert manifests.damage(folder) is None
        listed = json.loads((folder / manifests.MANIFEST).read_text())["files"]
        assert "processor_config.json" in listed
