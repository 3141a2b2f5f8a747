"""The credentials of trackers, out of mounted Secrets: judged by prepare, used by the process that reports alone."""

from __future__ import annotations

from qwensft_trainer.contract import credentials
from qwensft_trainer.contract.config import Trackers
from qwensft_trainer.contract.errors import invalid_config

_MLFLOW = "spec.training.reportTo.mlflow.credentialsSecretRef"
_WANDB = "spec.training.reportTo.wandb.apiKeySecretRef"
_TOKEN, _USER, _PASSWORD = "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_API_KEY = "WANDB_API_KEY"


def variables(trackers: Trackers) -> dict[str, str]:
    """The libraries' environment variables. Raises PermanentError InvalidConfig for a Secret that is of no use."""
    found: dict[str, str] = {}
    if trackers.mlflow is not None and (directory := trackers.mlflow.credentials) is not None:
        given = {name: credentials.from_secret(directory, name, field=_MLFLOW) for name in (_TOKEN, _USER, _PASSWORD)}
        found |= {name: value for name, value in given.items() if value}
        if not (_TOKEN in found or {_USER, _PASSWORD} <= found.keys()):
            raise invalid_config(
                f"{_MLFLOW}: the Secret has neither {_TOKEN} nor {_USER} and {_PASSWORD}: add the keys, and create the "
                "job again."
            )
    if trackers.wandb is not None and (directory := trackers.wandb.credentials) is not None:
        key = credentials.from_secret(directory, _API_KEY, field=_WANDB)
        if key is None:
            raise invalid_config(f"{_WANDB}: the key is empty: put the API key there, and create the job again.")
        found[_API_KEY] = key
    return found
