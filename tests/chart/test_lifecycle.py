"""Releases come, change and go on a real API server, and the definition with the runs stays as long as it should."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import CHART
from .releases import KIND, Api, api_server, eventually

NAME, SYSTEM = "qwen-sft-operator", "qwen-sft-system"
IN_SYSTEM = ("--namespace", SYSTEM)
DEFINITION = CHART.parents[1] / "crds" / "qwensft.io_qwensftjobs.yaml"
INSTALL = ("upgrade", "--install", NAME, CHART, *IN_SYSTEM, "--create-namespace")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api_server(tmp_path_factory.mktemp("plane")) as api:
        yield api


@pytest.fixture
def api(server: Api) -> Iterator[Api]:
    """Without a release, and without the definition."""
    yield server
    server.clear()


def fields(definition: Any) -> set[str]:
    """The fields of spec.worker that a definition knows."""
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return set(schema["properties"]["spec"]["properties"]["worker"]["properties"])


def stored_fields(api: Api) -> set[str]:
    return fields(eventually(lambda: api.get("crd", KIND), "the definition"))


@pytest.mark.parametrize(
    "reuse", [(), ("--reuse-values",), ("--reset-then-reuse-values",)], ids=["new", "reuse", "reset"]
)
def test_an_earlier_release_is_upgraded_rolled_back_and_upgraded_again(
    api: Api, earlier: Path, reuse: tuple[str, ...]
) -> None:
    own = ("--set", "image.repository=registry.example/operator", "--set", "trainerImage=registry.example/trainer:1")
    api.helm("install", NAME, earlier, *IN_SYSTEM, "--create-namespace", *own)
    before = stored_fields(api)
    team = api.create_run()
    run = api.run(team)

    api.helm(*INSTALL, *(reuse or own))
    assert stored_fields(api) == fields(yaml.safe_load(DEFINITION.read_text()))
    deployment = api.get("deployment", NAME, *IN_SYSTEM)
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"].startswith("registry.example/operator:")
    assert api.run(team)["metadata"]["uid"] == run["metadata"]["uid"]

    api.helm("rollback", NAME, "1", *IN_SYSTEM)
    assert stored_fields(api) == before
    assert api.run(team)["spec"] == run["spec"]

    api.helm(*INSTALL, *(reuse or own))
    assert api.run(team)["metadata"]["uid"] == run["metadata"]["uid"]


def test_runs_outlive_the_release_and_belong_to_the_next_one_of_its_name(api: Api) -> None:
    api.helm(*INSTALL)
    team = api.create_run()
    api.helm("uninstall", NAME, *IN_SYSTEM)
    assert api.items("deployments", *IN_SYSTEM) == []
    run = api.run(team)
    assert run is not None
    api.helm(*INSTALL)
    assert api.run(team)["metadata"]["uid"] == run["metadata"]["uid"]


def test_a_kept_definition_is_given_to_another_release_on_demand_alone(api: Api) -> None:
    api.helm(*INSTALL)
    api.helm("uninstall", NAME, *IN_SYSTEM)
    other = ("install", "a", CHART, "--namespace", "system-a", "--create-namespace")
    assert KIND in api.refused(*other)
    api.helm(*other, "--take-ownership")
    assert api.get("crd", KIND)["metadata"]["annotations"]["meta.helm.sh/release-name"] == "a"


def test_a_definition_that_is_not_kept_goes_with_its_release_and_its_runs(api: Api) -> None:
    api.helm(*INSTALL, "--set", "crds.keep=false")
    api.create_run()
    api.helm("uninstall", NAME, *IN_SYSTEM)
    eventually(lambda: api.get("crd", KIND) is None, "the definition to go")


def test_a_definition_stays_when_its_release_stops_to_install_it(api: Api) -> None:
    api.helm(*INSTALL)
    api.helm(*INSTALL, "--set", "crds.enabled=false")
    assert api.get("crd", KIND) is not None


def test_two_releases_serve_two_namespaces_without_any_right_in_the_cluster(api: Api) -> None:
    api.kubectl("create", "-f", str(DEFINITION))
    api.kubectl("wait", "--for=condition=Established", f"crd/{KIND}")
    served = {name: api.create_run() for name in ("a", "b")}
    for name, team in served.items():
        values = (f"watchNamespaces={{{team}}}", "crds.enabled=false", f"workerDefaults.nodeSelector.pool={name}")
        options = itertools.chain.from_iterable(("--set", value) for value in values)
        api.helm("install", name, CHART, "--namespace", f"system-{name}", "--create-namespace", *options)
    for name, team in served.items():
        account = f"system-{name}:{name}-{NAME}"
        assert api.may(account, "create", "jobs", "-n", team)
        (other,) = served.keys() - {name}
        for question in (("-n", served[other]), ("--all-namespaces",)):
            assert not api.may(account, "list", KIND, *question)
        assert not api.may(account, "list", "nodes")
    for kind in ("clusterroles", "clusterrolebindings"):
        assert api.items(kind, "-l", f"app.kubernetes.io/name={NAME}") == []
    with api.operator(f"a-{NAME}", "system-a"), api.operator(f"b-{NAME}", "system-b"):
        for name, team in served.items():
            job = eventually(functools.partial(api.get, "job", "demo-prepare-1", "-n", team), "the Job of a stage")
            maker = job["metadata"]["annotations"]["qwensft.io/installation"]
            assert maker == f"system-{name}/{name}-{NAME}"
            assert job["spec"]["template"]["spec"]["nodeSelector"] == {"pool": name}
