"""Compares both sides in one scene after the other, and prints and writes what was found as it comes."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu import figures, inputs, measure, model, published
from benchmarks.gpu.scenes import Scene, possible


def compare(options: argparse.Namespace, scenes: tuple[Scene, ...], device: str) -> None:
    """Measure all scenes. A device that is lent may be taken back in between: the file is written after each."""
    gpu = device != "CPU"
    shape = figures.SHAPES["dry" if options.dry else options.size]
    root: Path = options.directory.resolve()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    print(f"writing a random Qwen3 of {shape.parameters / 1e6:,.1f} M parameters", flush=True)
    model.write_model(root / "model", shape, "bfloat16" if gpu else "float32")
    liger = gpu and importlib.util.find_spec("liger_kernel") is not None
    if not liger:
        print("Liger kernels are left out: they need a GPU, and the package liger-kernel", flush=True)
    found: list[dict[str, Any]] = []
    for scene in possible(scenes, liger=liger):
        found.append(_measured(options, scene, device, shape, root))
        print(f"\n{_title(found[-1])}\n\n{figures.table(found[-1])}\n", flush=True)
        if options.output:
            written = {"scenes": found, "published": [asdict(one) for one in published.PUBLISHED]}
            options.output.write_text(json.dumps(written, indent=2) + "\n")
    if len(found) > 1:
        print(f"{figures.overview(found)}\n")
    print(published.table())
    if gpu and found[0]["peakTflops"] is None:
        print(f"\nNo peak is known for {device}: add it to PEAK_TFLOPS (training/efficiency.py) for the MFU.")


def _measured(
    options: argparse.Namespace, scene: Scene, device: str, shape: figures.Shape, root: Path
) -> dict[str, Any]:
    gpu = device != "CPU"
    length, batch = (64, 2) if options.dry else (options.length, options.batch)
    steps, warm_up = (60, 10) if options.dry else (options.steps, options.warm_up)
    for name in ("workspace", "scratch"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()
    rows = inputs.write_rows(
        root / "datasets" / inputs.DATASET / "rows.json",
        tokens=steps * batch * options.accumulation * length,
        length=length,
    )
    settings = {
        **asdict(scene),
        "rank": options.rank,
        "length": length,
        "batch": batch,
        "accumulation": options.accumulation,
        "steps": steps,
        "gpu": gpu,
        "attention": "fa2" if gpu and importlib.util.find_spec("flash_attn") else "sdpa",
    }
    configuration = root / "config"
    arguments = inputs.write_configuration(configuration, root, inputs.document(settings))
    print(f"{scene.name}: preparing {rows} rows", flush=True)
    logs = root / "logs" / scene.name
    counted = measure.prepare(configuration, root, logs / "prepare.log")
    trained = length if scene.packing else counted["tokens"] / counted["samples"]  # packed sequences are full
    how = {"warm_up": warm_up, "tokens_per_step": trained * batch * options.accumulation}
    ours: list[figures.Measured] = []
    theirs: list[figures.Measured] = []
    for number in range(1, options.rounds + 1):
        for name, side in (("bare", theirs), ("trainer", ours)):
            print(f"{scene.name}: round {number} of {options.rounds}: {name}", flush=True)
            log = logs / f"{name}-{number}.log"
            side.append(
                measure.bare(arguments, root, log, **how)
                if name == "bare"
                else measure.trainer(configuration, root, log, **how)
            )
    rank = None if scene.method == "full" else options.rank
    flops = figures.flops_per_token(shape, length=round(trained), lora_rank=rank)
    peak = figures.peak_tflops(device)
    return {
        "scene": scene.name,
        "device": device,
        "host": platform.machine(),
        "model": {"shape": shape.name, "parameters": shape.parameters},
        "settings": settings,
        "flopsPerToken": flops,
        "peakTflops": peak,
        **figures.summary(ours, theirs, flops=flops, peak=peak),
    }


def _title(found: Mapping[str, Any]) -> str:
    settings = found["settings"]
    switches = [f"{name} {'on' if settings[name] else 'off'}" for name in ("packing", "liger")]
    parts: Sequence[str] = (found["device"], found["model"]["shape"], settings["method"], settings["attention"])
    return ", ".join((*parts, *switches))
