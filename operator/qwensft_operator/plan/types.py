"""The vocabulary between the pure core and its edges: what was observed, and what is to be done.

`runtime.observe` fills an `Observed`; `plan.decide` turns it into a `Plan`; `runtime.execute` carries the plan out.
Nothing here reads a clock, a network or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from qwensft.api.v1alpha1 import NO_DEFAULTS, QwenSFTJob, Reason, Spec, Stage, Status, Worker

LARGEST_NUMBER = 2**53  # the largest integer that JSON readers agree on, and that the API takes


class JobState(StrEnum):
    """How far a child Job is, reduced from its conditions."""

    RUNNING = "Running"
    FAILING = "Failing"  # FailureTarget is set, but pods are still terminating: too early for the next attempt
    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class ChildJob:
    """A batch/v1 Job that belongs to the run, read live."""

    name: str
    uid: str
    stage: Stage
    attempt: int
    state: JobState
    created_at: datetime
    finished_at: datetime | None = None
    active: int = 0
    ready: int = 0
    succeeded: int = 0  # pods that ended well, also those that Kubernetes has not counted yet
    deleting: bool = False
    by_uid: bool = True  # whether its pods carry the run's UID, by which the Service selects
    made_from: str = ""  # digest of the editable fields of the spec that it was made from; "" = not known
    suspended: bool = False  # somebody holds it: its spec.suspend is true
    managed_by: str = ""  # who makes its pods, where its spec.managedBy says so
    queue: str = ""  # the LocalQueue of Kueue that its label names
    queue_class: str = ""  # the WorkloadPriorityClass that its label names
    started_at: datetime | None = None  # since when its pods are wanted; a release after a suspension counts anew
    reason: str = ""  # of the Failed (or FailureTarget) condition
    message: str = ""
    installation: str = ""  # of the operator that made it, "" if that did not say so
    held_by: tuple[str, ...] = ()  # finalizers of others, while it is being deleted
    kept_by: str = ""  # it counts as ended but has pods: what keeps these, in a sentence

    @property
    def begun_at(self) -> datetime:
        """When its pods were wanted, as far as that is known."""
        return self.started_at or self.created_at


@dataclass(frozen=True, slots=True)
class Told:
    """What a training tells of a tracker: where its run is to be seen, and how many log lines are not there."""

    tracker: str
    url: str = ""
    run_id: str = ""
    undelivered: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """A trainer's termination message (JSON, at most 4096 bytes); see trainer-image/."""

    outcome: str  # Succeeded, Failed or Interrupted; a newer image may say something else
    reason: str = ""
    message: str = ""
    metrics: dict[str, float] | None = None  # finite numbers only
    outputs: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()  # what prepare found worth telling, each a short sentence
    trackers: tuple[Told, ...] = ()  # of the train stage
    model: dict[str, Any] | None = None  # the base model's measures, by prepare; finite numbers, bools and None only


@dataclass(frozen=True, slots=True)
class Trouble:
    """What Kubernetes says in Events, and nowhere else, about an object that it cannot bring up."""

    reason: str  # FailedMount, ProvisioningFailed, …
    message: str
    since: datetime  # when it was first said


@dataclass(frozen=True, slots=True)
class PodView:
    """What a pod tells about why a child Job stands where it stands."""

    name: str
    index: int = 0  # completion index, the node rank
    phase: str = "Pending"
    node: str = ""
    exit_code: int | None = None
    exit_reason: str = ""  # OOMKilled, Error, …
    exit_message: str = ""  # the last line that the container left, when that is no report
    started_at: datetime | None = None  # since when its container runs, or ran
    finished_at: datetime | None = None
    report: Report | None = None
    rejected: str = ""  # why a node refused the pod or ended it, in the kubelet's words
    created_at: datetime | None = None
    scheduled_at: datetime | None = None  # since when it has its node
    unschedulable: str = ""  # the scheduler's message
    gates: tuple[str, ...] = ()  # names of scheduling gates: it gets no node before others have taken these off
    waiting_reason: str = ""  # ImagePullBackOff, CreateContainerConfigError, …
    waiting_message: str = ""
    sidecars: tuple[str, ...] = ()  # other containers that run; not those that Kubernetes itself ends with the trainer
    finalizers: tuple[str, ...] = ()
    disrupted: str = ""  # reason of the DisruptionTarget condition
    disrupted_at: datetime | None = None
    unreachable: bool = False  # its node stopped reporting
    deleted_at: datetime | None = None  # by when it has to be gone: its grace period is over then
    without_grace: bool = False  # it was deleted by force
    trouble: Trouble | None = None  # why its containers are not created


@dataclass(frozen=True, slots=True)
class Scrape:
    """Live figures from a pod: of a training, or the bytes of a merge. Unknown or non-finite numbers are None."""

    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    initial_loss: float | None = None
    eval_loss: float | None = None
    best_eval_loss: float | None = None
    best_step: int | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    estimated_remaining_seconds: int | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    attempt: Mapping[str, float] = field(default_factory=dict)  # what a training tells of its attempt, for the usage
    trackers: tuple[Told, ...] = ()
    non_finite_loss: bool = False
    unreachable: bool = False  # the pod has not answered for minutes; nothing else is known


@dataclass(frozen=True, slots=True)
class LastStep:
    """How far a training was when its figures were last read."""

    step: int
    apart: int | None = None  # the most steps that lay between two readings; None = it was read once


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why the API server would not let the operator do its last action; the run waits and tries again."""

    reason: Reason  # NameConflict, WaitingForPreviousRun, QuotaExceeded, Forbidden, InvalidObject, WebhookUnavailable
    message: str


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A PersistentVolumeClaim that pods of the run mount."""

    name: str
    phase: str = "Pending"
    access_modes: frozenset[str] = frozenset()
    size: str = ""  # a quantity: the larger of what it has and what it asks for
    storage_class: str = ""
    block: bool = False  # volumeMode Block: a device, nothing that could be mounted
    deleting: bool = False
    trouble: Trouble | None = None  # why it has no volume yet


@dataclass(frozen=True, slots=True)
class SourceRunView:
    """The run with whose merged model, or adapter, another is to begin."""

    uid: str
    status: Status
    directory: str  # of its files, below the root of the volume
    claim: str  # that holds them
    names_claim: bool = False  # its spec does; else the operator has made it
    retains: bool = True  # a claim that was made for it outlives it
    merges: bool = True
    deleting: bool = False
    spec: Spec | None = None  # None where this version cannot read it
    waits_for: tuple[str, ...] = ()  # the runs for which it waits itself, each for the next, as far as watches tell


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, by its labels only."""

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Leftover:
    """A Job or pod under the run's name that may be alive, and that no child Job answers for."""

    kind: str  # Job or pod
    name: str
    own: bool  # of this run; else of an earlier one of its name
    stopping: bool = False  # it goes by itself: it is being deleted, or its owner is gone
    labelled: bool = True  # carries the run's name
    hidden: bool = False  # of a Job that has its owner still, but lacks the labels by which children are found
    job: str = ""  # of a pod: the Job for which it was made, as its label says
    view: PodView | None = None  # of a few pods


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """What Kueue says of a Job that it holds."""

    workload: str  # name of the Workload that stands for the Job
    message: str = ""  # why it is not admitted
    position: int | None = None  # among those that wait in its LocalQueue, from 1; None = not known
    evicted: str = ""  # why it was taken away after it had been admitted, where that is not said already
    inadmissible: bool = False  # more quota would not help: its queue is missing, stopped or not ready
    inactive: bool = False  # taken out of the queue, by a person or a limit, until somebody puts it back
    admitted: bool = False  # it has quota, and is about to be released
    given_up: bool = False  # it had quota, and could not be released: it waits for nothing any more


@dataclass(frozen=True, slots=True)
class Limits:
    """What the installation allows runs to use: names, or their beginnings with a * behind them. () = all."""

    images: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    host_network: bool = True


@dataclass(frozen=True, slots=True)
class Look:
    """What has to be read live before more can be decided: no watch tells of it, or what follows is for good."""

    config_maps: tuple[str, ...] = ()  # names of those that the spec names, for their keys
    leftovers: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that a decision may depend on."""

    job: QwenSFTJob
    children: tuple[ChildJob, ...] = ()
    pods: tuple[PodView, ...] = ()  # of the child that `Needs.pods` names
    creation_failures: tuple[str, ...] = ()  # why the Job controller could not create pods (quota, Pod Security)
    service_exists: bool = False
    service_by_uid: bool = True  # whether it selects by the run's UID; earlier versions wrote one that does not
    config_maps: frozenset[str] = frozenset()  # names of the run's ConfigMaps that are known to exist
    config_map_from: str = ""  # digest of the editable fields that the attempt's was made from; "" = not known
    configuration: str | None = None  # digest of what the run has begun with, as the attempt's ConfigMap tells it
    claim_exists: bool = False  # the storage claim, and it is the run's own
    claims: tuple[ClaimView, ...] | None = None  # those of `Needs.claims` that exist; None = nothing was read
    # Keys of the ConfigMaps of `Look.config_maps` that exist, by name; None = nothing was read.
    named_config_maps: Mapping[str, frozenset[str]] | None = None
    nodes: tuple[NodeView, ...] = ()  # those that label the memory of the accelerator that the run asks for
    scrape: Scrape | None = None
    last_step: LastStep | None = None  # of the current attempt, also when this pass has scraped nothing
    progress_interval: timedelta = timedelta(seconds=60)  # the status shows new figures no sooner
    limits: Limits = Limits()
    worker_defaults: Worker = NO_DEFAULTS  # what the run has begun with, else the installation's; for the estimate
    network_policies: bool = False  # whether the installation wants them
    obstacle: Obstacle | None = None
    queue_place: QueuePlace | None = None  # of the child that `Needs.queue` names
    leftovers: tuple[Leftover, ...] | None = None  # None = not read live, without which nothing starts
    known_leftovers: tuple[Leftover, ...] = ()  # those of which watches tell, where `Needs.leftovers`
    source_run: SourceRunView | None = None  # the one that `Needs.source_run` names; None = it does not exist


@dataclass(frozen=True, slots=True)
class EnsureClaim:
    """Create the storage claim from its template unless it exists."""


@dataclass(frozen=True, slots=True)
class EnsureService:
    """Create the headless Service that gives training pods their names, or let an older one select by the run's UID.

    `by_uid=False` creates one as earlier versions did, for pods that do not carry the UID.
    """

    by_uid: bool = True


@dataclass(frozen=True, slots=True)
class EnsureNetworkPolicies:
    """Create the run's NetworkPolicies, or let older ones say what the installation says now."""


@dataclass(frozen=True, slots=True)
class EnsureConfigMap:
    """Create the attempt's ConfigMap; after prepare it goes on from the one by which the run has begun."""

    stage: Stage
    attempt: int


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the child Job of an attempt."""

    stage: Stage
    attempt: int


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a child Job in the foreground: its pods get SIGTERM and their grace period."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class ForgetAttempt:
    """Delete what an attempt that ended long ago has left: its Job and ConfigMap, but for the first, which all copy."""

    stage: Stage
    attempt: int
    uid: str  # of its Job, "" if that is gone


Action = EnsureClaim | EnsureService | EnsureNetworkPolicies | EnsureConfigMap | CreateJob | DeleteJob | ForgetAttempt


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event on the QwenSFTJob."""

    type: str  # Normal or Warning
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. The status is written once, after the actions; events follow a successful write."""

    actions: tuple[Action, ...] = ()
    status: dict[str, Any] | None = None  # all that this version knows of the new one; None = leave it as it is
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None  # seconds
    poll: bool = False  # a stage with figures runs: come back after the scrape interval
    look: Look | None = None  # nothing is decided yet: read this, and decide again
