"""Types and reasons of the conditions in a job's status.

Reasons are an open set for readers and a closed one for the operator: every reason it writes is a member of `Reason`.
"""

from enum import StrEnum


class ConditionType(StrEnum):
    """Types of conditions.

    Until a job has succeeded, exactly one of Reconciling and Stalled is True (the convention of kstatus).
    """

    SUCCEEDED = "Succeeded"
    """True: all stages are done. False: the job has failed for good. Unknown: it is under way."""
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SUSPENDED = "Suspended"
    PREPARED = "Prepared"
    TRAINED = "Trained"
    MERGED = "Merged"


class Reason(StrEnum):
    """Reasons of conditions and events."""

    # under way
    STARTING = "Starting"
    WAITING_FOR_PREVIOUS_ATTEMPT = "WaitingForPreviousAttempt"
    WAITING_FOR_PREVIOUS_RUN = "WaitingForPreviousRun"
    WAITING_FOR_SOURCE_RUN = "WaitingForSourceRun"
    PODS_STARTING = "PodsStarting"
    RUNNING = "Running"
    FIGURES_UNREACHABLE = "FiguresUnreachable"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    QUEUED = "Queued"
    SPEC_CHANGED = "SpecChanged"
    MERGE_CHANGED = "MergeChanged"
    RETRY_REQUESTED = "RetryRequested"

    # done; the first three are those of events
    PREPARED = "Prepared"
    TRAINED = "Trained"
    MERGED = "Merged"
    COMPLETED = "Completed"

    # events alone: the run goes on
    PREPARATION_WARNING = "PreparationWarning"
    ESTIMATED_OUT_OF_MEMORY = "EstimatedOutOfMemory"
    OPERATORS_OVERLAP = "OperatorsOverlap"
    CLAIM_DIFFERS = "ClaimDiffers"

    # an aspect that says nothing (yet)
    NOT_SUSPENDED = "NotSuspended"
    DISABLED = "Disabled"
    WAITING = "Waiting"

    # pods do not start
    SOURCE_RUN_UNAVAILABLE = "SourceRunUnavailable"
    QUEUE_UNAVAILABLE = "QueueUnavailable"
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    CONFIG_MAP_UNAVAILABLE = "ConfigMapUnavailable"
    POD_CREATION_FAILED = "PodCreationFailed"
    POD_NOT_STARTING = "PodNotStarting"
    VOLUME_MOUNT_FAILED = "VolumeMountFailed"
    UNSCHEDULABLE = "Unschedulable"
    HALF_SCHEDULED = "HalfScheduled"
    IMAGE_PULL_FAILED = "ImagePullFailed"

    # pods do not end
    POD_NOT_STOPPING = "PodNotStopping"
    SIDECAR_RUNNING = "SidecarRunning"
    JOB_STUCK = "JobStuck"

    # the API server refuses what the operator has to do
    INVALID_SPEC = "InvalidSpec"
    NOT_ALLOWED = "NotAllowed"
    NAME_CONFLICT = "NameConflict"
    QUOTA_EXCEEDED = "QuotaExceeded"
    FORBIDDEN = "Forbidden"
    INVALID_OBJECT = "InvalidObject"
    WEBHOOK_UNAVAILABLE = "WebhookUnavailable"

    # what the operator has to do does not succeed for a while; it tries again
    API_SERVER_ERROR = "ApiServerError"
    WAITING_FOR_DELETION = "WaitingForDeletion"

    # the job itself was deleted, and does not go
    DELETION_HELD = "DeletionHeld"

    # the operator itself failed, by a fault of its own or of its installation; it tries again
    OPERATOR_ERROR = "OperatorError"

    # the trainer says that another attempt would fail in the same way (exit code 78)
    INVALID_CONFIG = "InvalidConfig"
    INVALID_DATASET = "InvalidDataset"
    INVALID_MODEL = "InvalidModel"
    OUTPUT_EXISTS = "OutputExists"
    VOLUME_ACCESS_DENIED = "VolumeAccessDenied"
    PREPARATION_MISSING = "PreparationMissing"
    TRAINING_MISSING = "TrainingMissing"
    CHECKPOINTS_UNLOADABLE = "CheckpointsUnloadable"
    MERGE_VERIFICATION_FAILED = "MergeVerificationFailed"

    # the trainer says that another attempt may succeed
    OUT_OF_MEMORY = "OutOfMemory"
    RENDEZVOUS_TIMEOUT = "RendezvousTimeout"
    START_MISMATCH = "StartMismatch"
    PEER_LOST = "PeerLost"
    """A consequence of another pod's end: never the reason of a condition."""
    DOWNLOAD_FAILED = "DownloadFailed"
    DISK_FULL = "DiskFull"
    ACCELERATOR_MISSING = "AcceleratorMissing"
    ACCELERATOR_FAILED = "AcceleratorFailed"
    NON_FINITE_LOSS = "NonFiniteLoss"
    TRAINING_INCOMPLETE = "TrainingIncomplete"
    TRAINING_STALLED = "TrainingStalled"
    INTERRUPTED = "Interrupted"
    KILLED_BEFORE_SAVED = "KilledBeforeSaved"

    # an attempt ended otherwise
    PREPARATION_FAILED = "PreparationFailed"
    TRAINING_FAILED = "TrainingFailed"
    MERGE_FAILED = "MergeFailed"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    POD_REJECTED = "PodRejected"
    LOCAL_STORAGE_EXCEEDED = "LocalStorageExceeded"
    JOB_DELETED = "JobDeleted"
    DEADLINE_EXCEEDED = "DeadlineExceeded"

    # events alone: the run goes on
    ACCELERATOR_TIME_WASTED = "AcceleratorTimeWasted"
