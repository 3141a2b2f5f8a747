"""Names and numbers that the API, the operator and the trainer image agree on.

Only values that cross a boundary (cluster, image, chart) live here; limits of single fields stand beside the fields.
"""

from typing import Final

GROUP: Final = "qwensft.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "QwenSFTJob"
PLURAL: Final = "qwensftjobs"
SINGULAR: Final = "qwensftjob"
SHORT_NAME: Final = "qsft"

LABEL_JOB: Final = f"{GROUP}/job"
LABEL_JOB_UID: Final = f"{GROUP}/job-uid"
LABEL_STAGE: Final = f"{GROUP}/stage"
LABEL_ATTEMPT: Final = f"{GROUP}/attempt"
ANNOTATION_MADE_FROM: Final = f"{GROUP}/made-from"
"""On a child Job: the digest of the editable fields that it was made from."""
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "qwen-sft-operator"
ANNOTATION_INSTALLATION: Final = f"{GROUP}/installation"
"""On child Jobs: namespace and name of the Lease of the installation that made it."""

ANNOTATION_ROWS: Final = f"{GROUP}/waits-for-rows"
"""On a run that a client holds until its rows are in the cluster: their digest."""

LABEL_QUEUE: Final = "kueue.x-k8s.io/queue-name"
LABEL_QUEUE_PRIORITY: Final = "kueue.x-k8s.io/priority-class"
"""Kueue's own names: the LocalQueue that a Job waits in, and the WorkloadPriorityClass that it has there."""

EXIT_PERMANENT: Final = 78
"""Exit code (EX_CONFIG) by which the trainer says that another attempt would fail in the same way."""

METRICS_PORT: Final = 9400
"""Port on which node rank 0 serves Prometheus text while it trains."""

DEFAULT_EPOCHS: Final = 3.0
DEFAULT_WARMUP_STEPS: Final = 100
DEFAULT_MERGE_DIRECTORY: Final = "merged"
