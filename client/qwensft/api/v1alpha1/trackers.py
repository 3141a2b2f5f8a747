"""`spec.training.reportTo`: the trackers of experiments that the training reports its figures to.

ADR 0163 says why they have fields of their own, and what of LLaMA-Factory's report_to they replace.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field

from .base import ApiModel, Rule
from .common import Endpoint, LocalObjectReference, SecretKeyRef

_Project = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f/\\#?%:]+$")]
"""What W&B takes for a project: no control characters, none of / \\ # ? % :"""
_Text = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
_TAG_KEY = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$"
_TagValue = Annotated[str, Field(min_length=1, max_length=31, pattern=r"^[^\x00-\x1f\x7f]+$")]

ENVIRONMENT_OF: Final[dict[str, tuple[str, ...]]] = {
    "mlflow": (
        *("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"),
        *("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    ),
    "wandb": (
        *("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_MODE", "WANDB_DIR"),
        *("WANDB_NAME", "WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_RESUME", "WANDB_TAGS"),
    ),
}
"""Variables of each tracker's library that its fields are for, and which worker.env therefore must not set."""


class TensorBoard(ApiModel):
    """Event files for TensorBoard, in `tensorboard` in the run's directory on its volume. Nothing to set."""


class MLflow(ApiModel):
    """A tracking server of MLflow."""

    endpoint: Endpoint = Field(
        description="Address of the server, such as http://mlflow.mlflow.svc:5000. No other kind of tracking URI.",
    )
    experiment: _Text | None = Field(
        None, description="Name of the experiment; one that is not there is made. Default: the job's namespace."
    )
    credentials_secret_ref: LocalObjectReference | None = Field(
        None,
        description="Secret whose keys are credentials: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD. Default: anonymous access.",
    )


class WeightsAndBiases(ApiModel):
    """Weights & Biases, the public service or a server of your own."""

    rules = (
        Rule(
            cel="self.?mode.orDefault() == 'offline' || has(self.apiKeySecretRef)",
            message="W&B takes nothing without a key: set apiKeySecretRef: {name: wandb, key: WANDB_API_KEY}, or mode: "
            "offline, which leaves files on the volume for wandb sync",
            check=lambda wandb: wandb.mode == "offline" or wandb.api_key_secret_ref is not None,
            field=".apiKeySecretRef",
        ),
    )

    project: _Project | None = Field(None, description="Name of the project. Default: the job's namespace.")
    entity: _Project | None = Field(None, description="Team or user that owns the project. Default: the key's own.")
    endpoint: Endpoint | None = Field(
        None, description="Address of a server of your own. Default: https://api.wandb.ai."
    )
    mode: Literal["online", "offline"] = Field(
        "online",
        description="offline connects to nothing and leaves files in wandb in the run's directory, for wandb sync.",
    )
    api_key_secret_ref: SecretKeyRef | None = Field(None, description="Secret with the API key. Needed while online.")


class ReportTo(ApiModel):
    """The trackers, at least one, and what the run is called there. One run of theirs goes on over all attempts."""

    rules = (
        Rule(
            cel="has(self.tensorboard) || has(self.mlflow) || has(self.wandb)",
            message="name a tracker: tensorboard: {}, mlflow: {endpoint: http://mlflow.mlflow.svc:5000} or wandb: "
            "{apiKeySecretRef: {name: wandb, key: WANDB_API_KEY}}; or remove reportTo",
            check=lambda report: any(
                tracker is not None for tracker in (report.tensorboard, report.mlflow, report.wandb)
            ),
        ),
        Rule(
            cel=f"!has(self.tags) || self.tags.all(key, key.matches(r'{_TAG_KEY}'))",
            message="the key of a tag is at most 32 letters, digits, '.', '_' and '-': for example team",
            check=lambda report: all(re.fullmatch(_TAG_KEY, key) for key in report.tags or ()),
            field=".tags",
        ),
    )

    run_name: _Text | None = Field(
        None,
        description="What the run is called. Default: the job's name.",
    )
    group: _Text | None = Field(
        None,
        description="What runs that belong together have in common: W&B's group, and a tag of MLflow's. Default: none.",
    )
    tags: Annotated[dict[str, _TagValue], Field(max_length=16)] | None = Field(
        None,
        description="Further tags. MLflow has them as they are, W&B as key=value. Namespace, name, UID and attempt of "
        "the job are told in any case.",
    )
    tensorboard: TensorBoard | None = Field(
        None, description="Event files on the run's volume, in tensorboard in its directory: tensorboard: {}."
    )
    mlflow: MLflow | None = Field(None, description="A tracking server of MLflow.")
    wandb: WeightsAndBiases | None = Field(None, description="Weights & Biases.")
