"""Version v1alpha1 of the API: `parse_job` reads a document, `QwenSFTJob` and the models below it are the document.

What other packages need is re-exported here; the modules follow the blocks of the spec.
"""

from .base import ApiModel, Rule, StatusModel
from .common import ResourceRequirements, VolumeFile, VolumePath, parse_quantity
from .conditions import ConditionType, Reason
from .constants import (
    API_VERSION,
    DEFAULT_EPOCHS,
    DEFAULT_MERGE_DIRECTORY,
    DEFAULT_WARMUP_STEPS,
    EXIT_PERMANENT,
    GROUP,
    KIND,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_MANAGED_BY,
    LABEL_STAGE,
    MANAGED_BY,
    METRICS_PORT,
    PLURAL,
    SHORT_NAME,
    SINGULAR,
    VERSION,
)
from .datasets import Columns, ConfigMapKey, Dataset, DatasetSource, Tags
from .distribution import Distribution
from .families import infer_template
from .job import InvalidJobError, ObjectMeta, QwenSFTJob, Spec, parse_job
from .merge import Merge
from .model import HubSource, Model, ModelSource
from .policy import RunPolicy
from .status import Condition, DatasetStatus, Output, Outputs, Phase, Progress, Stages, StageStatus, Status
from .storage import ClaimTemplate, Storage, StorageVolume
from .training import Training
from .tuning import Lora, Tuning
from .worker import Accelerator, PodSecurity, Prepare, Worker

__all__ = [
    "API_VERSION",
    "DEFAULT_EPOCHS",
    "DEFAULT_MERGE_DIRECTORY",
    "DEFAULT_WARMUP_STEPS",
    "EXIT_PERMANENT",
    "GROUP",
    "KIND",
    "LABEL_ATTEMPT",
    "LABEL_JOB",
    "LABEL_MANAGED_BY",
    "LABEL_STAGE",
    "MANAGED_BY",
    "METRICS_PORT",
    "PLURAL",
    "SHORT_NAME",
    "SINGULAR",
    "VERSION",
    "Accelerator",
    "ApiModel",
    "ClaimTemplate",
    "Columns",
    "Condition",
    "ConditionType",
    "ConfigMapKey",
    "Dataset",
    "DatasetSource",
    "DatasetStatus",
    "Distribution",
    "HubSource",
    "InvalidJobError",
    "Lora",
    "Merge",
    "Model",
    "ModelSource",
    "ObjectMeta",
    "Output",
    "Outputs",
    "Phase",
    "PodSecurity",
    "Prepare",
    "Progress",
    "QwenSFTJob",
    "Reason",
    "ResourceRequirements",
    "Rule",
    "RunPolicy",
    "Spec",
    "StageStatus",
    "Stages",
    "Status",
    "StatusModel",
    "Storage",
    "StorageVolume",
    "Tags",
    "Training",
    "Tuning",
    "VolumeFile",
    "VolumePath",
    "Worker",
    "infer_template",
    "parse_job",
    "parse_quantity",
]
