"""The GPU benchmark's arithmetic, and that it measures the arguments the operator renders."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarks.gpu import figures, inputs, measure

SETTINGS: dict[str, Any] = {
    "method": "lora", "rank": 16, "length": 4096, "batch": 4, "accumulation": 1, "steps": 40,
    "packing": True, "gpu": True, "attention": "fa2", "liger": True,
}  # fmt: skip


def measured(tokens_per_second: float = 1000.0, memory: float = 10.0) -> figures.Measured:
    return figures.Measured(
        tokens_per_second=tokens_per_second,
        step_seconds=1.0,
        first_step_seconds=20.0,
        peak_memory_gib=memory,
        last_loss=2.0,
    )


def log(steps: int, *, slow: int = 1) -> tuple[list[dict[str, float]], list[float]]:
    """Steps of half a second each, but the first ones, `slow` of them, take 5.5 seconds; the start takes 10."""
    lines = [{"current_steps": step, "loss": 3.0 / step, "vram_reserved": float(step)} for step in range(1, steps + 1)]
    arrivals = [10.0 + 5.0 * min(step, slow) + 0.5 * step for step in range(1, steps + 1)]
    return [*lines, {"current_steps": steps}], [*arrivals, arrivals[-1] + 1.0]


@pytest.mark.parametrize(("name", "billions"), [("0.6b", 0.596), ("1.7b", 1.721)])
def test_the_shapes_are_those_of_the_published_models(name: str, billions: float) -> None:
    assert figures.SHAPES[name].parameters / 1e9 == pytest.approx(billions, abs=0.001)


def test_full_fine_tuning_costs_six_flops_a_weight_when_sequences_are_short() -> None:
    shape = figures.SHAPES["1.7b"]
    weights = shape.linear_parameters + shape.vocabulary * shape.hidden
    assert figures.flops_per_token(shape, length=0, lora_rank=None) == 6 * weights


def test_lora_saves_the_gradients_of_the_frozen_weights() -> None:
    shape = figures.SHAPES["1.7b"]
    full = figures.flops_per_token(shape, length=4096, lora_rank=None)
    lora = figures.flops_per_token(shape, length=4096, lora_rank=16)
    assert 2 / 3 < lora / full < 0.85


def test_an_adapter_has_rank_times_both_sides_of_every_linear_layer() -> None:
    shape = figures.Shape("x", hidden=8, layers=1, heads=2, kv_heads=1, head_dim=4, inner=16, vocabulary=10)
    assert shape.lora_parameters(1) == (8 + 8) + 2 * (8 + 4) + (8 + 8) + 3 * (8 + 16)


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H200", 989.0),
        ("NVIDIA H200 NVL", 835.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA T4", None),
    ],
)
def test_the_peak_goes_by_the_name_of_the_device(device: str, peak: float | None) -> None:
    assert figures.peak_tflops(device) == peak


def test_the_warm_up_and_the_last_line_without_a_loss_do_not_count() -> None:
    found = figures.rates(*log(12, slow=3), warm_up=3, tokens_per_step=100, memory_gib=1.0)
    assert found.tokens_per_second == pytest.approx(200.0)
    assert found.step_seconds == pytest.approx(0.5)
    assert found.first_step_seconds == 15.5
    assert found.peak_memory_gib == 12.0
    assert found.last_loss == pytest.approx(0.25)


def test_not_a_step_more_than_the_warm_up_is_left_out() -> None:
    found = figures.rates(*log(4, slow=4), warm_up=3, tokens_per_step=100, memory_gib=1.0)
    assert found.step_seconds == pytest.approx(5.5)


def test_a_log_that_ends_in_the_warm_up_is_an_error() -> None:
    with pytest.raises(ValueError, match="tells of 3 steps"):
        figures.rates(*log(3), warm_up=3, tokens_per_step=100, memory_gib=1.0)


def test_without_a_gpu_the_resident_memory_counts() -> None:
    lines, arrivals = log(12)
    bare = [{key: value for key, value in line.items() if key != "vram_reserved"} for line in lines]
    found = figures.rates(bare, arrivals, warm_up=3, tokens_per_step=100, memory_gib=1.5)
    assert found.peak_memory_gib == 1.5


def test_the_best_rounds_are_compared() -> None:
    found = figures.summary(
        [measured(900.0), measured(990.0, memory=11.0)], [measured(1000.0), measured(500.0)], flops=1e10, peak=100.0
    )
    assert found["ratio"]["tokensPerSecond"] == 0.99
    assert found["ratio"]["peakMemoryGiB"] == 1.1
    assert found["trainer"]["mfu"] == pytest.approx(0.099)
    assert found["trainer"]["rounds"] == [900.0, 990.0]


def test_the_table_has_no_mfu_for_an_unknown_device() -> None:
    shown = figures.table(figures.summary([measured()], [measured()], flops=1e10, peak=None))
    assert [line.split() for line in shown.splitlines() if line.startswith("MFU")] == [["MFU", "-", "-"]]
    assert "1.000" in shown


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_the_arguments_are_those_of_a_job_with_its_paths_below_one_directory(method: str, tmp_path: Path) -> None:
    arguments = inputs.write_configuration(
        tmp_path / "config", tmp_path / "root", inputs.document(SETTINGS | {"method": method})
    )
    assert arguments["packing"] is True
    assert arguments["bf16"] is True
    assert arguments["flash_attn"] == "fa2"
    assert arguments["enable_liger_kernel"] is True
    assert arguments["finetuning_type"] == ("full" if method == "full" else "lora")
    assert arguments.get("quantization_bit") == (4 if method == "qlora" else None)
    assert arguments["model_name_or_path"] == f"{tmp_path}/root/model"
    run = yaml.safe_load((tmp_path / "config" / "run.yaml").read_text())
    assert run["runDirectory"] == f"{tmp_path}/root/workspace/run"
    assert run["datasets"][0]["path"] == f"{tmp_path}/root/datasets/{inputs.DATASET}/rows.json"


def test_scenes_stand_beside_each_other() -> None:
    one = figures.summary([measured(900.0)], [measured(1000.0)], flops=1e10, peak=100.0) | {"scene": "lora-packing"}
    other = figures.summary([measured()], [measured()], flops=1e10, peak=None) | {"scene": "full"}
    lines = figures.overview([one, other]).splitlines()
    assert lines[1].split() == ["lora-packing", "900", "1,000", "0.900", "9.0%", "10.00", "1.000"]
    assert lines[2].split() == ["full", "1,000", "1,000", "1.000", "-", "10.00", "1.000"]


def test_there_are_rows_for_all_steps(tmp_path: Path) -> None:
    path = tmp_path / "data" / "rows.json"
    count = inputs.write_rows(path, tokens=10_000, length=256)
    rows = json.loads(path.read_text())
    assert len(rows) == count
    assert sum(len(row["instruction"] + row["output"]) for row in rows) >= 0.9 * 10_000
    assert all(row["instruction"] and row["output"] for row in rows)


LOGGED = '{"loss": 3.0, "vram_reserved": 2.0}'


def program(*lines: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(("import os, pathlib, sys, time", *lines))]


def test_a_side_that_fails_is_shown_by_the_end_of_its_log(tmp_path: Path) -> None:
    command = program("sys.exit('CUDA out of memory')")
    with pytest.raises(SystemExit, match=r"failed with exit code 1[\s\S]*CUDA out of memory"):
        measure._measure(command, tmp_path / "output", tmp_path / "log", {})


def test_each_line_has_the_time_at_which_it_came(tmp_path: Path) -> None:
    output = tmp_path / "output"
    command = program(
        f"output = pathlib.Path({str(output)!r})",
        "output.mkdir()",
        "with (output / 'trainer_log.jsonl').open('w', buffering=1) as log:",
        f"    print({LOGGED!r}, file=log); time.sleep(0.5); print({LOGGED!r}, file=log); print('{{}}', file=log)",
    )
    lines, arrivals, memory = measure._measure(command, output, tmp_path / "log", {})
    assert [line.get("loss") for line in lines] == [3.0, 3.0, None]
    assert arrivals[1] - arrivals[0] > 0.4
    assert arrivals == sorted(arrivals)
    assert memory > 0
    assert not output.exists()


def test_every_round_of_the_trainer_trains_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "workspace" / "run"
    command = program(
        f"run = pathlib.Path({str(run)!r})",
        "output = run / 'train' / os.environ.get('QWENSFT_ATTEMPT', '1')",
        # Like the trainer, which looks for what it has finished before.
        "if (run / 'train.json').exists() or list(run.glob('train/*/checkpoint-*')): sys.exit()",
        "(output / 'checkpoint-1').mkdir(parents=True)",
        "(run / 'train.json').touch()",
        "with (output / 'trainer_log.jsonl').open('w', buffering=1) as log:",
        f"    print({LOGGED!r}, file=log); time.sleep(0.5); print({LOGGED!r}, file=log)",
    )
    monkeypatch.setattr(measure, "_stage", lambda *_: command)
    for _ in range(2):
        found = measure.trainer(tmp_path / "config", tmp_path, tmp_path / "log", warm_up=1, tokens_per_step=100.0)
        assert found.peak_memory_gib == 2.0
        assert 0 < found.tokens_per_second < 250.0


def test_the_bare_command_has_a_home_it_may_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def measured(*arguments: Any) -> tuple[list[dict[str, float]], list[float], float]:
        given.update(arguments[3])
        return *log(3), 1.0

    monkeypatch.setattr(measure, "_measure", measured)
    measure.bare({"bf16": True}, tmp_path, tmp_path / "log", warm_up=1, tokens_per_step=100.0)
    assert Path(given["HOME"]).is_dir()
    assert yaml.safe_load((tmp_path / "bare.yaml").read_text())["bf16"] is True
