"""What may go wrong, each as an exception whose text says what to do.

ClientError
├── MissingPackageError       an extra of the distribution is not installed
├── ConfigurationError        no kubeconfig, or no such context
├── UnreachableError          the API server does not answer
├── NotLoggedInError          it does not know who asks
├── NotPermittedError         it knows, and says no
├── NotInstalledError         it has no QwenSFTJobs: the operator is not installed
├── NotFoundError             there is no object of that name
├── NameExistsError           there is one already
├── ConflictError             the object was changed by someone else meanwhile
├── RefusedError              a rule of the API, a policy or a webhook refuses the object
├── ServerError               the API server failed otherwise
│   └── ExpiredError          it has forgotten the state that was asked for: ask anew
├── RunFailedError            the run has failed; what was asked for presumes that it has not
├── WaitTimeoutError          what was waited for has not happened in time
├── RowsError                 these rows cannot be sent
├── ImageUnknownError         nothing tells which image a pod for files may have
└── TransferError             files cannot be moved from or to the cluster
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from qwensft.api.v1alpha1 import KIND

# ValidatingAdmissionPolicy 'p' with binding 'b' denied request: words
# admission webhook "w" denied the request: words
_DENIED: Final = re.compile(
    r"(?:ValidatingAdmissionPolicy|admission webhook) .*? denied (?:the )?request: (?P<words>.*)", re.S
)
# A rule's message follows "Invalid value", and in older servers the kind of value: 'Invalid value: "object": words'.
_OF_A_RULE: Final = re.compile(r'^Invalid value: (?:"(?:object|array|string|integer|number|boolean|null)": )?')
# conflict with "kubectl-edit" using qwensft.io/v1alpha1
_MANAGER: Final = re.compile(r'conflict with "(?P<name>[^"]+)"')
_NOBODY: Final = "system:anonymous"  # whose request has no credentials, where the API server lets such in
_UNCHECKED: Final = "some validation rules were not checked"


class ClientError(Exception):
    """Anything that the client raises by itself."""


class MissingPackageError(ClientError, ImportError):
    """A package that the distribution does not require by itself is not installed."""


class ConfigurationError(ClientError):
    """There is no usable kubeconfig, or it has no such context."""


class UnreachableError(ClientError):
    """The API server does not answer."""


class NotLoggedInError(ClientError):
    """The API server does not know who asks."""


class NotPermittedError(ClientError):
    """The API server's authorizer says no."""


class NotInstalledError(ClientError):
    """The cluster has no QwenSFTJobs."""


class NotFoundError(ClientError):
    """There is no object of that name."""


class NameExistsError(ClientError):
    """There is an object of that name already."""


class ConflictError(ClientError):
    """The object was changed meanwhile, or belongs to someone else's apply."""


class RefusedError(ClientError):
    """A rule of the API, a policy or a webhook refuses the object. `problems` are the rules' sentences."""

    def __init__(self, what: str, problems: list[str]) -> None:
        super().__init__(f"{what} is refused: {'; '.join(problems)}")
        self.problems = tuple(problems)


class ServerError(ClientError):
    """The API server failed in another way."""


class ExpiredError(ServerError):
    """The API server has forgotten the state that was asked for."""


class RunFailedError(ClientError):
    """The run has failed for good. `reason` is one word, `message` the operator's sentence."""

    def __init__(self, name: str, reason: str, message: str) -> None:
        super().__init__(f"{name} has failed: {reason}: {message}")
        self.reason, self.message = reason, message


class WaitTimeoutError(ClientError, TimeoutError):
    """What was waited for has not happened in time. The run goes on."""


class RowsError(ClientError, ValueError):
    """These rows cannot be sent; the text says what to change."""


class ImageUnknownError(ClientError):
    """Nothing tells which image a pod for files may have."""


class TransferError(ClientError):
    """Files cannot be moved from or to the cluster."""


def from_answer(status: int, body: str, doing: str) -> ClientError:
    """Return the exception for an answer of the API server that is no success.

    Args:
        status: HTTP status, from 300.
        body: The answer: a Status object of Kubernetes, or other text.
        doing: What was asked for, as "create QwenSFTJob demo in namespace team".
    """
    document = _status(body)
    message = str(document.get("message") or body.strip() or f"HTTP {status}")
    denied = _DENIED.search(message)
    if denied:
        return RefusedError(_subject(doing), [denied["words"].strip()])
    judge = _BY_STATUS.get(status)
    if judge is not None:
        return judge(document, message, doing)
    hint = "try again later" if status == 429 or status >= 500 else "look at the server's log, this should not happen"
    return ServerError(f"cannot {doing}: {message} (HTTP {status}); {hint}")


def _status(body: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) and document.get("kind") == "Status" else {}


def _subject(doing: str) -> str:
    return doing.partition(" ")[2]


def _unknown(document: dict[str, Any], message: str, doing: str) -> ClientError:
    return NotLoggedInError(
        f"cannot {doing}: the API server does not know who asks; log in again (the credentials of the kubeconfig may "
        "have expired)"
    )


def _taken(document: dict[str, Any], message: str, doing: str) -> ClientError:
    if document.get("reason") == "AlreadyExists":
        return NameExistsError(f"cannot {doing}: the name is taken; choose another name, or delete what has it")
    if held := _held(document):
        return ConflictError(
            f"cannot {doing}: {held}; leave these fields out, write the values that they have, or take them over: "
            "qwensft submit --force, apply_job(force=True)"
        )
    return ConflictError(f"cannot {doing}: {message}; read it again, then try again")


def _held(document: dict[str, Any]) -> str:
    """Who has set which fields that an apply would change: 'kubectl-edit has set spec.runPolicy.suspend'."""
    causes = (document.get("details") or {}).get("causes") or []
    fields: dict[str, list[str]] = {}
    for cause in causes:
        who = _MANAGER.match(cause.get("message", ""))
        if cause.get("reason") == "FieldManagerConflict" and who:
            fields.setdefault(who["name"], []).append(cause.get("field", "").lstrip("."))
    return "; ".join(f"{name} has set {', '.join(held)}" for name, held in fields.items())


def _expired(document: dict[str, Any], message: str, doing: str) -> ClientError:
    return ExpiredError(f"cannot {doing}: {message} (HTTP 410); try again")


def _invalid(document: dict[str, Any], message: str, doing: str) -> ClientError:
    return RefusedError(_subject(doing), _problems(document, message))


def _forbidden(document: dict[str, Any], message: str, doing: str) -> ClientError:
    if "is being terminated" in message:
        return NotFoundError(
            f"cannot {doing}: the namespace is being deleted; wait and create it anew, or name another"
        )
    if "exceeded quota" in message or "violates PodSecurity" in message:
        return RefusedError(_subject(doing), [message])
    who = re.search(r'User "(?P<name>[^"]+)"', message)
    if who and who["name"] == _NOBODY:
        return _unknown(document, message, doing)
    kind = (document.get("details") or {}).get("kind", "")
    role = "edit" if kind.startswith("qwensftjobs") else "edit, or one with the rights that docs/client.md lists,"
    return NotPermittedError(
        f"cannot {doing}: {who['name'] if who else 'you'} may not; ask for the ClusterRole {role} in this namespace "
        f"(the server says: {message})"
    )


def _missing(document: dict[str, Any], message: str, doing: str) -> ClientError:
    details = document.get("details") or {}
    if "namespaces" in (details.get("kind"), document.get("kind")) or re.match(r"namespaces \"", message):
        return NotFoundError(f"cannot {doing}: the namespace does not exist; create it, or name another")
    if details.get("name"):
        return NotFoundError(
            f"cannot {doing}: it does not exist; look at the names that there are, and at the namespace"
        )
    if KIND in doing:
        return NotInstalledError(
            f"cannot {doing}: this cluster has no QwenSFTJobs; install the operator's chart (docs/operations.md), or "
            "choose another context"
        )
    return NotFoundError(f"cannot {doing}: {message}")


def _problems(document: dict[str, Any], message: str) -> list[str]:
    causes = (document.get("details") or {}).get("causes") or []
    found = [_problem(cause) for cause in causes if _UNCHECKED not in cause.get("message", "")]
    return list(dict.fromkeys(found)) or [message]


def _problem(cause: dict[str, str]) -> str:
    words = _OF_A_RULE.sub("", cause.get("message", ""))
    field = cause.get("field", "")
    return f"{field}: {words}" if field and field != "<nil>" else words


_BY_STATUS: Final[dict[int, Callable[[dict[str, Any], str, str], ClientError]]] = {
    400: _invalid,
    401: _unknown,
    403: _forbidden,
    404: _missing,
    409: _taken,
    410: _expired,
    422: _invalid,
}
