"""Actions are safe to repeat, and never touch what belongs to somebody else."""

import pytest

from qwensft.api.v1alpha1 import QwenSFTJob, Stage, parse_job
from qwensft_operator.plan.types import (
    Action,
    CreateJob,
    DeleteJob,
    EnsureClaim,
    EnsureConfigMap,
    EnsureNetworkPolicies,
    EnsureService,
    ForgetAttempt,
)
from qwensft_operator.render import Defaults, NetworkRules
from qwensft_operator.runtime.execute import Executor, NotYetError, ObstacleError
from qwensft_operator.runtime.kube import (
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    NETWORK_POLICIES,
    QWENSFTJOBS,
    SERVICES,
    ConflictError,
    ForbiddenError,
    InvalidError,
    Manifest,
    Resource,
    TransientError,
)

from .fakes import FakeKube, job_manifest

ACTIONS: dict[str, tuple[Action, Resource, str]] = {
    "claim": (EnsureClaim(), CLAIMS, "demo-workspace"),
    "service": (EnsureService(), SERVICES, "demo-train"),
    "config map": (EnsureConfigMap(Stage.PREPARE, 1), CONFIG_MAPS, "demo-prepare-1"),
    "job": (CreateJob(Stage.TRAIN, 2), JOBS, "demo-train-2"),
}
CREATIONS = pytest.mark.parametrize(("action", "resource", "name"), ACTIONS.values(), ids=ACTIONS)


class World:
    """A cluster in which the run `demo` exists."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.kube.put(QWENSFTJOBS, "team", job_manifest())
        self.job = parse_job(job_manifest())
        self._executor = Executor(self.kube, Defaults("trainer:1"))

    async def execute(self, action: Action, job: QwenSFTJob | None = None) -> None:
        if isinstance(action, CreateJob):  # a Job follows its ConfigMap
            await self._executor.execute(job or self.job, EnsureConfigMap(action.stage, action.attempt))
        await self._executor.execute(job or self.job, action)


@pytest.fixture
def world() -> World:
    return World()


def owned_by(name: str, uid: str, *, kind: str = "QwenSFTJob", version: str = "qwensft.io/v1alpha1") -> Manifest:
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid}


@CREATIONS
async def test_creating_twice_is_as_good_as_once(world: World, action: Action, resource: Resource, name: str) -> None:
    await world.execute(action)
    before = world.kube.objects[resource.plural, "team", name]
    await world.execute(action)
    assert world.kube.objects[resource.plural, "team", name] == before


@CREATIONS
async def test_an_object_that_somebody_made_by_hand_is_a_conflict_and_stays(
    world: World, action: Action, resource: Resource, name: str
) -> None:
    before = world.kube.put(resource, "team", {"kind": "X", "metadata": {"name": name}})
    with pytest.raises(ObstacleError, match=f"{name} exists and was made by somebody else") as caught:
        await world.execute(action)
    assert caught.value.obstacle.reason == "NameConflict"
    assert world.kube.objects[resource.plural, "team", name] == before


@CREATIONS
async def test_an_object_of_another_living_run_is_a_conflict(
    world: World, action: Action, resource: Resource, name: str
) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest("other", "22222222-bbbb"))
    world.kube.put(
        resource, "team", {"metadata": {"name": name, "ownerReferences": [owned_by("other", "22222222-bbbb")]}}
    )
    with pytest.raises(ObstacleError, match="belongs to QwenSFTJob other"):
        await world.execute(action)


async def test_an_object_of_a_foreign_kind_is_a_conflict_without_reading_that_kind(world: World) -> None:
    owner = owned_by("web", "9", kind="Deployment", version="apps/v1")
    world.kube.put(SERVICES, "team", {"metadata": {"name": "demo-train", "ownerReferences": [owner]}})
    with pytest.raises(ObstacleError, match="belongs to Deployment web"):
        await world.execute(EnsureService())


@CREATIONS
@pytest.mark.parametrize("owner_is", ["gone", "recreated", "terminating"])
async def test_an_object_of_a_namesake_on_its_way_out_is_waited_for(
    world: World, action: Action, resource: Resource, name: str, owner_is: str
) -> None:
    # The run itself is the re-created namesake; `other` shows the two other ways to leave.
    owner = owned_by("demo", "00000000-0000") if owner_is == "recreated" else owned_by("other", "22222222-bbbb")
    if owner_is == "terminating":
        leaving = job_manifest("other", "22222222-bbbb")
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        world.kube.put(QWENSFTJOBS, "team", leaving)
    world.kube.put(resource, "team", {"metadata": {"name": name, "ownerReferences": [owner]}})
    with pytest.raises(ObstacleError, match=f"{name} still belongs to an earlier QwenSFTJob") as caught:
        await world.execute(action)
    assert caught.value.obstacle.reason == "WaitingForPreviousRun"


@CREATIONS
@pytest.mark.parametrize("uid", ["99999999-old", None], ids=["with its UID", "by an earlier version"])
async def test_an_object_that_an_earlier_run_left_is_told_with_one_command_and_never_adopted_but_for_the_claim(
    world: World, action: Action, resource: Resource, name: str, uid: str | None
) -> None:
    labels = {"qwensft.io/job": "demo", "app.kubernetes.io/managed-by": "qwen-sft-operator"}
    labels |= {"qwensft.io/job-uid": uid} if uid else {}
    kind = {"configmaps": "ConfigMap", "jobs": "Job", "services": "Service"}.get(
        resource.plural, "PersistentVolumeClaim"
    )
    world.kube.put(resource, "team", {"kind": kind, "metadata": {"name": name, "labels": labels}})
    if resource is CLAIMS:
        await world.execute(action)
        return
    with pytest.raises(ObstacleError, match=f"{kind} {name} is of an earlier QwenSFTJob demo") as caught:
        await world.execute(action)
    assert caught.value.obstacle.reason == "NameConflict"
    assert "'qwensft.io/job=demo,qwensft.io/job-uid!=11111111-aaaa'" in caught.value.obstacle.message


async def test_a_kept_claim_is_not_taken_by_a_run_that_would_delete_it_at_its_end(world: World) -> None:
    await world.execute(EnsureClaim(), parse_job(job_manifest(uid="00000000-0000")))
    storage = {"volume": {"claimTemplate": {"size": "1Gi"}}, "retain": False}
    with pytest.raises(ObstacleError, match="exists and was made by somebody else"):
        await world.execute(EnsureClaim(), parse_job(job_manifest(storage=storage)))


async def test_our_own_object_that_is_being_deleted_is_waited_for(world: World) -> None:
    await world.execute(EnsureService())
    world.kube.objects["services", "team", "demo-train"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(NotYetError, match="being deleted"):
        await world.execute(EnsureService())


async def test_a_service_of_an_earlier_version_is_made_to_select_by_the_runs_uid(world: World) -> None:
    await world.execute(EnsureService(by_uid=False))
    older = world.kube.objects["services", "team", "demo-train"]
    assert older["spec"]["selector"] == {"qwensft.io/job": "demo", "qwensft.io/stage": "train"}
    await world.execute(EnsureService())
    mended = world.kube.objects["services", "team", "demo-train"]
    assert mended["spec"] == older["spec"] | {"selector": mended["spec"]["selector"]}
    assert mended["spec"]["selector"]["qwensft.io/job-uid"] == mended["metadata"]["labels"]["qwensft.io/job-uid"]
    assert mended["metadata"]["uid"] == older["metadata"]["uid"]


async def test_a_later_run_of_the_same_name_uses_the_claim_that_was_kept(world: World) -> None:
    await world.execute(EnsureClaim(), parse_job(job_manifest(uid="00000000-0000")))
    await world.execute(EnsureClaim())
    assert world.kube.named(CLAIMS) == {"demo-workspace"}


async def test_a_claim_with_the_labels_of_an_older_version_is_used_too(world: World) -> None:
    old = {"app.kubernetes.io/instance": "demo", "qwensft.io/job": "demo"}
    world.kube.put(CLAIMS, "team", {"metadata": {"name": "demo-workspace", "labels": old}})
    await world.execute(EnsureClaim())
    assert world.kube.named(CLAIMS) == {"demo-workspace"}


async def test_a_job_is_deleted_only_if_it_is_the_one_that_was_observed(world: World) -> None:
    stored = world.kube.put(JOBS, "team", {"metadata": {"name": "demo-train-1"}})
    await world.execute(DeleteJob("demo-train-1", "another-uid"))
    assert world.kube.named(JOBS) == {"demo-train-1"}
    await world.execute(DeleteJob("demo-train-1", stored["metadata"]["uid"]))
    assert world.kube.named(JOBS) == set()
    await world.execute(DeleteJob("demo-train-1", stored["metadata"]["uid"]))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ForbiddenError(403, "Forbidden", "exceeded quota: small, requested: count/jobs.batch=1"), "QuotaExceeded"),
        (ForbiddenError(403, "Forbidden", "cannot create resource jobs"), "Forbidden"),
        (InvalidError(422, "Invalid", "spec.template.spec.tolerations[0]: Invalid value"), "InvalidObject"),
    ],
)
async def test_a_refusal_becomes_an_obstacle_with_the_servers_words(
    world: World, error: ForbiddenError | InvalidError, reason: str
) -> None:
    world.kube.refuse["create", "jobs"] = error
    with pytest.raises(ObstacleError) as caught:
        await world.execute(CreateJob(Stage.PREPARE, 1))
    assert (caught.value.obstacle.reason, caught.value.obstacle.message) == (reason, error.message)


async def test_what_may_pass_by_itself_is_no_obstacle(world: World) -> None:
    world.kube.refuse["create", "jobs"] = TransientError(503, "ServiceUnavailable", "etcd has no leader")
    with pytest.raises(TransientError):
        await world.execute(CreateJob(Stage.PREPARE, 1))


@CREATIONS
async def test_a_webhook_that_cannot_be_called_is_an_obstacle_that_names_it(
    world: World, action: Action, resource: Resource, name: str
) -> None:
    words = 'Internal error occurred: failed calling webhook "check.example": no endpoints available'
    world.kube.refuse["create", resource.plural] = TransientError(500, "InternalError", words)
    with pytest.raises(ObstacleError, match=r"webhook check\.example.*: no endpoints available") as caught:
        await world.execute(action)
    assert caught.value.obstacle.reason == "WebhookUnavailable"
    assert name not in world.kube.named(resource)


async def test_what_is_on_its_way_out_is_named_with_what_holds_it(world: World) -> None:
    meta = {"name": "demo-workspace", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["pvc-protection"]}
    world.kube.put(CLAIMS, "team", {"metadata": meta})
    with pytest.raises(
        NotYetError, match=r"demo-workspace is being deleted, held by its finalizers \(pvc-protection\)"
    ):
        await world.execute(EnsureClaim())


async def test_what_an_old_attempt_has_left_is_removed_but_for_the_first_config_map(world: World) -> None:
    for attempt in (1, 2, 3):
        await world.execute(EnsureConfigMap(Stage.TRAIN, attempt))
        await world.execute(CreateJob(Stage.TRAIN, attempt))
    uids = {name: world.kube.objects["jobs", "team", name]["metadata"]["uid"] for name in world.kube.named(JOBS)}
    for attempt in (1, 2):
        for _ in range(2):
            await world.execute(ForgetAttempt(Stage.TRAIN, attempt, uids[f"demo-train-{attempt}"]))
    assert world.kube.named(CONFIG_MAPS) == {"demo-train-1", "demo-train-3"}
    assert world.kube.named(JOBS) == {"demo-train-3"}


async def test_tidying_up_touches_nothing_of_others_and_stops_no_run(world: World) -> None:
    world.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "demo-train-2"}})
    await world.execute(ForgetAttempt(Stage.TRAIN, 2, ""))
    assert world.kube.named(CONFIG_MAPS) == {"demo-train-2"}
    world.kube.refuse["get", "configmaps"] = ForbiddenError(403, "Forbidden", "no")
    await world.execute(ForgetAttempt(Stage.TRAIN, 2, "uid"))


RULES = NetworkRules(metrics_from=({"podSelector": {}},), prepare_egress=({"ports": [{"port": 443}]},))


async def test_network_policies_say_what_the_installation_says_now(world: World) -> None:
    await Executor(world.kube, Defaults("trainer:1"), network=RULES).execute(world.job, EnsureNetworkPolicies())
    assert world.kube.named(NETWORK_POLICIES) == {"demo-run", "demo-prepare"}
    world.kube.calls.clear()
    await Executor(world.kube, Defaults("trainer:1"), network=RULES).execute(world.job, EnsureNetworkPolicies())
    assert {verb for verb, *_ in world.kube.calls} == {"create", "get"}
    await Executor(world.kube, Defaults("trainer:1"), network=NetworkRules()).execute(
        world.job, EnsureNetworkPolicies()
    )
    assert world.kube.objects["networkpolicies", "team", "demo-prepare"]["spec"]["egress"] == []


class BusyKube(FakeKube):
    """Somebody else writes a NetworkPolicy right after it was read."""

    async def get(self, resource: Resource, namespace: str, name: str, *, subresource: str = "") -> Manifest:
        found = await super().get(resource, namespace, name, subresource=subresource)
        if resource is NETWORK_POLICIES:
            self.put(resource, namespace, found | {"spec": {"podSelector": {}}})
        return found


async def test_a_network_policy_that_changed_since_it_was_read_is_not_written_over(world: World) -> None:
    kube = BusyKube()
    await Executor(kube, Defaults("trainer:1"), network=RULES).execute(world.job, EnsureNetworkPolicies())
    with pytest.raises(ConflictError):
        await Executor(kube, Defaults("trainer:1")).execute(world.job, EnsureNetworkPolicies())
    assert {"podSelector": {}} in [one["spec"] for (kind, *_), one in kube.objects.items() if kind == "networkpolicies"]


async def test_a_network_policy_of_somebody_else_keeps_the_run_from_starting(world: World) -> None:
    world.kube.put(NETWORK_POLICIES, "team", {"kind": "NetworkPolicy", "metadata": {"name": "demo-run"}})
    with pytest.raises(ObstacleError, match="NetworkPolicy demo-run exists and was made by somebody else"):
        await Executor(world.kube, Defaults("trainer:1"), network=RULES).execute(world.job, EnsureNetworkPolicies())
