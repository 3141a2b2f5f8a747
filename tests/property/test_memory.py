"""The memory estimate is monotone: who asks for more never seems to need less."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qwensft.api.v1alpha1 import Spec, parse_job
from qwensft.estimate.architectures import Architecture, known
from qwensft.estimate.memory import Footprint, footprint
from qwensft.estimate.verdict import estimate

NAMES = (
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen2.5-72B-Instruct",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "Qwen/Qwen3-32B",
)
names = st.sampled_from(NAMES)
targets = st.sampled_from([["q_proj", "v_proj"], ["all"], ["gate_proj", "up_proj", "down_proj"], ["lm_head"]])


@st.composite
def trainings(draw: st.DrawFn) -> dict[str, Any]:
    """A spec of LoRA, with whatever else may be asked for beside it."""
    stage = draw(st.sampled_from([None, 0, 1, 2, 3]))
    spec: dict[str, Any] = {
        "model": {"name": draw(names)},
        "datasets": [
            {"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows.json"}}}
        ],
        "storage": {"volume": {"claimTemplate": {"size": "1Ti"}}},
        "tuning": {"method": "lora", "lora": {"rank": draw(st.integers(1, 512)), "targets": draw(targets)}},
        "training": {
            "perDeviceTrainBatchSize": draw(st.integers(1, 64)),
            "cutoffLen": draw(st.integers(16, 131072)),
            "gradientCheckpointing": draw(st.booleans()),
            "ligerKernel": draw(st.booleans()),
            "packing": draw(st.booleans()),
        },
        "distribution": {"nodes": draw(st.integers(1, 16))}
        | ({} if stage is None else {"deepspeed": {"stage": stage}}),
        "worker": {"accelerator": {"count": draw(st.integers(1, 8))}},
    }
    if draw(st.booleans()):
        spec["evaluation"] = {"fraction": 0.1, "batchSize": draw(st.integers(1, 64))}
    return spec


def read(spec: dict[str, Any]) -> tuple[Spec, Architecture]:
    document = {"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": {"name": "a"}, "spec": spec}
    built = parse_job(document).spec
    model = known(built.model.name)
    assert model is not None
    return built, model


def needs(spec: dict[str, Any], longest: int | None = None) -> Footprint:
    needed = footprint(*read(spec), longest)
    assert needed is not None
    return needed


def changed(spec: dict[str, Any], block: str, **fields: Any) -> dict[str, Any]:
    return spec | {block: spec[block] | fields}


@given(trainings(), st.integers(1, 64))
def test_a_larger_batch_never_needs_less(spec: dict[str, Any], more: int) -> None:
    batch = spec["training"]["perDeviceTrainBatchSize"]
    larger = changed(spec, "training", perDeviceTrainBatchSize=batch + more)
    assert needs(larger).device > needs(spec).device or "evaluation" in spec
    assert needs(larger).device >= needs(spec).device


@given(trainings(), st.integers(1, 100_000))
def test_a_longer_cutoff_never_needs_less(spec: dict[str, Any], more: int) -> None:
    longer = changed(spec, "training", cutoffLen=spec["training"]["cutoffLen"] + more)
    assert needs(longer).device > needs(spec).device


@given(trainings(), st.integers(1, 200_000), st.integers(1, 200_000))
def test_longer_examples_never_need_less(spec: dict[str, Any], one: int, other: int) -> None:
    short, long = sorted((one, other))
    assert needs(spec, short).device <= needs(spec, long).device <= needs(spec).device


@given(trainings(), st.integers(1, 512))
def test_a_higher_rank_never_needs_less(spec: dict[str, Any], more: int) -> None:
    lora = spec["tuning"]["lora"]
    higher = changed(spec, "tuning", lora=lora | {"rank": lora["rank"] + more})
    assert needs(higher).device >= needs(spec).device


@given(trainings())
def test_qlora_needs_no_more_than_lora_than_dora_and_lora_no_more_than_full(spec: dict[str, Any]) -> None:
    lora = needs(spec).device
    assert needs(changed(spec, "tuning", method="qlora")).device <= lora
    assert lora <= needs(changed(spec, "tuning", method="dora")).device
    # Half of the ranks here have adapters as large as the model itself.
    small = changed(spec, "tuning", lora=spec["tuning"]["lora"] | {"rank": 8})
    assert needs(small).device <= needs(spec | {"tuning": {"method": "full"}}).device


@given(trainings(), st.integers(1, 16))
def test_more_nodes_never_need_more_of_each_accelerator(spec: dict[str, Any], more: int) -> None:
    wider = changed(spec, "distribution", nodes=spec["distribution"]["nodes"] + 1 + more)
    several = changed(spec, "distribution", nodes=spec["distribution"]["nodes"] + 1)
    assert needs(wider).device <= needs(several).device


@given(trainings(), st.floats(1, 400))
def test_an_estimate_is_what_the_api_takes_and_its_verdict_is_right(spec: dict[str, Any], gibibytes: float) -> None:
    told = estimate(*read(spec), source="a test", memory=gibibytes * 2**30)
    assert told.gpu_memory_gi_b is not None
    assert told.fits == (told.gpu_memory_gi_b <= gibibytes) or abs(told.gpu_memory_gi_b - gibibytes) < 0.1
    assert 0 < len(told.message or "") <= 1024
    assert told.document() == type(told).model_validate(told.document()).document()
