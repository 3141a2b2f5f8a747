"""LoRA on two nodes with one process each, then the merge: what a user of the seed's command would expect to see.

A second run, created before it, waits for the merged model and trains on from that; a third trains its adapter on.
"""

from __future__ import annotations

import pytest
from quickstart import follow
from quickstart.pods import printed_json

from .runs import History, Job, Runs

NAME, SECOND, THIRD = "lora", "lora-on", "lora-further"
# Many: its progress must be seen at several of them, and the operator looks every two seconds.
STEPS = 80
# Relative error of the logits. The tiny model is float32: merging changes nothing but the order of sums.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def waiting(runs: Runs) -> Job:
    """The second run, of which nothing is there but its wait."""
    source = {"volume": None, "run": {"name": NAME}}
    spec = {"model": {"source": source}, "distribution": {"nodes": 1}, "training": {"maxSteps": 10}}
    runs.create(SECOND, spec)
    return runs.until(
        SECOND, lambda job: follow.condition(job, "Succeeded").get("reason") == "WaitingForSourceRun", "its wait"
    )


@pytest.fixture(scope="module")
def history(runs: Runs, waiting: Job) -> History:
    runs.create(NAME, {"training": {"maxSteps": STEPS}, "evaluation": {"samples": 2}})
    history = runs.to_the_end(NAME)
    assert follow.condition(history.last, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, history.last)
    return history


def test_it_passes_through_all_phases_in_order(history: History) -> None:
    assert [phase for phase in history.phases if phase != "Pending"] == [
        "Preparing",
        "Training",
        "Merging",
        "Succeeded",
    ]


def test_step_and_loss_move_while_it_trains(history: History) -> None:
    steps = history.progress("step")
    assert len(steps) >= 2
    assert steps == sorted(steps)
    assert len(history.progress("loss")) >= 2


def test_progress_is_complete_and_exact_in_the_end(history: History) -> None:
    progress = history.last["status"]["progress"]
    assert (progress["step"], progress["totalSteps"], progress["percentage"]) == (STEPS, STEPS, 100)
    assert progress["steps"] == f"{STEPS}/{STEPS}"
    assert 0 < progress["loss"] < progress["initialLoss"]


def test_every_stage_is_recorded_as_done_at_the_first_attempt(history: History) -> None:
    stages = history.last["status"]["stages"]
    assert {name: (stage["attempt"], stage["jobName"]) for name, stage in stages.items()} == {
        stage: (1, f"{NAME}-{stage}-1") for stage in ("prepare", "train", "merge")
    }
    for condition in ("Prepared", "Trained", "Merged"):
        assert follow.condition(history.last, condition)["status"] == "True"
    assert history.last["status"].get("restarts", 0) == 0


def test_the_rows_were_counted(history: History) -> None:
    assert history.last["status"]["dataset"]["samples"] >= 200


def test_the_training_job_is_indexed_with_one_pod_per_node(history: History, runs: Runs) -> None:
    spec = runs.kubectl.get("job", f"{NAME}-train-1", "-n", runs.namespace)["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (
        "Indexed",
        2,
        2,
        0,
    )


def test_the_pods_know_their_place_in_the_gang(history: History, runs: Runs) -> None:
    pods = runs.pods(NAME, "train")
    assert len(pods) == 2
    for pod in pods:
        container = pod["spec"]["containers"][0]
        variables = {variable["name"]: variable for variable in container["env"]}
        assert variables["NNODES"]["value"] == "2"
        assert variables["NPROC_PER_NODE"]["value"] == "1"
        assert variables["MASTER_ADDR"]["value"] == f"{NAME}-train-1-0.{NAME}-train"
        assert variables["MASTER_PORT"]["value"] == "29500"
        field = variables["NODE_RANK"]["valueFrom"]["fieldRef"]["fieldPath"]
        assert field == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_both_pods_ran_torchrun_as_specified_and_joined_one_process_group(history: History, runs: Runs) -> None:
    for rank, pod in enumerate(runs.pods(NAME, "train")):
        log = runs.log(pod)
        assert (
            f"torchrun --nproc_per_node 1 --nnodes 2 --node_rank {rank} "
            f"--master_addr {NAME}-train-1-0.{NAME}-train --master_port 29500 -m qwensft_trainer.training.worker"
        ) in log
        assert f"Process rank: {rank}, world size: 2" in log


def test_no_pod_holds_kubernetes_credentials(history: History, runs: Runs) -> None:
    for stage in ("prepare", "train", "merge"):
        for pod in runs.pods(NAME, stage):
            assert pod["spec"]["automountServiceAccountToken"] is False
            mounts = [mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]]
            assert not [path for path in mounts if "serviceaccount" in path]


def test_the_merged_model_loads_with_plain_transformers_and_equals_base_plus_adapter(
    history: History, runs: Runs
) -> None:
    outputs = history.last["status"]["outputs"]
    assert outputs["merged"]["claimName"] == f"{NAME}-workspace"
    printed = runs.script(
        "compare_models.py",
        history.last,
        "--base=/model/qwen3-tiny",
        f"--adapter=/workspace/{outputs['adapter']['path']}",
        f"--merged=/workspace/{outputs['merged']['path']}",
    )
    found = printed_json(printed)
    assert found["adapter_to_merged"] <= TOLERANCE
    assert found["base_to_merged"] > 100 * TOLERANCE, "base and merged are so close that the comparison shows nothing"
    assert found["merged_bytes"] == outputs["merged"]["sizeBytes"]
    assert outputs["merged"]["digest"] == found["merged_digest"]


def test_it_leaves_a_report_of_all_stages_beside_the_model(history: History, runs: Runs) -> None:
    told = history.last["status"]["outputs"]["report"]
    found = printed_json(runs.script("read_report.py", history.last, f"/workspace/{told['path']}"))
    assert (found["size"], found["digest"]) == (told["sizeBytes"], told["digest"])
    head, answers = [NAME, "Loss", "Before and after"], [one for one in found["headings"] if one.startswith("Row ")]
    assert found["headings"] == [*head, *answers, "Data", "Lengths", "Model and training", "Times", "Results"]
    assert len(answers) == 2
    assert {"handbook", "support-desk", "merged", "adapter"} <= set(found["rows"])
    assert f"at step {STEPS}" in found["curve"]
    assert history.last["status"]["outputs"]["merged"]["digest"] in found["text"]
    assert "Merging and verifying" in found["text"]


def test_the_report_shows_answers_before_and_after_the_training_and_no_log_does(history: History, runs: Runs) -> None:
    directory = history.last["status"]["outputs"]["report"]["path"].rpartition("/")[0]
    found = printed_json(runs.script("read_samples.py", history.last, f"/workspace/{directory}"))
    assert (found["source"], found["asked"], found["why"]) == ("training", 2, None)
    assert len(found["samples"]) == 2
    assert all(sample["onPage"] and sample["asTrained"] for sample in found["samples"])
    assert any(sample["changed"] for sample in found["samples"])
    said = "".join(runs.log(pod) for pod in runs.pods(NAME, "train"))
    assert "answered 2 of 2 prompts after the training" in said
    assert not [sample["question"] for sample in found["samples"] if sample["question"] in said]


def test_a_run_that_waits_for_another_has_nothing_but_its_status(waiting: Job) -> None:
    assert waiting["status"]["phase"] == "Pending"
    assert "stages" not in waiting["status"] or waiting["status"]["stages"] == {}
    assert f"QwenSFTJob {NAME}" in follow.condition(waiting, "Succeeded")["message"]


@pytest.fixture(scope="module")
def second(history: History, runs: Runs) -> History:
    followed = runs.to_the_end(SECOND)
    assert follow.condition(followed.last, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, followed.last)
    return followed


def test_the_second_run_begins_with_the_firsts_model_and_where_its_loss_ended(
    history: History, second: History
) -> None:
    first, merged = history.last["status"]["progress"], history.last["status"]["outputs"]["merged"]
    assert second.last["status"]["sourceRun"] == {
        "name": NAME,
        "uid": history.last["metadata"]["uid"],
        **{name: merged[name] for name in ("claimName", "path", "digest")},
    }
    assert second.last["status"]["progress"]["initialLoss"] < first["initialLoss"] / 2


def test_the_seconds_model_is_the_firsts_plus_the_new_adapter(history: History, second: History, runs: Runs) -> None:
    first, outputs = history.last["status"]["outputs"]["merged"], second.last["status"]["outputs"]
    found = printed_json(
        runs.script(
            "compare_models.py",
            second.last,
            f"--base=/model/{first['path']}",
            f"--adapter=/workspace/{outputs['adapter']['path']}",
            f"--merged=/workspace/{outputs['merged']['path']}",
            models=first["claimName"],
        )
    )
    assert found["adapter_to_merged"] <= TOLERANCE
    assert found["base_to_merged"] > 100 * TOLERANCE


@pytest.fixture(scope="module")
def third(history: History, runs: Runs) -> History:
    """On one node, with the adapter of the first on the first's base."""
    spec = {"model": {"adapter": {"run": {"name": NAME}}}, "distribution": {"nodes": 1}, "training": {"maxSteps": 10}}
    runs.create(THIRD, spec)
    followed = runs.to_the_end(THIRD)
    assert follow.condition(followed.last, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, followed.last)
    return followed


def test_the_third_run_goes_on_with_the_firsts_adapter_and_where_its_loss_ended(
    history: History, third: History
) -> None:
    first, adapter = history.last["status"]["progress"], history.last["status"]["outputs"]["adapter"]
    assert third.last["status"]["adapterRun"] == {
        "name": NAME,
        "uid": history.last["metadata"]["uid"],
        **{name: adapter[name] for name in ("claimName", "path", "digest")},
    }
    assert "sourceRun" not in third.last["status"]
    assert third.last["status"]["progress"]["initialLoss"] < first["initialLoss"] / 2


def test_only_prepare_of_the_third_run_mounts_the_firsts_volume(third: History, runs: Runs) -> None:
    claims = {
        stage: {
            volume["persistentVolumeClaim"]["claimName"]
            for pod in runs.pods(THIRD, stage)
            for volume in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in volume
        }
        for stage in ("prepare", "train", "merge")
    }
    assert f"{NAME}-workspace" in claims["prepare"]
    assert f"{NAME}-workspace" not in claims["train"] | claims["merge"]


def test_the_thirds_model_is_the_base_plus_its_adapter_once(history: History, third: History, runs: Runs) -> None:
    outputs = third.last["status"]["outputs"]
    found = printed_json(
        runs.script(
            "compare_models.py",
            third.last,
            "--base=/model/qwen3-tiny",
            f"--adapter=/workspace/{outputs['adapter']['path']}",
            f"--merged=/workspace/{outputs['merged']['path']}",
        )
    )
    assert found["adapter_to_merged"] <= TOLERANCE
    assert found["base_to_merged"] > 100 * TOLERANCE
    assert (
        found["merged_digest"] == outputs["merged"]["digest"] != history.last["status"]["outputs"]["merged"]["digest"]
    )
    report = printed_json(runs.script("read_report.py", third.last, f"/workspace/{outputs['report']['path']}"))
    assert history.last["status"]["outputs"]["adapter"]["digest"] in report["text"]


def test_a_run_that_says_otherwise_of_the_adapter_is_told_what_to_set(history: History, runs: Runs) -> None:
    spec = {"model": {"adapter": {"run": {"name": NAME}}}, "tuning": {"lora": {"rank": 3, "alpha": 7}}}
    runs.create("lora-otherwise", spec)
    told = runs.until(
        "lora-otherwise", lambda job: follow.condition(job, "Stalled").get("status") == "True", "its refusal"
    )
    condition = follow.condition(told, "Stalled")
    assert condition["reason"] == "SourceRunUnavailable"
    assert "set spec.tuning.lora.rank to" in condition["message"]
    assert told["status"].get("stages", {}) == {}


def test_deleting_the_job_removes_its_objects_and_keeps_its_volume(history: History, runs: Runs) -> None:
    runs.kubectl.delete(follow.RESOURCE, NAME, "-n", runs.namespace)
    for kind in ("jobs", "pods", "services", "configmaps"):
        runs.kubectl(
            "wait", kind, "-n", runs.namespace, "-l", f"qwensft.io/job={NAME}", "--for=delete", "--timeout=90s"
        )
        assert runs.children(kind, NAME) == []
    claim = runs.kubectl.get("pvc", f"{NAME}-workspace", "-n", runs.namespace)
    assert claim["status"]["phase"] == "Bound"
    assert "deletionTimestamp" not in claim["metadata"]
