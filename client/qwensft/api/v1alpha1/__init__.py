"""Version v1alpha1 of the API: `parse_job` reads a document, `QwenSFTJob` and the models below it are the document.

What other packages need is re-exported here; the modules follow the blocks of the spec.
"""

from .base import ApiModel, Rule, StatusModel
from .common import ConfigMapKeyRef, LocalObjectReference, SecretKeyRef, VolumeFile, VolumePath
from .conditions import ConditionType, Reason
from .constants import (
    ANNOTATION_INSTALLATION,
    ANNOTATION_MADE_FROM,
    ANNOTATION_ROWS,
    API_VERSION,
    DEFAULT_EPOCHS,
    DEFAULT_MERGE_DIRECTORY,
    DEFAULT_WARMUP_STEPS,
    EXIT_PERMANENT,
    GROUP,
    KIND,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_JOB_UID,
    LABEL_MANAGED_BY,
    LABEL_QUEUE,
    LABEL_QUEUE_PRIORITY,
    LABEL_STAGE,
    MANAGED_BY,
    METRICS_PORT,
    PLURAL,
    SHORT_NAME,
    SINGULAR,
    VERSION,
)
from .continuing import differences
from .datasets import Columns, ConfigMapKey, Dataset, DatasetSource, HubDataset, Tags, UrlSource
from .distribution import DeepSpeed, Distribution
from .editable import comparable_digest, editable_digest
from .evaluation import Evaluation
from .families import infer_template
from .job import InvalidJobError, ObjectMeta, QwenSFTJob, Spec, parse_job, read_status
from .merge import Merge
from .model import AdapterRun, HubSource, ImageSource, Model, ModelAdapter, ModelSource, RunSource
from .policy import RunPolicy
from .quantities import parse_quantity
from .resources import ResourceRequirements
from .stage import Stage
from .status import (
    AttemptUsage,
    Condition,
    DatasetStatus,
    Estimate,
    Exhaustion,
    Output,
    Outputs,
    Phase,
    Progress,
    SourceRun,
    Stages,
    StageStatus,
    Startup,
    Status,
    TrackerStatus,
    Usage,
)
from .storage import ClaimTemplate, Storage, StorageVolume
from .trackers import ReportTo
from .training import Training
from .tuning import Freeze, Lora, Quantization, Tuning, Vision
from .worker import INTERFACE_ENVIRONMENT, Accelerator, CaBundle, PodSecurity, Prepare, Worker
from .worker_defaults import NO_DEFAULTS, parse_worker_defaults, with_defaults

__all__ = [
    "ANNOTATION_INSTALLATION",
    "ANNOTATION_MADE_FROM",
    "ANNOTATION_ROWS",
    "API_VERSION",
    "DEFAULT_EPOCHS",
    "DEFAULT_MERGE_DIRECTORY",
    "DEFAULT_WARMUP_STEPS",
    "EXIT_PERMANENT",
    "GROUP",
    "INTERFACE_ENVIRONMENT",
    "KIND",
    "LABEL_ATTEMPT",
    "LABEL_JOB",
    "LABEL_JOB_UID",
    "LABEL_MANAGED_BY",
    "LABEL_QUEUE",
    "LABEL_QUEUE_PRIORITY",
    "LABEL_STAGE",
    "MANAGED_BY",
    "METRICS_PORT",
    "NO_DEFAULTS",
    "PLURAL",
    "SHORT_NAME",
    "SINGULAR",
    "VERSION",
    "Accelerator",
    "AdapterRun",
    "ApiModel",
    "AttemptUsage",
    "CaBundle",
    "ClaimTemplate",
    "Columns",
    "Condition",
    "ConditionType",
    "ConfigMapKey",
    "ConfigMapKeyRef",
    "Dataset",
    "DatasetSource",
    "DatasetStatus",
    "DeepSpeed",
    "Distribution",
    "Estimate",
    "Evaluation",
    "Exhaustion",
    "Freeze",
    "HubDataset",
    "HubSource",
    "ImageSource",
    "InvalidJobError",
    "LocalObjectReference",
    "Lora",
    "Merge",
    "Model",
    "ModelAdapter",
    "ModelSource",
    "ObjectMeta",
    "Output",
    "Outputs",
    "Phase",
    "PodSecurity",
    "Prepare",
    "Progress",
    "Quantization",
    "QwenSFTJob",
    "Reason",
    "ReportTo",
    "ResourceRequirements",
    "Rule",
    "RunPolicy",
    "RunSource",
    "SecretKeyRef",
    "SourceRun",
    "Spec",
    "Stage",
    "StageStatus",
    "Stages",
    "Startup",
    "Status",
    "StatusModel",
    "Storage",
    "StorageVolume",
    "Tags",
    "TrackerStatus",
    "Training",
    "Tuning",
    "UrlSource",
    "Usage",
    "Vision",
    "VolumeFile",
    "VolumePath",
    "Worker",
    "comparable_digest",
    "differences",
    "editable_digest",
    "infer_template",
    "parse_job",
    "parse_quantity",
    "parse_worker_defaults",
    "read_status",
    "with_defaults",
]
