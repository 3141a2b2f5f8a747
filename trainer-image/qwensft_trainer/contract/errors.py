"""The failures a stage can end with: a CamelCase reason, a message that tells the fix, and an exit code.

Exit code 78 (EX_CONFIG) means that trying again cannot help; everything else may be retried. Which text of a crashed
training process means which reason is decided in training/failures.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

EXIT_RETRYABLE = 1
EXIT_PERMANENT = 78
EXIT_INTERRUPTED = 143  # 128 + SIGTERM, as a shell would report it


class StageError(Exception):
    """A stage failed for a known reason. `reason` is CamelCase and stable, `message` names what to change."""

    exit_code = EXIT_RETRYABLE
    metrics: Mapping[str, Any] = MappingProxyType({})  # how far the stage was, where that is known

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type[StageError], tuple[str, str]]:
        return type(self), (self.reason, self.message)  # it comes from the processes that encode rows


class PermanentError(StageError):
    """Trying again with the same inputs cannot succeed (exit code 78)."""

    exit_code = EXIT_PERMANENT


class Interrupted(BaseException):
    """The stage was asked to stop (SIGTERM) and everything worth keeping is on the volume (exit code 143).

    No Exception: it comes out of a signal handler, in the middle of whatever library runs. Many of them catch Exception
    and raise one of their own, which would be told as the failure.
    """

    reason = "Interrupted"
    exit_code = EXIT_INTERRUPTED
    metrics: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def invalid_config(message: str) -> PermanentError:
    """The spec, or what was rendered from it, cannot work."""
    return PermanentError("InvalidConfig", message)


def invalid_model(message: str) -> PermanentError:
    """The base model is missing, incomplete or not to be had."""
    return PermanentError("InvalidModel", message)


def invalid_dataset(message: str) -> PermanentError:
    """A dataset has rows that cannot be trained on."""
    return PermanentError("InvalidDataset", message)
