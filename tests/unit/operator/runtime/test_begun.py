"""A run goes on as it has begun: by the same files and the same image, whatever operator makes the next attempt."""

from typing import Any

import pytest
import yaml

from qwensft.api.v1alpha1 import NO_DEFAULTS, QwenSFTJob, Stage, editable_digest, parse_job, parse_worker_defaults
from qwensft_operator.plan.types import CreateJob, EnsureConfigMap, Limits
from qwensft_operator.render import Defaults
from qwensft_operator.runtime.execute import Executor, ObstacleError
from qwensft_operator.runtime.kube import CONFIG_MAPS, JOBS, Manifest

from .fakes import FakeKube, job_manifest

DIGEST = "qwensft.io/configuration"


class World:
    """A run, and operators that are installed one after the other with images of their own."""

    def __init__(self) -> None:
        self.kube, self.image, self.worker = FakeKube(), "trainer:1", NO_DEFAULTS
        self.status: dict[str, Any] = {}
        self.spec: dict[str, Any] = {}

    @property
    def job(self) -> QwenSFTJob:
        return parse_job(job_manifest(**self.spec) | {"status": self.status})

    @property
    def defaults(self) -> Defaults:
        return Defaults(self.image, worker=self.worker)

    async def configure(self, stage: Stage, attempt: int) -> Manifest:
        """Let the operator write an attempt's ConfigMap."""
        await Executor(self.kube, self.defaults).execute(self.job, EnsureConfigMap(stage, attempt))
        return self.config_map(f"demo-{stage}-{attempt}")

    async def start(self, stage: Stage, attempt: int) -> str:
        """Let the operator start an attempt; return its image."""
        await self.configure(stage, attempt)
        await Executor(self.kube, self.defaults).execute(self.job, CreateJob(stage, attempt))
        if attempt == 1:
            record = {"attempt": 1, "jobName": f"demo-{stage}-1"}
            self.status = {"stages": {**self.status.get("stages", {}), stage.value: record}}
        made = self.kube.objects["jobs", "team", f"demo-{stage}-{attempt}"]
        image: str = made["spec"]["template"]["spec"]["containers"][0]["image"]
        return image

    def selector(self, name: str) -> dict[str, str] | None:
        """The node selector of a Job's pods."""
        template = self.kube.objects["jobs", "team", name]["spec"]["template"]
        selector: dict[str, str] | None = template["spec"].get("nodeSelector")
        return selector

    def config_map(self, name: str) -> Manifest:
        return self.kube.objects["configmaps", "team", name]


@pytest.fixture
def world() -> World:
    return World()


def run(config_map: Manifest) -> dict[str, Any]:
    return dict(yaml.safe_load(config_map["data"]["run.yaml"]))


async def test_every_attempt_and_stage_uses_the_image_by_which_the_run_has_begun(world: World) -> None:
    images = [await world.start(Stage.PREPARE, 1)]
    for number, (stage, attempt) in enumerate(
        [(Stage.PREPARE, 2), (Stage.TRAIN, 1), (Stage.TRAIN, 2), (Stage.MERGE, 1), (Stage.MERGE, 2)]
    ):
        world.image = f"trainer:{number + 2}"
        images.append(await world.start(stage, attempt))
    assert set(images) == {"trainer:1"}


async def test_an_image_that_the_job_names_is_used_and_needs_no_record(world: World) -> None:
    world.spec = {"worker": {"image": "mine:1"}}
    assert await world.start(Stage.PREPARE, 1) == "mine:1"
    assert "image" not in world.config_map("demo-prepare-1")["data"]
    assert await world.start(Stage.TRAIN, 1) == "mine:1"


async def test_an_operator_that_replaces_another_between_config_map_and_job_uses_the_others_image(world: World) -> None:
    await world.configure(Stage.PREPARE, 1)
    world.image = "trainer:2"
    assert await world.start(Stage.PREPARE, 1) == "trainer:1"


async def test_a_run_that_began_before_the_image_was_written_down_has_that_of_its_first_job(world: World) -> None:
    await world.start(Stage.PREPARE, 1)
    del world.config_map("demo-prepare-1")["data"]["image"]
    world.image = "trainer:2"
    assert await world.start(Stage.TRAIN, 1) == "trainer:1"
    del world.kube.objects["jobs", "team", "demo-prepare-1"]
    assert await world.start(Stage.TRAIN, 2) == "trainer:1", "it is written down since"


async def test_a_namesakes_job_says_nothing_about_the_image(world: World) -> None:
    await world.start(Stage.PREPARE, 1)
    del world.config_map("demo-prepare-1")["data"]["image"]
    world.kube.objects["jobs", "team", "demo-prepare-1"]["metadata"]["ownerReferences"] = [{"uid": "99999999-old"}]
    world.image = "trainer:2"
    assert await world.start(Stage.TRAIN, 1) == "trainer:2"


async def test_a_run_trains_and_merges_as_it_was_prepared(world: World) -> None:
    await world.start(Stage.PREPARE, 1)
    prepared = world.config_map("demo-prepare-1")["data"]
    # The operator was upgraded since: what it had written before has no version, and a key that is gone.
    old = {key: value for key, value in yaml.safe_load(prepared["run.yaml"]).items() if "ersion" not in key}
    prepared |= {"run.yaml": yaml.safe_dump(old | {"relic": 1}), "train.yaml": "as an older operator wrote it"}
    assert (await world.configure(Stage.TRAIN, 1))["data"] == prepared
    world.config_map("demo-train-1")["data"]["train.yaml"] = "as the first training read it"
    assert (await world.configure(Stage.TRAIN, 2))["data"]["train.yaml"] == "as the first training read it"
    files = (await world.configure(Stage.MERGE, 1))["data"]
    merge = yaml.safe_load(files["run.yaml"])
    assert merge.pop("merge")["verify"] == "full"
    assert merge | {"mergePlanned": True} == old | {"relic": 1}
    assert files.keys() == {"run.yaml", "export.yaml", "image"}


async def test_a_second_attempt_to_prepare_gets_the_files_of_the_first_with_what_may_be_edited(world: World) -> None:
    await world.start(Stage.PREPARE, 1)
    first = world.config_map("demo-prepare-1")["data"]
    first["train.yaml"] = "as an older operator wrote it"
    first["run.yaml"] = yaml.safe_dump(yaml.safe_load(first["run.yaml"]) | {"relic": 1})
    assert (await world.configure(Stage.PREPARE, 2))["data"] == first
    world.spec = {"prepare": {"preview": "Log"}, "merge": {"enabled": False}}
    third = await world.configure(Stage.PREPARE, 3)
    assert third["data"]["train.yaml"] == first["train.yaml"]
    edited = {"prepare": {"preview": "Log"}, "mergePlanned": False}
    assert run(third) == yaml.safe_load(first["run.yaml"]) | edited


async def test_any_copy_will_do_when_the_first_config_map_was_deleted(world: World) -> None:
    await world.start(Stage.PREPARE, 1)
    world.config_map("demo-prepare-1")["data"]["train.yaml"] = "as an older operator wrote it"
    await world.start(Stage.TRAIN, 1)
    del world.kube.objects["configmaps", "team", "demo-prepare-1"]
    world.image = "trainer:2"
    assert (await world.configure(Stage.TRAIN, 2))["data"]["train.yaml"] == "as an older operator wrote it"
    del world.kube.objects["configmaps", "team", "demo-train-1"]
    world.status["stages"]["train"]["attempt"] = 3
    assert (await world.configure(Stage.TRAIN, 3))["data"]["train.yaml"] == "as an older operator wrote it"


async def test_copies_of_the_same_beginning_have_the_same_digest_and_others_another(world: World) -> None:
    first = await world.configure(Stage.PREPARE, 1)
    digest = first["metadata"]["annotations"][DIGEST]
    assert digest.startswith("sha256:")
    world.image = "trainer:2"
    for stage in (Stage.TRAIN, Stage.MERGE):
        assert (await world.configure(stage, 1))["metadata"]["annotations"][DIGEST] == digest
    world.kube.objects.clear()
    assert (await world.configure(Stage.PREPARE, 1))["metadata"]["annotations"][DIGEST] != digest
    world.kube.objects.clear()
    world.image, world.spec = "trainer:1", {"prepare": {"preview": "Log"}}
    assert (await world.configure(Stage.PREPARE, 1))["metadata"]["annotations"][DIGEST] == digest, "it may be edited"


@pytest.mark.parametrize("stage", [Stage.TRAIN, Stage.MERGE])
async def test_without_any_copy_only_the_same_files_and_image_are_written_anew(world: World, stage: Stage) -> None:
    await world.start(Stage.PREPARE, 1)
    digest = world.config_map("demo-prepare-1")["metadata"]["annotations"][DIGEST]
    world.status["configuration"] = digest
    del world.kube.objects["configmaps", "team", "demo-prepare-1"]
    assert (await world.configure(stage, 1))["metadata"]["annotations"][DIGEST] == digest

    world.kube.objects = {key: value for key, value in world.kube.objects.items() if key[0] != "configmaps"}
    world.image = "trainer:2"
    assert (await world.configure(stage, 1))["data"]["image"] == "trainer:1", "the Job that prepared still tells it"

    world.kube.objects.clear()
    with pytest.raises(ObstacleError, match="ConfigMap demo-prepare-1, by which the run has begun, is gone") as caught:
        await world.configure(stage, 1)
    assert caught.value.obstacle.reason == "ConfigMapUnavailable"


@pytest.mark.parametrize("first", [None, {"metadata": {"name": "demo-train-1"}, "data": {"train.yaml": "foreign"}}])
async def test_a_training_attempt_is_rendered_anew_when_the_first_configuration_is_lost_or_foreign(
    world: World, first: Manifest | None
) -> None:
    if first is not None:
        world.kube.put(CONFIG_MAPS, "team", first)
    assert "model_name_or_path" in (await world.configure(Stage.TRAIN, 2))["data"]["train.yaml"]


@pytest.mark.parametrize("stage", list(Stage))
async def test_every_copy_says_which_editable_fields_it_was_made_from(world: World, stage: Stage) -> None:
    await world.start(Stage.PREPARE, 1)
    world.spec = {"merge": {"shardSizeGB": 7}, "prepare": {"preview": "Log"}}
    annotations = (await world.configure(stage, 2))["metadata"]["annotations"]
    assert annotations["qwensft.io/made-from"] == editable_digest(world.job.spec, stage)


async def test_a_new_run_costs_one_read_more(world: World) -> None:
    await world.start(Stage.PREPARE, 1)
    assert world.kube.named(JOBS) == {"demo-prepare-1"}
    reads = [call for call in world.kube.calls if call[0] == "get"]
    assert reads == [("get", "configmaps", "demo-prepare-1")]


async def test_an_image_that_only_a_config_map_names_has_to_be_allowed(world: World) -> None:
    """Who may write ConfigMaps can put another in the place of the run's."""
    await world.configure(Stage.PREPARE, 1)
    world.config_map("demo-prepare-1")["data"]["image"] = "evil:1"
    allowed = Limits(images=("registry.example/ml/*", "trainer:1"))
    with pytest.raises(ObstacleError, match="does not allow the image evil:1, with which the run has begun") as caught:
        await Executor(world.kube, Defaults("trainer:1"), limits=allowed).execute(
            world.job, CreateJob(Stage.PREPARE, 1)
        )
    assert caught.value.obstacle.reason == "NotAllowed"
    assert world.kube.named(JOBS) == set()
    world.config_map("demo-prepare-1")["data"]["image"] = "trainer:1"
    await Executor(world.kube, Defaults("trainer:2"), limits=allowed).execute(world.job, CreateJob(Stage.PREPARE, 1))
    assert world.kube.named(JOBS) == {"demo-prepare-1"}


ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"run.yaml": ALIASES}, "run.yaml is no mapping of a usual size and kind"),  # of 100 GB
        ({"run.yaml": "a: &a [*a]"}, "run.yaml is no mapping of a usual size and kind"),
        ({"run.yaml": "[" * 100_000}, "run.yaml is not valid YAML"),
        ({"run.yaml": "a: 1" + ":1" * 250_000}, "run.yaml is not valid YAML"),  # a minute's worth of a number
        ({"run.yaml": "a: 1" + ":1" * 400 + ".0"}, "run.yaml is not valid YAML"),
        ({"run.yaml": "x" * 2_000_000}, "run.yaml has 2000000 characters"),
        ({"run.yaml": "text"}, "run.yaml is no mapping of a usual size and kind"),
        ({"run.yaml": "a: 2026-01-01"}, "run.yaml is no mapping of a usual size and kind"),
        ({"run.yaml": "{1: a, b: c}"}, "run.yaml is no mapping of a usual size and kind"),
        ({}, "run.yaml is missing"),
    ],
    ids=range(10),
)
@pytest.mark.parametrize("stage", [Stage.PREPARE, Stage.TRAIN, Stage.MERGE])
async def test_what_somebody_has_put_in_the_place_of_the_first_config_map_is_not_taken_for_it(
    world: World, stage: Stage, files: dict[str, str], why: str
) -> None:
    await world.start(Stage.PREPARE, 1)
    await world.start(Stage.TRAIN, 1)
    for name in ("demo-prepare-1", "demo-train-1"):
        world.config_map(name)["data"] = files
        world.config_map(name)["metadata"]["annotations"] = {}
    with pytest.raises(ObstacleError) as caught:
        await world.configure(stage, 2)
    assert caught.value.obstacle.reason == "ConfigMapUnavailable"
    assert why in caught.value.obstacle.message


GPU, OTHER = (parse_worker_defaults(f'{{"nodeSelector": {{"pool": "{pool}"}}}}') for pool in ("gpu", "other"))
ATTEMPTS = [(Stage.PREPARE, 2), (Stage.TRAIN, 1), (Stage.TRAIN, 2), (Stage.MERGE, 1), (Stage.MERGE, 2)]


@pytest.mark.parametrize("image", [None, "mine:1"])
async def test_every_attempt_and_stage_has_the_defaults_by_which_the_run_has_begun(
    world: World, image: str | None
) -> None:
    world.spec = {"worker": {"image": image}} if image else {}
    world.worker = GPU
    await world.start(Stage.PREPARE, 1)
    world.worker = OTHER
    for stage, attempt in ATTEMPTS:
        await world.start(stage, attempt)
        assert world.selector(f"demo-{stage}-{attempt}") == {"pool": "gpu"}


async def test_a_run_that_began_without_defaults_goes_on_without_them(world: World) -> None:
    await world.start(Stage.PREPARE, 1)
    assert "worker.json" not in world.config_map("demo-prepare-1")["data"]
    world.worker = GPU
    for stage, attempt in ATTEMPTS:
        await world.start(stage, attempt)
        assert world.selector(f"demo-{stage}-{attempt}") is None


async def test_an_operator_that_replaces_another_between_config_map_and_job_uses_the_others_defaults(
    world: World,
) -> None:
    world.worker = GPU
    await world.configure(Stage.PREPARE, 1)
    world.worker = OTHER
    await Executor(world.kube, world.defaults).execute(world.job, CreateJob(Stage.PREPARE, 1))
    assert world.selector("demo-prepare-1") == {"pool": "gpu"}


async def test_an_edit_of_the_job_stands_in_place_of_what_it_has_begun_with(world: World) -> None:
    world.worker = GPU
    await world.start(Stage.PREPARE, 1)
    world.spec = {"worker": {"nodeSelector": {"mine": "yes"}}}
    await world.start(Stage.TRAIN, 1)
    assert world.selector("demo-train-1") == {"mine": "yes"}


async def test_other_defaults_are_another_beginning(world: World) -> None:
    world.worker = GPU
    digest = (await world.configure(Stage.PREPARE, 1))["metadata"]["annotations"][DIGEST]
    assert (await world.configure(Stage.MERGE, 1))["metadata"]["annotations"][DIGEST] == digest
    world.status["configuration"] = digest
    world.kube.objects.clear()
    assert (await world.configure(Stage.TRAIN, 1))["metadata"]["annotations"][DIGEST] == digest
    world.kube.objects.clear()
    world.worker = OTHER
    with pytest.raises(ObstacleError, match="by which the run has begun, is gone"):
        await world.configure(Stage.TRAIN, 1)


@pytest.mark.parametrize("text", ["{", "[]", '{"hostNetwork": true}', "[" * 100_000], ids=range(4))
async def test_defaults_that_no_operator_has_written_are_not_taken(world: World, text: str) -> None:
    world.worker = GPU
    await world.configure(Stage.PREPARE, 1)
    world.config_map("demo-prepare-1")["data"]["worker.json"] = text
    with pytest.raises(ObstacleError, match=r"worker\.json in the run's ConfigMap is not what") as caught:
        await Executor(world.kube, world.defaults).execute(world.job, CreateJob(Stage.PREPARE, 1))
    assert caught.value.obstacle.reason == "ConfigMapUnavailable"
    with pytest.raises(ObstacleError, match=r"worker\.json in the run's ConfigMap is not what"):
        await world.configure(Stage.TRAIN, 1)
