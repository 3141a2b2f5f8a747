"""What a run's pods may reach and be reached by, as their NetworkPolicies say it."""

from dataclasses import replace
from typing import Any

from qwensft_operator.plan.types import CreateJob, EnsureNetworkPolicies
from qwensft_operator.render import NetworkRules, network_policies, service, stage_job

from ..plan.builders import PREPARE, look, new_run
from .jobs import DEFAULTS, STAGES, job

PROMETHEUS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
TRACKER = {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"protocol": "TCP", "port": 5000}]}
HUB = {"ports": [{"protocol": "TCP", "port": 443}]}
RULES = NetworkRules(metrics_from=(PROMETHEUS,), egress=(TRACKER,), prepare_egress=(HUB,))
JOB = job("lora-2-nodes-cpu")
OWN = {"podSelector": {"matchLabels": {"qwensft.io/job-uid": JOB.metadata.uid}}}


def specs(rules: NetworkRules = RULES) -> tuple[dict[str, Any], dict[str, Any]]:
    of_all, of_prepare = (policy["spec"] for policy in network_policies(JOB, rules))
    return of_all, of_prepare


def selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return bool(selector["matchLabels"].items() <= labels.items())


def test_pods_are_reached_by_their_peers_on_any_port_and_for_figures_by_those_named() -> None:
    of_all, of_prepare = specs()
    assert of_all["ingress"] == [
        {"from": [OWN]},
        {"from": [PROMETHEUS], "ports": [{"protocol": "TCP", "port": 9400}]},
    ]
    assert of_prepare["policyTypes"] == ["Egress"]


def test_without_anybody_named_nobody_else_reads_figures() -> None:
    """An empty list of peers in a NetworkPolicy means everybody."""
    of_all, of_prepare = specs(NetworkRules())
    assert of_all["ingress"] == [{"from": [OWN]}]
    assert of_prepare["egress"] == []


def test_pods_reach_their_peers_and_dns_and_only_prepare_the_hubs() -> None:
    of_all, of_prepare = specs()
    dns = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
    assert of_all["egress"] == [{"to": [OWN]}, dns, TRACKER]
    assert of_all["policyTypes"] == ["Ingress", "Egress"]
    assert of_prepare["egress"] == [HUB]


def test_the_pods_of_every_stage_are_selected_and_those_of_another_run_are_not() -> None:
    of_all, of_prepare = specs()
    for stage in STAGES:
        manifest = stage_job(JOB, stage, 1, defaults=DEFAULTS)
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        assert selected(of_all["podSelector"], labels)
        assert selected(of_prepare["podSelector"], labels) is (stage is PREPARE)
        assert not selected(of_all["podSelector"], labels | {"qwensft.io/job-uid": "another"})


def test_they_go_with_the_run() -> None:
    for policy in network_policies(JOB, RULES):
        assert policy["metadata"]["ownerReferences"][0]["uid"] == JOB.metadata.uid
        assert policy["metadata"]["ownerReferences"] == service(JOB)["metadata"]["ownerReferences"]


def test_they_are_there_before_the_first_pod_and_only_where_the_installation_wants_them() -> None:
    observed = new_run()
    assert not any(isinstance(action, EnsureNetworkPolicies) for action in look(observed).plan.actions)
    wanted = look(replace(observed, network_policies=True)).plan.actions
    kinds = [type(action) for action in wanted]
    assert kinds.index(EnsureNetworkPolicies) < kinds.index(CreateJob)


def test_no_two_runs_want_a_policy_of_one_name() -> None:
    names = []
    for name in ("x", "x-run", "x-prepare", "x-prepare-run"):
        one = JOB.replace(metadata=JOB.metadata.replace(name=name))
        names += [policy["metadata"]["name"] for policy in network_policies(one, RULES)]
    assert len(set(names)) == 8
