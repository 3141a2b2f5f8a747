"""A run from its creation to its end, with everything that can come between."""

from qwensft_operator.runtime.kube import CLAIMS, CONFIG_MAPS, JOBS, QWENSFTJOBS, SERVICES, Resource

from .cluster import Cluster, condition

QUOTAS = Resource("", "v1", "resourcequotas")


async def test_a_new_run_gets_a_claim_a_configuration_and_a_prepare_job(cluster: Cluster) -> None:
    run = await cluster.apply()
    job = await cluster.exists(JOBS, "demo-prepare-1")
    config_map = await cluster.exists(CONFIG_MAPS, "demo-prepare-1")
    claim = await cluster.exists(CLAIMS, "demo-workspace")
    status = await cluster.reaches(phase="Preparing", observedGeneration=1)

    (owner,) = job["metadata"]["ownerReferences"]
    assert owner["uid"] == run["metadata"]["uid"]
    assert "blockOwnerDeletion" not in owner
    assert (
        job["metadata"]["labels"]
        | {
            "qwensft.io/job": "demo",
            "qwensft.io/stage": "prepare",
            "qwensft.io/attempt": "1",
            "app.kubernetes.io/managed-by": "qwen-sft-operator",
        }
        == (job["metadata"]["labels"])
    )
    assert job["spec"]["backoffLimit"] == 0
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == ["prepare"]
    assert pod["containers"][0]["image"] == "qwensft/trainer:integration"
    assert pod["automountServiceAccountToken"] is False
    assert config_map["immutable"] is True
    assert set(config_map["data"]) == {"run.yaml", "train.yaml", "image"}
    assert "ownerReferences" not in claim["metadata"], "the model would be deleted with the run"
    assert condition(status, "Reconciling")["status"] == "True"
    assert condition(status, "Stalled")["status"] == "False"
    await cluster.pods("demo-prepare-1")  # Pod Security lets them in


async def test_a_run_goes_through_all_stages_and_keeps_its_results(cluster: Cluster) -> None:
    await cluster.apply()
    report = {"stage": "prepare", "metrics": {"samples": 200, "tokens": 40000}}
    await cluster.end_pods("demo-prepare-1", report=report)

    job = await cluster.exists(JOBS, "demo-train-1")
    service = await cluster.exists(SERVICES, "demo-train")
    assert (job["spec"]["completionMode"], job["spec"]["completions"], job["spec"]["parallelism"]) == ("Indexed", 2, 2)
    environment = {e["name"]: e.get("value") for e in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert environment["NNODES"] == "2"
    assert environment["MASTER_ADDR"] == "demo-train-1-0.demo-train"
    assert service["spec"]["publishNotReadyAddresses"] is True
    await cluster.run_pods("demo-train-1", 2)
    await cluster.reaches(phase="Training", reason="Running")
    adapter = {"path": "demo/train/1/adapter", "sizeBytes": 1000, "digest": "sha256:abc"}
    metrics = {"step": 500, "totalSteps": 500, "loss": 0.5, "initialLoss": 3.0}
    await cluster.end_pods("demo-train-1", 2, report={"metrics": metrics, "outputs": {"adapter": adapter}})

    merged = {"path": "demo/merged", "sizeBytes": 2000, "digest": "sha256:def"}
    await cluster.end_pods("demo-merge-1", report={"outputs": {"merged": merged}})
    status = await cluster.reaches(phase="Succeeded")
    assert status["dataset"] == {"samples": 200, "tokens": 40000}
    assert status["progress"]["steps"] == "500/500"
    assert status["progress"]["loss"] == 0.5
    assert status["outputs"]["adapter"] == adapter | {"claimName": "demo-workspace"}
    assert status["outputs"]["merged"] == merged | {"claimName": "demo-workspace"}
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Succeeded": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Suspended": "False",
        "Prepared": "True",
        "Trained": "True",
        "Merged": "True",
    }
    told = await cluster.told(("Normal", "Prepared"), ("Normal", "Trained"), ("Normal", "Merged"))
    assert not [reason for type_, reason in told if type_ == "Warning" and reason != "Unschedulable"]


async def test_a_mistake_in_the_data_ends_the_run_before_training(cluster: Cluster) -> None:
    await cluster.apply()
    report = {"reason": "InvalidDataset", "message": "facts.json, row 7: 'output' is missing"}
    await cluster.end_pods("demo-prepare-1", code=78, report=report)
    status = await cluster.reaches(phase="Failed", reason="InvalidDataset")
    assert "row 7: 'output' is missing" in condition(status, "Succeeded")["message"]
    assert condition(status, "Stalled")["status"] == "True"
    assert await cluster.jobs() == {"demo-prepare-1"}


async def test_a_failed_training_pod_restarts_the_gang_with_the_same_configuration(cluster: Cluster) -> None:
    await cluster.apply()
    await cluster.end_pods("demo-prepare-1")
    first = await cluster.exists(CONFIG_MAPS, "demo-train-1")
    await cluster.run_pods("demo-train-1", 2)
    report = {"reason": "OutOfMemory", "message": "CUDA out of memory"}
    await cluster.end_pods("demo-train-1", 2, code=1, report=report)
    second = await cluster.exists(CONFIG_MAPS, "demo-train-2")
    assert second["data"] == first["data"]
    await cluster.pods("demo-train-2", 2)
    status = await cluster.reaches(restarts=1)  # a status is written after the objects that it tells of
    assert status["stages"]["train"]["attempt"] == 2
    await cluster.told(("Warning", "OutOfMemory"))


async def test_a_name_that_is_taken_is_reported_and_waited_for(cluster: Cluster) -> None:
    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "demo-prepare-1"}, "data": {"a": "b"}}
    await cluster.kube.create(CONFIG_MAPS, cluster.namespace, stranger)
    await cluster.apply()
    status = await cluster.reaches(reason="NameConflict")
    assert "ConfigMap demo-prepare-1 exists" in condition(status, "Succeeded")["message"]
    assert await cluster.jobs() == set()
    assert (await cluster.exists(CONFIG_MAPS, "demo-prepare-1"))["data"] == {"a": "b"}
    await cluster.delete(CONFIG_MAPS, "demo-prepare-1")
    await cluster.exists(JOBS, "demo-prepare-1")


async def test_a_config_map_or_key_that_is_missing_is_told_with_its_field_and_waited_for(cluster: Cluster) -> None:
    await cluster.delete(CONFIG_MAPS, "facts")
    await cluster.gone(CONFIG_MAPS, "facts")
    await cluster.apply()
    status = await cluster.reaches(phase="Pending", reason="ConfigMapUnavailable")
    message = condition(status, "Succeeded")["message"]
    assert message.startswith("ConfigMap facts does not exist; ")
    assert message.endswith("spec.datasets[facts].source.configMap.name")

    rows = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "facts"}, "data": {"f.jsonl": "[]"}}
    await cluster.kube.create(CONFIG_MAPS, cluster.namespace, rows)
    await cluster.edit({"metadata": {"annotations": {"touched": "now"}}})  # not to wait for the next look

    async def told_of_the_key() -> bool:
        words: str = condition(await cluster.status(), "Succeeded")["message"]
        return words.startswith("ConfigMap facts has no key f.json; it has f.jsonl: ")

    await cluster.until(told_of_the_key, "the missing key is told")
    assert await cluster.jobs() == set()
    await cluster.kube.merge(CONFIG_MAPS, cluster.namespace, "facts", {"data": {"f.json": "[]"}})
    await cluster.exists(JOBS, "demo-prepare-1")


async def test_a_secret_that_a_node_does_not_find_is_told_with_its_field(cluster: Cluster) -> None:
    """A real node takes the pod: the words are its own."""
    hub = {"repo": "acme/rows", "tokenSecretRef": {"name": "hub", "key": "token"}}
    rows = {"name": "rows", "format": "alpaca", "source": {"huggingFace": hub}}
    await cluster.apply(datasets=[rows], distribution={"nodes": 1}, worker={"accelerator": {"count": 0}})
    status = await cluster.reaches(reason="VolumeMountFailed")
    assert condition(status, "Succeeded")["message"].endswith(
        'secret "hub" not found; create it, or correct spec.datasets[rows].source.huggingFace.tokenSecretRef'
    )


async def test_a_quota_is_reported_and_waited_for(cluster: Cluster) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    await cluster.kube.create(QUOTAS, cluster.namespace, quota)

    async def counted() -> bool:
        return "hard" in ((await cluster.exists(QUOTAS, "small")).get("status") or {})

    await cluster.until(counted, "the quota is in force")
    await cluster.apply()
    status = await cluster.reaches(reason="QuotaExceeded")
    assert "exceeded quota: small" in condition(status, "Succeeded")["message"]
    await cluster.delete(QUOTAS, "small")
    await cluster.exists(JOBS, "demo-prepare-1")


async def test_a_run_that_is_suspended_from_the_start_starts_nothing_until_it_is_resumed(cluster: Cluster) -> None:
    await cluster.apply(runPolicy={"suspend": True})
    status = await cluster.reaches(phase="Suspended")
    assert condition(status, "Suspended")["status"] == "True"
    assert await cluster.jobs() == set()
    await cluster.edit({"spec": {"runPolicy": {"suspend": False}}})
    await cluster.exists(JOBS, "demo-prepare-1")
    assert condition(await cluster.reaches(phase="Preparing"), "Suspended")["status"] == "False"


async def test_suspending_a_training_stops_it_and_resuming_starts_an_attempt_that_does_not_count(
    cluster: Cluster,
) -> None:
    await cluster.apply()
    await cluster.end_pods("demo-prepare-1")
    await cluster.run_pods("demo-train-1", 2)
    await cluster.reaches(phase="Training", reason="Running")
    await cluster.edit({"spec": {"runPolicy": {"suspend": True}}})
    await cluster.gone(JOBS, "demo-train-1")
    await cluster.reaches(phase="Suspended", reason="Suspended")
    await cluster.edit({"spec": {"runPolicy": {"suspend": False}}})
    await cluster.pods("demo-train-2", 2)
    assert not (await cluster.status()).get("restarts")


async def test_what_is_deleted_by_hand_comes_back_and_a_running_job_counts_as_lost(cluster: Cluster) -> None:
    await cluster.apply()
    await cluster.end_pods("demo-prepare-1")
    await cluster.run_pods("demo-train-1", 2)
    await cluster.reaches(phase="Training", reason="Running")
    await cluster.delete(JOBS, "demo-prepare-1")
    for resource, name in ((SERVICES, "demo-train"), (CONFIG_MAPS, "demo-train-1")):
        before = await cluster.exists(resource, name)
        await cluster.delete(resource, name)
        await cluster.replaced(resource, before)
    await cluster.delete(JOBS, "demo-train-1")
    await cluster.pods("demo-train-2", 2)
    await cluster.reaches(restarts=1)
    assert "demo-prepare-2" not in await cluster.jobs(), "a finished stage ran again"


async def test_deleting_a_run_removes_all_but_the_model(cluster: Cluster) -> None:
    await cluster.apply()
    await cluster.end_pods("demo-prepare-1")
    await cluster.pods("demo-train-1", 2)
    await cluster.delete(QWENSFTJOBS, "demo")
    for resource, name in (
        (JOBS, "demo-prepare-1"),
        (JOBS, "demo-train-1"),
        (SERVICES, "demo-train"),
        (CONFIG_MAPS, "demo-train-1"),
    ):
        await cluster.gone(resource, name)
    assert await cluster.get(CLAIMS, "demo-workspace")

    await cluster.apply()
    job = await cluster.exists(JOBS, "demo-prepare-1")
    (volume,) = [v for v in job["spec"]["template"]["spec"]["volumes"] if v["name"] == "workspace"]
    assert volume["persistentVolumeClaim"]["claimName"] == "demo-workspace"
