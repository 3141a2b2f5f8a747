"""The merge verification of the trainer image passes right merges and refuses damaged ones, in every dtype.

It needs torch, so it runs in the image; no training is involved.
"""

from __future__ import annotations

from typing import Any

import pytest
from quickstart.pods import printed_json, run_script
from quickstart.setup import Ready

from .runs import SCRIPTS

DTYPES = ("bf16", "fp16", "fp32")
VARIANTS = ("lora", "dora", "rslora", "embeddings", "input embeddings", "full")
RIGHT = [
    *(f"{dtype} {variant}" for dtype in DTYPES for variant in VARIANTS),
    *(f"{dtype} lora as {other}" for dtype in DTYPES for other in DTYPES if other != dtype),
    *("deep lora", "deep dora", "experts", "sees"),
]
QUERY = "model.layers.0.self_attn.q_proj.weight"
REFUSED = {
    "scale": f"{QUERY} is up to ",
    "transposed": f"{QUERY} is up to ",
    "half of the layers": "model.layers.1.mlp.down_proj.weight is the base's, and training has changed it",
    "stale": f"{QUERY} is the base's, and training has changed it",
    "all stale": "model.layers.0.mlp.down_proj.weight is the base's",
    "extra": "1 tensors are not the base's: model.extra.weight",
    "missing": f"1 tensors are missing: {QUERY}",
    "swapped": f"{QUERY} is up to ",
    "not a number": f"{QUERY} holds NaN",
    "untouched not a number": "model.norm.weight holds NaN",
    "infinite": f"{QUERY} holds ",
    "other dtype": f"{QUERY} is fp",
    "rounded otherwise": f"{QUERY} is up to ",
    "untouched by one bit": "model.norm.weight differs from the base",
    "index": "the index names model-0000",
    "other run": "model.layers.0.mlp.down_proj.weight is up to ",
    "rope": "its logits are ",
    "names": "its logits are ",
    "tokenizer": "its tokenizer has another id for 'a' than the base's: ",
    "checkpoint without": f"the trained checkpoint holds no {QUERY}",
}

Verdicts = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def verdicts(ready: Ready, namespace: str) -> Verdicts:
    printed = run_script(
        ready.kubectl, namespace, SCRIPTS / "verify_merges.py", [], image=ready.images.trainer, claims={}
    )
    found: Verdicts = printed_json(printed)
    return found


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_merge_passes(verdicts: Verdicts, case: str) -> None:
    found = verdicts["good"][case]
    assert not isinstance(found, str), found
    assert found["changed"]
    assert "tolerance" not in found or found["relativeError"] <= 1e-5


def test_few_numbers_are_not_the_nearest(verdicts: Verdicts) -> None:
    for case in ("deep lora", "deep dora"):
        found = verdicts["good"][case]
        assert found["oneUnitOff"] < 1e-4 * found["numbers"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("damage", REFUSED)
def test_a_damaged_merge_is_refused(verdicts: Verdicts, dtype: str, damage: str) -> None:
    found = verdicts["damaged"][dtype][damage]
    assert isinstance(found, str), found
    assert found.startswith(f"MergeVerificationFailed: {REFUSED[damage]}")


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        ("rope", "in config.json rope_parameters.rope_theta is 20000.0, not 10000.0"),
        ("names", "loads a tensor elsewhere"),
    ],
)
def test_refused_logits_are_explained(verdicts: Verdicts, damage: str, cause: str) -> None:
    assert cause in verdicts["damaged"]["bf16"][damage]
