"""Rows on a plain machine: the same verdicts as prepare's, by the same code, and without what only the image holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GOOD = {"instruction": "When?", "output": "From 8 to 18."}
RUN = {
    "owner": {"uid": "u", "namespace": "n", "name": "demo"},
    "runDirectory": "/workspace/demo",
    "model": {"name": "Qwen/Qwen3-8B", "path": "/workspace/demo/model", "template": "qwen3"},
    "tuning": {"method": "lora"},
    "datasets": [
        {"name": "support", "format": "alpaca", "path": "/datasets/support/rows.jsonl"},
        {"name": "elsewhere", "format": "alpaca", "download": {"hub": "huggingFace", "repo": "a/b"}},
    ],
    "evaluation": {"datasets": [{"name": "held-out", "format": "alpaca", "path": "/datasets/held-out/rows.jsonl"}]},
}
# What the image holds and a plain machine does not.
ABSENT = ("torch", "transformers", "datasets", "llamafactory", "huggingface_hub", "modelscope_hub", "PIL", "av")


def ask(folder: Path, **request: Any) -> dict[str, Any]:
    blocked = f"import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\n"
    code = (
        f"{blocked}sys.argv = ['rows', {str(folder)!r}]\nfrom qwensft_trainer.stages.rows import main\nsys.exit(main())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(request), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def rows(folder: Path, *values: Any) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return str(path)


def test_good_rows_are_counted_with_what_is_odd(tmp_path: Path) -> None:
    files = {"support": rows(tmp_path, GOOD, GOOD, GOOD | {"lang": "en"})}
    answer = ask(tmp_path, action="judge", run=RUN, files=files)
    assert answer["rows"] == {"support": 3}
    assert answer["metrics"]["duplicateSamples"] == 2
    assert any("lang" in warning for warning in answer["warnings"])


def test_bad_rows_are_named_as_prepare_names_them(tmp_path: Path) -> None:
    answer = ask(tmp_path, action="judge", run=RUN, files={"support": rows(tmp_path, GOOD, {"instruction": "?"})})
    assert answer["reason"] == "InvalidDataset"
    assert answer["message"].startswith("1 row is invalid: dataset support, file rows.jsonl, row 2 (line 2): ")


def test_evaluation_sets_are_compared_with_the_training(tmp_path: Path) -> None:
    file = rows(tmp_path, GOOD)
    answer = ask(tmp_path, action="judge", run=RUN, files={"support": file, "held-out": file})
    assert answer["metrics"]["evalSamplesInTraining"] == 1


def test_without_a_template_a_folder_is_asked_for(tmp_path: Path) -> None:
    run = RUN | {"model": {"name": "mine", "path": "/model"}}
    answer = ask(tmp_path, action="judge", run=run, files={"support": rows(tmp_path, GOOD)})
    assert (answer["reason"], "spec.model.template" in answer["message"]) == ("InvalidModel", True)


@pytest.mark.parametrize(
    ("row", "form"),
    [
        (GOOD, "alpaca"),
        ({"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}, "sharegpt"),
        ({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}, "openai"),
    ],
)
def test_the_format_is_recognised(tmp_path: Path, row: Any, form: str) -> None:
    answer = ask(tmp_path, action="recognise", file=rows(tmp_path, row, row))
    assert answer == {"format": form, "rows": 2}


def test_rows_in_no_format_say_why(tmp_path: Path) -> None:
    answer = ask(tmp_path, action="recognise", file=rows(tmp_path, {"text": "x"}))
    assert answer["reason"] == "InvalidDataset"
    assert "row 1: " in answer["message"]


def test_encoding_needs_what_the_image_holds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    files = {"support": rows(tmp_path, GOOD)}
    answer = ask(tmp_path, action="show", run=RUN, files=files, model=str(tmp_path), rows=1)
    assert answer["reason"] == "MissingPackage"
