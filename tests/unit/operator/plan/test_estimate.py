"""`status.estimate`: when it is made, what it is compared with, and that a warning is told once."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Estimate, parse_worker_defaults
from qwensft_operator.plan.estimate import accelerator_memory
from qwensft_operator.plan.types import NodeView, Observed, Report

from .builders import COMPLETE, NOW, PREPARE, RUNNING, TRAIN, Seen, job, later, look, new_run, pod, scene

MODEL = {
    "hiddenSize": 1024, "layers": 28, "heads": 16, "kvHeads": 8, "headDim": 128, "intermediateSize": 3072,
    "vocabSize": 151936, "tied": True, "experts": None, "moeIntermediateSize": None, "parameters": 596_049_920,
}  # fmt: skip
OUT_OF_MEMORY = ("Warning", "EstimatedOutOfMemory")


def node(name: str = "gpu-0", gibibytes: int | str = 80, count: int | None = 8, **labels: str) -> NodeView:
    memory = str(gibibytes * 1024) if isinstance(gibibytes, int) else gibibytes
    more = {} if count is None else {"nvidia.com/gpu.count": str(count)}
    return NodeView(name, {"nvidia.com/gpu.memory": memory, **more, **labels})


def prepared(found: dict[str, Any] | None = None, /, longest: int | None = None, **fields: Any) -> Observed:
    """The prepare stage has just completed."""
    metrics: dict[str, float] = {"samples": 10, **({} if longest is None else {"lengthMax": longest})}
    report = Report("Succeeded", metrics=metrics, model=found)
    return scene(PREPARE, COMPLETE, pods=(pod(report=report, phase="Succeeded"),), **fields)


def test_a_new_run_is_estimated_by_its_models_name() -> None:
    seen = look(new_run())
    assert seen.status.estimate.gpu_memory_gi_b == pytest.approx(60, abs=2)
    assert seen.status.estimate.host_memory_gi_b > 0
    assert seen.status.estimate.fits is None
    assert "from the model's name" in seen.status.estimate.message


def test_an_unknown_name_is_estimated_once_the_model_is_there() -> None:
    unknown = {"name": "team/support"}
    before = look(new_run(model=unknown))
    assert before.status.estimate.gpu_memory_gi_b is None
    assert "prepare stage" in before.status.estimate.message
    after = look(prepared(MODEL, model=unknown))
    assert after.status.estimate.gpu_memory_gi_b > 0
    assert "from the model's files" in after.status.estimate.message


def test_a_model_of_which_nothing_tells_the_size_is_said_to_have_no_estimate() -> None:
    message = look(prepared(model={"name": "team/support"})).status.estimate.message
    assert message == "no estimate: neither the model's name nor its files tell its size"


def test_prepare_tells_better_than_the_name() -> None:
    named, found = look(new_run()), look(prepared(MODEL))
    assert found.status.estimate.gpu_memory_gi_b < named.status.estimate.gpu_memory_gi_b


def test_the_longest_example_counts_where_it_is_below_the_limit() -> None:
    long, short = look(prepared(MODEL)), look(prepared(MODEL, longest=500))
    assert short.status.estimate.gpu_memory_gi_b < long.status.estimate.gpu_memory_gi_b / 2


def test_a_report_without_the_model_leaves_the_name_to_tell() -> None:
    assert "from the model's name" in look(prepared()).status.estimate.message


def test_after_prepare_the_estimate_stays() -> None:
    told = Estimate(gpu_memory_gi_b=12.3, message="as it was")
    seen = look(scene(TRAIN, RUNNING, status={"estimate": told}, observed={"nodes": (node(gibibytes=8),)}))
    assert seen.status.estimate == told


def test_a_run_of_an_older_operator_that_trains_is_left_alone() -> None:
    assert look(scene(TRAIN, RUNNING)).status.estimate is None


def test_on_cpus_only_host_memory_is_estimated() -> None:
    seen = look(new_run(worker={"accelerator": {"count": 0, "memory": "1Gi"}}))
    assert seen.status.estimate.gpu_memory_gi_b is None
    assert seen.status.estimate.fits is None
    assert seen.status.estimate.host_memory_gi_b > 0
    assert OUT_OF_MEMORY not in seen.events


def test_a_deepspeed_configuration_of_the_users_is_not_estimated() -> None:
    own = {"nodes": 2, "deepspeed": {"config": {"name": "mine", "key": "ds.json"}}}
    seen = look(new_run(distribution=own))
    assert seen.status.estimate.gpu_memory_gi_b is None
    assert "distribution.deepspeed.config" in seen.status.estimate.message


def test_what_does_not_fit_is_warned_of_once_with_a_fix() -> None:
    observed = new_run(worker={"accelerator": {"memory": "40Gi"}})
    seen = look(observed)
    assert seen.status.estimate.fits is False
    assert seen.status.estimate.accelerator_memory_gi_b == 40
    assert OUT_OF_MEMORY in seen.events
    assert "perDeviceTrainBatchSize: 1" in seen.status.estimate.message
    assert seen.headline[0] == "Preparing", "an estimate stops nobody"
    assert OUT_OF_MEMORY not in look(seen.then()).events


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        ({"method": "qlora", "quantization": {"bits": 4}}, "or more of them and distribution.deepspeed: {stage: 3}"),
        ({"method": "qlora", "quantization": {"bits": 8}}, "Use accelerators with more memory"),  # ZeRO-3 refuses it
    ],
)
def test_more_accelerators_are_advised_only_where_they_can_share(tuning: dict[str, Any], words: str) -> None:
    large: dict[str, Any] = {"model": {"name": "Qwen/Qwen2.5-72B"}, "training": {"perDeviceTrainBatchSize": 1}}
    message = look(new_run(tuning=tuning, worker={"accelerator": {"memory": "24Gi"}}, **large)).status.estimate.message
    assert message.endswith(words)


def test_what_fits_is_said_without_a_warning() -> None:
    seen = look(new_run(worker={"accelerator": {"memory": "80Gi"}}))
    assert seen.status.estimate.fits is True
    assert OUT_OF_MEMORY not in seen.events


def test_what_prepare_finds_too_large_is_warned_of_too() -> None:
    large = MODEL | {
        "hiddenSize": 8192,
        "layers": 80,
        "heads": 64,
        "intermediateSize": 29568,
        "parameters": 72_706_203_648,
    }
    fitting = Estimate(gpu_memory_gi_b=30, fits=True)
    seen = look(prepared(large, worker={"accelerator": {"memory": "80Gi"}}, status={"estimate": fitting}))
    assert seen.status.estimate.fits is False
    assert OUT_OF_MEMORY in seen.events


def test_nodes_tell_the_memory_where_the_job_does_not() -> None:
    seen = look(replace(new_run(), nodes=(node(gibibytes=40),)))
    assert seen.status.estimate.accelerator_memory_gi_b == 40
    assert seen.status.estimate.fits is False


def test_a_node_that_an_autoscaler_takes_away_is_remembered() -> None:
    seen = look(replace(new_run(), nodes=(node(gibibytes=40),)))
    again = look(replace(seen.then(), nodes=()))
    assert again.status.estimate == seen.status.estimate
    assert OUT_OF_MEMORY not in again.events


@pytest.mark.parametrize(
    ("nodes", "gibibytes"),
    [
        ((), None),
        ((node(gibibytes=80), node(gibibytes=24)), 24),
        ((node(gibibytes=80, pool="train"), node(gibibytes=24, pool="serve")), 80),
        ((node(gibibytes=80), node(gibibytes=24, count=1)), 80),
        ((node(gibibytes=80, count=None),), 80),
        ((node(gibibytes="plenty"),), None),
        ((node(gibibytes=0),), None),
        ((NodeView("cpu-0", {"pool": "train"}),), None),
    ],
    ids=[
        "no nodes", "the least counts", "only nodes of the selector", "too few devices", "an unknown number of devices",
        "no number", "nothing", "no label",
    ],
)  # fmt: skip
def test_the_smallest_accelerator_on_which_the_pods_may_run_counts(
    nodes: tuple[NodeView, ...], gibibytes: int | None
) -> None:
    selector = {"pool": "train"} if any("pool" in n.labels for n in nodes) else None
    spec = job(worker={"accelerator": {"count": 2}} | ({"nodeSelector": selector} if selector else {})).spec
    memory = accelerator_memory(spec, nodes)
    assert memory == (None if gibibytes is None else gibibytes * 2**30)


def test_a_device_of_another_kind_has_a_label_of_its_own() -> None:
    spec = job(worker={"accelerator": {"resource": "nvidia.com/mig-3g.40gb"}}).spec
    slice_ = NodeView("a", {"nvidia.com/gpu.memory": "81920", "nvidia.com/mig-3g.40gb.memory": "40192"})
    assert accelerator_memory(spec, (slice_,)) == 40192 * 2**20


def test_nodes_that_a_required_affinity_picks_are_not_guessed() -> None:
    required: dict[str, Any] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}
    assert accelerator_memory(job(worker={"affinity": {"nodeAffinity": required}}).spec, (node(),)) is None
    assert accelerator_memory(job(worker={"affinity": {"nodeAffinity": {}}}).spec, (node(),)) is not None


@pytest.mark.parametrize("quantity", ["1e99", "9E"])
def test_an_absurd_memory_is_no_reason_to_fail(quantity: str) -> None:
    assert look(new_run(worker={"accelerator": {"memory": quantity}})).status.estimate.fits is True


def test_a_finished_run_keeps_what_it_was_told() -> None:
    told = Estimate(gpu_memory_gi_b=12.3)
    seen: Seen = look(scene(TRAIN, COMPLETE, status={"estimate": told, "completion_time": NOW}), later(hours=1))
    assert seen.status.estimate == told


def test_a_message_is_never_longer_than_the_api_takes() -> None:
    name = {"name": "Qwen/Qwen2.5-72B-Instruct"}
    seen = look(new_run(model=name, worker={"accelerator": {"memory": "70Gi"}}))
    assert len(seen.status.estimate.message) <= 1024


def test_nodes_are_picked_by_the_installations_selector_where_the_job_has_none() -> None:
    nodes = (node("small", 24), node("large", 80, pool="train"))
    defaults = parse_worker_defaults('{"nodeSelector": {"pool": "train"}}')
    found = look(replace(new_run(), nodes=nodes, worker_defaults=defaults)).status.estimate
    assert found.accelerator_memory_gi_b == 80
    own = look(replace(new_run(worker={"nodeSelector": {}}), nodes=nodes, worker_defaults=defaults)).status.estimate
    assert own.accelerator_memory_gi_b == 24
