"""The merged models: tiny bases of every kind, a random adapter on each, merged by the merge stage itself.

Usage: cases.py DIRECTORY CASES, with CASES as JSON: [{name, options, template, thinking, dtype, tokens, dora}]. For
each case leaves base/, merged/, told.json (what the stage says of the files that differ) and expected.npz: logits of
base and adapter in float32, made without the merge.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np  # type: ignore[import-not-found, unused-ignore]
import torch
import yaml
from peft import LoraConfig, get_peft_model
from prompts import prompts  # type: ignore[import-not-found]  # beside it in the pod
from transformers import AutoConfig, AutoTokenizer

from qwensft_trainer.base import upstream
from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.config import load_run
from qwensft_trainer.contract.stage import StageContext
from qwensft_trainer.merging import layers, tensor_names
from qwensft_trainer.merging.reference import Reference
from qwensft_trainer.stages import merge

MAKE_TINY_MODEL = "/opt/tiny-model/make_tiny_model.py"
EMBEDDINGS = ["embed_tokens", "lm_head"]
# More than the rows that Qwen's embeddings have to spare, so that the vocabulary grows.
PLAIN, SPECIAL = ["Töpferscheibe"], ["<|glaze|>", *(f"<|extra_{number}|>" for number in range(300))]
ADDED = {"resize_vocab": True, "add_tokens": ",".join(PLAIN), "add_special_tokens": ",".join(SPECIAL)}


def make(directory: Path, case: Mapping[str, Any]) -> None:
    """Make base and adapter, run the stage, and compute what the merged model must answer."""
    base, trained = directory / "base", directory / "run" / "train" / "1"
    subprocess.run([sys.executable, MAKE_TINY_MODEL, str(base), *case["options"]], check=True)
    context = configured(directory, case)
    workspace.claim(load_run(context.config))
    train(base, trained, case)
    merge.main(context)
    record = json.loads((directory / "run" / "merge.json").read_text())
    (directory / "told.json").write_text(json.dumps(record["differs"]))
    np.savez(directory / "expected.npz", *expected(base, trained, directory / "merged", case["dtype"]))


def train(base: Path, trained: Path, case: Mapping[str, Any]) -> None:
    """An adapter as training saves one, with random numbers; with `tokens`, the tokenizer and embeddings, too."""
    torch.manual_seed(1)
    model = tensor_names.model_class(AutoConfig.from_pretrained(base)).from_pretrained(base, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(base)
    if case["tokens"]:
        tokenizer.add_tokens(PLAIN)
        tokenizer.add_tokens(SPECIAL, special_tokens=True)
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        use_dora=case["dora"],
        target_modules=[name for name in linear if not name.endswith(("lm_head", ".gate"))],
        modules_to_save=EMBEDDINGS if case["tokens"] else None,
        init_lora_weights=False,
    )
    model = get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_magnitude" not in name and parameter.requires_grad:
            changed = "modules_to_save" in name
            noise = torch.randn_like(parameter, dtype=torch.float32) * 0.05
            parameter.data = (parameter.data.float() + noise if changed else noise * 4).to(parameter.dtype)
    model.save_pretrained(trained)
    tokenizer.save_pretrained(trained)
    (trained.parents[1] / "train.json").write_text(json.dumps({"directory": "train/1", "outputs": {}}))


def configured(directory: Path, case: Mapping[str, Any]) -> StageContext:
    """The stage, with the files that the operator would mount, and the record of a training."""
    etc, scratch, run = directory / "etc", directory / "scratch", directory / "run"
    for made in (etc, scratch):
        made.mkdir()
    told = {
        "version": 2,
        "owner": {"uid": "1", "namespace": "readers", "name": case["name"]},
        "runDirectory": str(run),
        "model": {"name": "Qwen/Tiny", "path": str(directory / "base"), "template": case["template"]},
        "tuning": {"method": "lora", "dora": case["dora"]},
        "merge": {"directory": str(directory / "merged"), "dtype": case["dtype"] or "auto"},
    }
    export = {
        "template": case["template"],
        **({} if case["thinking"] else {"enable_thinking": False}),
        **(ADDED if case["tokens"] else {}),
    }
    (etc / "run.yaml").write_text(yaml.safe_dump(told))
    (etc / "export.yaml").write_text(yaml.safe_dump(export))
    return StageContext(
        name="merge",
        attempt=1,
        config=etc,
        workspace=directory,
        scratch=scratch,
        termination_log=scratch / "log",
        metrics_port=0,
    )


def expected(base: Path, trained: Path, merged_model: Path, dtype: str | None) -> list[Any]:
    """Logits of base and adapter, whose sums are rounded once to the merged model's dtype, by peft's own layers."""
    upstream.compute_experts_without_cuda()
    config = AutoConfig.from_pretrained(base)
    found = AutoConfig.from_pretrained(merged_model)
    untied = bool(config.tie_word_embeddings and not found.tie_word_embeddings)
    if untied:
        config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    config.get_text_config().vocab_size = found.get_text_config().vocab_size
    with Reference(base, trained, lora=True, dtype=dtype, untied=untied, trust=False) as reference:
        return [
            logits[0].numpy()
            for logits in layers.logits(config, reference.weights(), prompts(merged_model), trust=False)
        ]


def main() -> None:
    """Make all cases."""
    for case in json.loads(sys.argv[2]):
        make(Path(sys.argv[1]) / case["name"], case)


if __name__ == "__main__":
    main()
