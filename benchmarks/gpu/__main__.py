"""The command line: `python -m benchmarks.gpu`; README.md says what is measured and how to run it.

ADR 0034 says why.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import shutil
import sys
from pathlib import Path

from benchmarks.gpu import figures, inputs, measure, model


def main() -> int:
    """Measure both sides, print the table, write the JSON."""
    options = _parser().parse_args()
    device = measure.device()
    gpu = device != "CPU"
    if not gpu and not options.dry:
        sys.exit("no GPU was found (nvidia-smi names none); --dry runs everything with a tiny model on the CPU")
    shape = figures.SHAPES["dry" if options.dry else options.size]
    length, batch = (64, 2) if options.dry else (options.length, options.batch)
    steps, warm_up = (60, 10) if options.dry else (options.steps, options.warm_up)
    root: Path = options.directory.resolve()
    shutil.rmtree(root, ignore_errors=True)
    for name in ("workspace", "scratch"):
        (root / name).mkdir(parents=True)

    print(f"writing a random Qwen3 of {shape.parameters / 1e6:,.1f} M parameters", flush=True)
    model.write_model(root / "model", shape, "bfloat16" if gpu else "float32")
    tokens = steps * batch * options.accumulation * length
    rows = inputs.write_rows(root / "datasets" / inputs.DATASET / "rows.json", tokens=tokens, length=length)
    settings = {
        "method": options.method,
        "rank": options.rank,
        "length": length,
        "batch": batch,
        "accumulation": options.accumulation,
        "steps": steps,
        "gpu": gpu,
        "attention": "fa2" if gpu and importlib.util.find_spec("flash_attn") else "sdpa",
        "liger": gpu and importlib.util.find_spec("liger_kernel") is not None,
    }
    configuration = root / "config"
    arguments = inputs.write_configuration(configuration, root, inputs.document(settings))
    print(f"preparing {rows} rows", flush=True)
    measure.prepare(configuration, root, root / "logs" / "prepare.log")

    ours: list[figures.Measured] = []
    theirs: list[figures.Measured] = []
    for number in range(1, options.rounds + 1):
        for name, side in (("bare", theirs), ("trainer", ours)):
            print(f"round {number} of {options.rounds}: {name}", flush=True)
            log = root / "logs" / f"{name}-{number}.log"
            side.append(
                measure.bare(arguments, root, log, warm_up=warm_up)
                if name == "bare"
                else measure.trainer(configuration, root, log, warm_up=warm_up)
            )

    rank = options.rank if options.method == "lora" else None
    flops = figures.flops_per_token(shape, length=length, lora_rank=rank)
    peak = figures.peak_tflops(device)
    found = {
        "device": device,
        "host": platform.machine(),
        "model": {"shape": shape.name, "parameters": shape.parameters},
        "settings": settings,
        "flopsPerToken": flops,
        "peakTflops": peak,
        **figures.summary(ours, theirs, flops=flops, peak=peak),
    }
    print(f"\n{device}, {shape.name}, {options.method}, {settings['attention']}, Liger {settings['liger']}\n")
    print(figures.table(found))
    if gpu and peak is None:
        print(f"\nNo peak is known for {device}: add it to PEAK_TFLOPS (training/efficiency.py) for the MFU.")
    if options.output:
        options.output.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--size", choices=[name for name in figures.SHAPES if name != "dry"], default="1.7b")
    parser.add_argument("--method", choices=["lora", "full"], default="lora")
    parser.add_argument("--rank", type=int, default=16, help="of the LoRA adapter")
    parser.add_argument("--length", type=int, default=4096, help="tokens of a packed sequence")
    parser.add_argument("--batch", type=int, default=4, help="sequences a step")
    parser.add_argument("--accumulation", type=int, default=1, help="batches before a weight update")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=10, help="steps that do not count")
    parser.add_argument("--rounds", type=int, default=2, help="both sides in turn; the best of each counts")
    parser.add_argument("--directory", type=Path, default=Path("/tmp/qwensft-benchmark"), help="emptied first")  # noqa: S108
    parser.add_argument("--output", type=Path, help="file for the figures as JSON")
    parser.add_argument("--dry", action="store_true", help="a tiny model and short steps, also without a GPU")
    return parser


if __name__ == "__main__":
    sys.exit(main())
