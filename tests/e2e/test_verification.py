"""The merge verification of the trainer image passes good merges and refuses damaged ones, in every dtype.

It needs torch, so it runs in the image; no training is involved.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from quickstart.pods import run_script
from quickstart.setup import Ready

from .runs import SCRIPTS

REFUSED = {
    "no-op tensors": "no tensor differs from the base",
    "no-op logits": "its logits are",
    "merged twice": "its logits are",
    "missing tensor": "1 tensors of the base are missing",
    "not a number": "holds NaN",
    "other dtype": "is torch.float64",
    "untouched changed": "model.norm.weight differs",
}


@pytest.fixture(scope="module")
def verdicts(ready: Ready, namespace: str) -> dict[str, dict[str, Any]]:
    printed = run_script(
        ready.kubectl, namespace, SCRIPTS / "verify_merges.py", [], image=ready.images.trainer, claims={}
    )
    found: dict[str, dict[str, Any]] = json.loads(printed.splitlines()[-1])
    return found


DTYPES = pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])


@DTYPES
def test_a_good_merge_passes(verdicts: dict[str, dict[str, Any]], dtype: str) -> None:
    assert (verdicts[dtype]["good tensors"], verdicts[dtype]["good logits"]) == ("ok", "ok")


@DTYPES
@pytest.mark.parametrize("damage", REFUSED)
def test_a_damaged_merge_is_refused(verdicts: dict[str, dict[str, Any]], dtype: str, damage: str) -> None:
    assert REFUSED[damage] in verdicts[dtype][damage]
    assert verdicts[dtype][damage].startswith("MergeVerificationFailed")


@DTYPES
def test_the_tolerance_lies_between_a_good_merge_and_none(verdicts: dict[str, dict[str, Any]], dtype: str) -> None:
    good, none, tolerance = verdicts[dtype]["errors"]
    assert good <= tolerance < none / 5
