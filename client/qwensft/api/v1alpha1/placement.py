"""Where pods may run: tolerations, spreading and affinity, the same fields as in a pod.

They are written out, so that `kubectl explain` documents them and the API server refuses a slip at `kubectl apply`, and
not when the Job is made.
ADR 0148 says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from .base import ApiModel, Rule
from .common import ObjectName
from .labels import LABEL_KEY, LabelKey, LabelMap, LabelValue, is_key, is_key_cel


class Toleration(ApiModel):
    """A taint that pods tolerate; the same fields as in a pod."""

    rules = (
        Rule(
            cel=f"self.?key.orValue('') == '' || ({is_key_cel(LABEL_KEY, 'self.key')})",
            message="the key of a taint is a name of at most 63 characters, after a domain and '/' where need be: "
            "nvidia.com/gpu",
            check=lambda toleration: not toleration.key or is_key(LABEL_KEY, toleration.key),
            field=".key",
        ),
        Rule(
            cel="self.?key.orValue('') != '' || self.?operator.orValue('Equal') == 'Exists'",
            message="without a key, every taint is meant: set operator: Exists, or the key",
            check=lambda toleration: bool(toleration.key) or toleration.operator == "Exists",
            field=".operator",
        ),
        Rule(
            cel="self.?operator.orValue('Equal') != 'Exists' || self.?value.orValue('') == ''",
            message="operator Exists takes any value: remove value, or set operator: Equal",
            check=lambda toleration: toleration.operator != "Exists" or not toleration.value,
            field=".value",
        ),
        Rule(
            cel="!has(self.tolerationSeconds) || self.?effect.orValue('') == 'NoExecute'",
            message="only taints with effect NoExecute end pods: remove tolerationSeconds, or set effect: NoExecute",
            check=lambda toleration: toleration.toleration_seconds is None or toleration.effect == "NoExecute",
            field=".tolerationSeconds",
        ),
        Rule(
            cel="!has(self.value) || self.value.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
            message="the value of a taint is letters, digits, '-', '_' and '.', with a letter or digit at both ends",
            check=lambda toleration: _is_value(toleration.value or ""),
            field=".value",
        ),
    )

    key: str | None = Field(
        None, max_length=317, description="Key of the taint. Default: every key, with operator Exists."
    )
    operator: Literal["Equal", "Exists"] | None = Field(
        None, description="How key and value are compared. Default: Equal."
    )
    value: str | None = Field(
        None, max_length=63, description="Value of the taint, for operator Equal. Default: empty."
    )
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint to tolerate. Default: every effect."
    )
    toleration_seconds: int | None = Field(
        None,
        ge=0,
        le=2**31 - 1,
        description="Seconds that the pod stays after a NoExecute taint appears; only with effect NoExecute. Default: "
        "without end.",
    )


def _is_value(text: str) -> bool:
    return text == "" or (is_key(LABEL_KEY, text) and "/" not in text)


class TopologySpreadConstraint(ApiModel):
    """How evenly the pods of an attempt are spread; the same fields as in a pod, without the selector of pods."""

    rules = (
        Rule(
            cel="!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
            message="minDomains counts where pods may not be placed otherwise: remove it, or set whenUnsatisfiable: "
            "DoNotSchedule",
            check=lambda constraint: constraint.min_domains is None or constraint.when_unsatisfiable == "DoNotSchedule",
            field=".minDomains",
        ),
    )

    max_skew: int = Field(ge=1, le=1024, description="By how many pods two domains may differ.")
    topology_key: str = Field(
        min_length=1,
        max_length=317,
        description="Label of nodes whose values are the domains, such as topology.kubernetes.io/zone.",
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="What happens to a pod that would break it."
    )
    min_domains: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Fewer domains than these count as empty ones. Only with DoNotSchedule. Default: 1.",
    )
    node_affinity_policy: Literal["Honor", "Ignore"] | None = Field(
        None, description="Whether only nodes that fit nodeSelector and affinity count. Default: Honor."
    )
    node_taints_policy: Literal["Honor", "Ignore"] | None = Field(
        None, description="Whether nodes with taints that the pods do not tolerate are left out. Default: Ignore."
    )


def _are_different(constraints: Sequence[TopologySpreadConstraint]) -> bool:
    return len({(c.topology_key, c.when_unsatisfiable) for c in constraints}) == len(constraints)


Tolerations = Annotated[list[Toleration], Field(max_length=32)]
TopologySpreadConstraints = Annotated[
    list[TopologySpreadConstraint],
    Field(max_length=8),
    Rule(
        cel="self.all(a, self.exists_one(b,"
        " a.topologyKey == b.topologyKey && a.whenUnsatisfiable == b.whenUnsatisfiable))",
        message="two constraints have the same topologyKey and whenUnsatisfiable: keep that with the smaller maxSkew",
        check=_are_different,
    ),
]

_MOST = 16
_Values = Annotated[list[LabelValue], Field(max_length=1024)]  # the names of a cluster's nodes, say
_NamespaceName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


def _values_fit(operators: tuple[str, ...]) -> Rule:
    listed = list(operators)
    return Rule(
        cel=f"(self.operator in {listed}) == (has(self.values) && self.values.size() > 0)",
        message=f"{', '.join(operators)} compare with values, and other operators with none: add or remove values",
        check=lambda requirement: (requirement.operator in operators) == bool(requirement.values),
        field=".values",
    )


class LabelSelectorRequirement(ApiModel):
    """A condition on one label of a pod or namespace."""

    rules = (_values_fit(("In", "NotIn")),)

    key: LabelKey = Field(description="Key of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the label is compared.")
    values: _Values | None = Field(None, description="Values, for In and NotIn. Default: none.")


class LabelSelector(ApiModel):
    """Conditions on labels, all of which must hold; none at all fit everything."""

    match_labels: LabelMap | None = Field(None, description="Labels with their values. Default: none.")
    match_expressions: Annotated[list[LabelSelectorRequirement], Field(max_length=_MOST)] | None = Field(
        None, description="Further conditions. Default: none."
    )


class NodeSelectorRequirement(ApiModel):
    """A condition on one label of a node."""

    rules = (
        _values_fit(("In", "NotIn", "Gt", "Lt")),
        Rule(
            cel="!(self.operator in ['Gt', 'Lt']) || (has(self.values) && self.values.size() == 1)",
            message="the operators Gt and Lt compare with one value: give one",
            check=lambda requirement: requirement.operator not in ("Gt", "Lt") or len(requirement.values or ()) == 1,
            field=".values",
        ),
    )

    key: LabelKey = Field(description="Key of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="How the label is compared; Gt and Lt as whole numbers."
    )
    values: _Values | None = Field(None, description="Values; one of them for Gt and Lt. Default: none.")


class NodeFieldRequirement(ApiModel):
    """A condition on a node's name."""

    key: Literal["metadata.name"] = Field(description="The only field that can be asked for.")
    operator: Literal["In", "NotIn"] = Field(description="How it is compared.")
    values: Annotated[list[ObjectName], Field(min_length=1, max_length=1)] = Field(description="The name, one alone.")


class NodeSelectorTerm(ApiModel):
    """Conditions on a node, all of which must hold; a term without any fits no node."""

    match_expressions: Annotated[list[NodeSelectorRequirement], Field(max_length=_MOST)] | None = Field(
        None, description="Conditions on labels. Default: none."
    )
    match_fields: Annotated[list[NodeFieldRequirement], Field(max_length=_MOST)] | None = Field(
        None, description="Conditions on the name. Default: none."
    )


class NodeSelector(ApiModel):
    """Nodes that pods may run on."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1, max_length=_MOST)] = Field(
        description="Terms, of which one must fit."
    )


class PreferredNodes(ApiModel):
    """Nodes that pods had better run on."""

    weight: int = Field(ge=1, le=100, description="How much it counts beside other preferences.")
    preference: NodeSelectorTerm = Field(description="The nodes.")


class NodeAffinity(ApiModel):
    """To which nodes pods are drawn."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        None, description="Nodes that pods may run on. Default: all."
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNodes], Field(max_length=_MOST)] | None
    ) = Field(None, description="Nodes that are preferred. Default: none.")


class PodAffinityTerm(ApiModel):
    """Pods, and a label of nodes: nodes with the same value of it are one place."""

    topology_key: LabelKey = Field(description="Label of nodes, such as topology.kubernetes.io/zone.")
    label_selector: LabelSelector | None = Field(None, description="The pods. Default: none.")
    namespaces: Annotated[list[_NamespaceName], Field(max_length=_MOST)] | None = Field(
        None, description="Namespaces of the pods. Default: that of the job."
    )
    namespace_selector: LabelSelector | None = Field(
        None, description="Further namespaces, by their labels. Default: none."
    )


class PreferredPods(ApiModel):
    """Pods that had better be near, or far."""

    weight: int = Field(ge=1, le=100, description="How much it counts beside other preferences.")
    pod_affinity_term: PodAffinityTerm = Field(description="The pods.")


_Terms = Annotated[list[PodAffinityTerm], Field(max_length=_MOST)]
_Preferences = Annotated[list[PreferredPods], Field(max_length=_MOST)]


class PodAffinity(ApiModel):
    """To which other pods pods are drawn."""

    required_during_scheduling_ignored_during_execution: _Terms | None = Field(
        None, description="Pods that must be in the same place. Default: none."
    )
    preferred_during_scheduling_ignored_during_execution: _Preferences | None = Field(
        None, description="Pods that are preferred in the same place. Default: none."
    )


class PodAntiAffinity(ApiModel):
    """From which other pods pods keep away."""

    required_during_scheduling_ignored_during_execution: _Terms | None = Field(
        None, description="Pods that must not be in the same place. Default: none."
    )
    preferred_during_scheduling_ignored_during_execution: _Preferences | None = Field(
        None, description="Pods that had better not be in the same place. Default: none."
    )


class Affinity(ApiModel):
    """To which nodes and pods the pods are drawn, and from which pods they keep away."""

    node_affinity: NodeAffinity | None = Field(None, description="Nodes. Default: all alike.")
    pod_affinity: PodAffinity | None = Field(None, description="Pods to be near to. Default: none.")
    pod_anti_affinity: PodAntiAffinity | None = Field(None, description="Pods to keep away from. Default: none.")
