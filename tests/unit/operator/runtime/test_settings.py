"""Settings come from the environment, and a wrong one is told at start, by its name."""

import json
import re
from pathlib import Path

import pytest

from qwensft.api.v1alpha1 import NO_DEFAULTS
from qwensft_operator.plan.types import Limits
from qwensft_operator.render import Defaults, NetworkRules
from qwensft_operator.runtime.settings import Settings, SettingsError, describe, unknown_variables

CHART = Path(__file__).parents[4] / "charts" / "qwen-sft-operator"
MINIMAL = {"QWENSFT_TRAINER_IMAGE": "trainer:1"}


def test_everything_but_the_trainer_image_has_a_default() -> None:
    settings = Settings.from_environment(MINIMAL | {"HOME": "/", "KUBECONFIG": "x"})
    assert settings.trainer_image == "trainer:1"
    assert settings.namespaces == ()
    assert settings.workers == 32
    assert settings.scrape_interval_seconds == 10
    assert settings.leader_election
    assert settings.read_nodes
    assert settings.identity
    assert settings.lease_namespace


def test_values_are_parsed_by_their_type() -> None:
    settings = Settings.from_environment(
        MINIMAL
        | {
            "QWENSFT_NAMESPACES": "team-a, team-b",
            "QWENSFT_WORKERS": "4",
            "QWENSFT_SCRAPE_INTERVAL_SECONDS": "2.5",
            "QWENSFT_LEADER_ELECTION": "False",
            "QWENSFT_READ_NODES": "false",
            "QWENSFT_LOG_LEVEL": "",
        }
    )
    assert settings.namespaces == ("team-a", "team-b")
    assert (settings.workers, settings.scrape_interval_seconds) == (4, 2.5)
    assert not settings.leader_election
    assert not settings.read_nodes
    assert settings.log_level == "INFO"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("QWENSFT_TRAINER_IMAGE", ""),
        ("QWENSFT_WORKERS", "many"),
        ("QWENSFT_WORKERS", "0"),
        ("QWENSFT_SCRAPE_INTERVAL_SECONDS", "-1"),
        ("QWENSFT_LEADER_ELECTION", "perhaps"),
        ("QWENSFT_IMAGE_PULL_POLICY", "Sometimes"),
        ("QWENSFT_LOG_LEVEL", "LOUD"),
        ("QWENSFT_NAMESPACES", "team-*"),
        ("QWENSFT_ALLOWED_IMAGES", "registry.example*"),
        ("QWENSFT_ALLOWED_IMAGES", "trainer:1,*"),
        ("QWENSFT_ALLOWED_IMAGES", "*/trainer:1"),
        ("QWENSFT_ALLOWED_CLAIMS", "team-*-a"),
        ("QWENSFT_ALLOWED_SERVICE_ACCOUNTS", "*a*"),
        ("QWENSFT_ALLOW_HOST_NETWORK", "never"),
        ("QWENSFT_LINK_LOCAL_SERVICES", "cos.example"),
        ("QWENSFT_LINK_LOCAL_SERVICES", "169.254.0.0/16"),
        ("QWENSFT_LINK_LOCAL_SERVICES", "10.0.0.1"),
        ("QWENSFT_LINK_LOCAL_SERVICES", "169.254.0.47,169.254.169.254"),
        ("QWENSFT_LINK_LOCAL_SERVICES", "169.254.170.2"),
        ("QWENSFT_NETWORK_POLICIES", "true"),
        ("QWENSFT_NETWORK_POLICIES", '{"egres": []}'),
        ("QWENSFT_NETWORK_POLICIES", '{"egress": {"ports": []}}'),
        ("QWENSFT_NETWORK_POLICIES", '{"egress": ["443"]}'),
        ("QWENSFT_WORKER_DEFAULTS", "true"),
        ("QWENSFT_WORKER_DEFAULTS", '{"nodeselector": {}}'),
        ("QWENSFT_WORKER_DEFAULTS", '{"securityContext": {"runAsUser": 0}}'),
    ],
)
def test_an_unusable_value_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}\\b"):
        Settings.from_environment(MINIMAL | {variable: value})


def test_what_is_not_limited_is_allowed_and_the_own_image_always_is() -> None:
    assert Settings.from_environment(MINIMAL).limits == Limits()
    limited = {"QWENSFT_ALLOWED_IMAGES": "registry.example/ml/*, other@sha256:*", "QWENSFT_ALLOW_HOST_NETWORK": "false"}
    limits = Settings.from_environment(MINIMAL | limited).limits
    assert limits.images == ("registry.example/ml/*", "other@sha256:*", "trainer:1")
    assert not limits.host_network


def test_network_policies_are_made_where_the_setting_is_given_even_if_it_adds_nothing() -> None:
    assert Settings.from_environment(MINIMAL).network is None
    assert Settings.from_environment(MINIMAL | {"QWENSFT_NETWORK_POLICIES": "{}"}).network == NetworkRules()
    added = Settings.from_environment(MINIMAL | {"QWENSFT_NETWORK_POLICIES": '{"metricsFrom": [{"podSelector": {}}]}'})
    assert added.network == NetworkRules(metrics_from=({"podSelector": {}},))


def test_defaults_of_runs_are_read_as_they_stand_in_the_spec() -> None:
    assert Settings.from_environment(MINIMAL).defaults == Defaults("trainer:1", "IfNotPresent", NO_DEFAULTS)
    given = {"QWENSFT_WORKER_DEFAULTS": '{"nodeSelector": {"pool": "gpu"}}', "QWENSFT_IMAGE_PULL_POLICY": "Always"}
    defaults = Settings.from_environment(MINIMAL | given).defaults
    assert defaults.image_pull_policy == "Always"
    assert defaults.worker.document() == {"nodeSelector": {"pool": "gpu"}}


def test_link_local_services_are_handed_on() -> None:
    given = {"QWENSFT_LINK_LOCAL_SERVICES": "169.254.0.47, 169.254.0.48"}
    assert Settings.from_environment(MINIMAL | given).defaults.link_local_services == ("169.254.0.47", "169.254.0.48")


def test_the_chart_takes_the_link_local_services_that_the_operator_takes() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["linkLocalServices"]["items"]
    shape, refused = re.compile(schema["pattern"]), re.compile(schema["not"]["pattern"])
    addresses = [f"169.254.{third}.{last}" for third in (0, 1, 42, 168, 169, 170, 171, 254, 255) for last in range(256)]
    others = ["169.253.0.1", "169.255.0.1", "10.0.0.1", "169.254.0", "169.254.0.1.2", "169.254.0.256", "169.254.300.1"]
    others += ["169.254.0.047", "169.254.00.1", "169.254.0.47/32", "fe80::1", "store.example", "169x254.0.1"]
    taken = {}
    for address in (*addresses, *others):
        try:
            Settings.from_environment(MINIMAL | {"QWENSFT_LINK_LOCAL_SERVICES": address})
            taken[address] = True
        except SettingsError:
            taken[address] = False
    assert taken == {a: bool(shape.search(a) and not refused.search(a)) for a in taken}
    assert {address for address in others if taken[address]} == set()
    assert sum(taken.values()) == len(addresses) - 2 * 256 - 2


def test_the_chart_sets_only_what_can_be_set() -> None:
    template = CHART / "templates" / "deployment.yaml"
    variables = re.findall(r"name: (QWENSFT_\w+)", template.read_text())
    assert len(variables) > 10
    assert unknown_variables(dict.fromkeys(variables, "")) == []


def test_a_typing_error_is_noticed() -> None:
    assert unknown_variables(MINIMAL | {"QWENSFT_WORKER": "4", "HOME": "/"}) == ["QWENSFT_WORKER"]


def test_help_names_every_variable() -> None:
    for name in Settings.__dataclass_fields__:
        assert f"QWENSFT_{name.upper()} " in describe()
