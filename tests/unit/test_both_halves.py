"""What the operator and the trainer image keep separately, as neither imports the other, and what must agree.

Here is whatever can be compared without knowing it: constants of the same name, texts and collections of the same
value, reasons, variables of the environment. The contracts are in `test_contracts.py`.
"""

from __future__ import annotations

import ast
import gc
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from qwensft.api.v1alpha1 import Reason, Startup, merge
from qwensft.api.v1alpha1.common import RESERVED_ENVIRONMENT
from qwensft_operator.plan import text, usage
from qwensft_operator.plan.causes import _NO_FAILURE
from qwensft_operator.plan.progress import snake
from qwensft_trainer import cli
from qwensft_trainer.base import redaction
from qwensft_trainer.contract import credentials, termination, workspace
from qwensft_trainer.training import failures, progress, startup

from .operator.render.jobs import SPECS, STAGES, environment, files, job

REPOSITORY = Path(__file__).parents[2]
CLIENT = REPOSITORY / "client" / "qwensft"
OPERATOR = [
    path for folder in (CLIENT / "api", CLIENT / "estimate", REPOSITORY / "operator") for path in folder.rglob("*.py")
]
ON_VOLUMES = [path for folder in (CLIENT / "client", CLIENT / "cli") for path in folder.rglob("*.py")]
TRAINER = [*(REPOSITORY / "trainer-image" / "qwensft_trainer").rglob("*.py")]

# Constants that share a name and nothing else.
UNRELATED = {
    "CONFIG": "where the ConfigMap is mounted; the file in which peft describes an adapter",
    "LIBRARIES": "the memory that libraries take in the process that verifies; those that prepare imports",
    "LIMIT_SECONDS": "each about a wait of its own",
    "NUMBERS": "attempts that are looked for; figures of a training; keys of a model's configuration",
    "STOP_SECONDS": "the grace period of a pod; the time that workers have within it",
}
# Constants of one meaning and different names: the operator's, the trainer's.
OF_ONE_VALUE = {
    ("DEFAULT_MERGE_DIRECTORY", "_MERGED"),
    ("FILE", "FILE"),
    ("_OF_RUNS", "_OF_RUNS"),
    ("_EMBEDDINGS", "_EMBEDDINGS"),
    ("VISION", "VISION"),
    ("REASONING", "REASONING"),
    ("_MEDIA", "_MEDIA_COLUMNS"),
    ("METADATA", "METADATA"),
    ("_WANDB_KEY", "_API_KEY"),
    ("_TRACKER", "_GAUGE"),
}


def _parsed(path: Path) -> ast.Module:
    """A module's syntax. What is collected meanwhile may format a traceback, which parses, too: Python 3.11 trips."""
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        gc.enable()


def constants(paths: list[Path]) -> Iterator[tuple[str, Any]]:
    """Names and values of the literal constants of modules; the order of collections does not matter."""
    for path in paths:
        for node in _parsed(path).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and target.id.isupper() and (value := getattr(node, "value", None)):
                if isinstance(value, ast.Call) and ast.unparse(value.func) == "frozenset":
                    value = value.args[0]
                try:
                    found = ast.literal_eval(value)
                except ValueError:  # it is computed
                    continue
                yield target.id, sorted(map(repr, found)) if isinstance(found, set | tuple | list) else found


def nodes(paths: list[Path]) -> Iterator[ast.AST]:
    for path in paths:
        yield from ast.walk(_parsed(path))


def calls(paths: list[Path]) -> Iterator[ast.Call]:
    return (node for node in nodes(paths) if isinstance(node, ast.Call))


def test_constants_of_the_same_name_have_the_same_value() -> None:
    of_operator, of_trainer = _by_name(OPERATOR), _by_name(TRAINER)
    shared = of_operator.keys() & of_trainer.keys()
    assert {"EXIT_PERMANENT", "FILE", "REASONING", "VISION"} <= shared
    different = {name for name in shared if not any(value in of_trainer[name] for value in of_operator[name])}
    assert different == set(UNRELATED)


def test_both_show_the_same_characters_as_escapes() -> None:
    assert redaction._CONTROL.pattern == text._CONTROL.pattern


def _by_name(paths: list[Path]) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for name, value in constants(paths):
        found[name.strip("_")].append(value)
    return found


def test_texts_and_collections_that_stand_in_both_halves_are_known() -> None:
    """One that is new here, or gone since one half was changed, is a contract to look at."""
    trainers = list(constants(TRAINER))
    pairs = {
        (name, other)
        for name, value in constants(OPERATOR)
        for other, same in trainers
        if value == same and not isinstance(value, int | float)
    }
    assert pairs == OF_ONE_VALUE


def test_a_merged_model_can_have_no_name_that_a_run_uses_itself() -> None:
    assert set(merge._TAKEN) == set(workspace._TAKEN)
    assert workspace.MARKER.startswith(workspace._OF_RUNS)


def test_who_pulls_a_model_knows_the_name_of_its_manifest() -> None:
    (name,) = _by_name(ON_VOLUMES)["MANIFEST"]
    assert name in _by_name(TRAINER)["MANIFEST"]


def test_every_reason_that_the_trainer_gives_is_one_of_the_api() -> None:
    given = set(_reasons())
    assert {"InvalidDataset", "OutOfMemory", "KilledBeforeSaved", "PreparationFailed", "Interrupted"} <= given
    assert given <= set(Reason)


def _reasons() -> Iterator[str]:
    """Constants in the place of a reason: of an error, its class or a report, in a comparison, in the two tables."""
    for call in calls(TRAINER):
        is_error = ast.unparse(call.func) in ("StageError", "PermanentError", "super().__init__")
        for value in [*(call.args[:1] if is_error else ()), *(k.value for k in call.keywords if k.arg == "reason")]:
            if isinstance(value, ast.Constant):
                yield str(value.value)
    for node in nodes(TRAINER):
        if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith("reason"):
            yield from (str(other.value) for other in node.comparators if isinstance(other, ast.Constant))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "reason":
            yield from [str(node.value.value)] if isinstance(node.value, ast.Constant) else []
    yield from (rule.reason for rule in failures._RULES)
    yield from cli.STAGES.values()


def test_the_outcomes_that_the_operator_asks_for_are_those_that_the_trainer_reports() -> None:
    asked = {
        str(other.value)
        for node in nodes(OPERATOR)
        if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith(".outcome")
        for other in node.comparators
        if isinstance(other, ast.Constant)
    }
    assert asked == {"Succeeded"}
    assert asked | {str(outcome) for outcome in _NO_FAILURE} < set(get_args(termination.Outcome))


def test_the_trainer_reads_the_variables_that_the_operator_sets_and_no_user_may_set_them() -> None:
    own = {"WANDB_API_KEY", "NCCL_DEBUG"}  # of the user's worker.env
    rendered = {name for case in SPECS for stage in STAGES for name in environment(job(case), stage)} - own
    rendered -= {"NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"}  # read by NCCL and Gloo
    read = {
        str(call.args[0].value)
        for call in calls(TRAINER)
        if re.search(r"environ(ment)?\.(get|setdefault)$", ast.unparse(call.func))
        if isinstance(call.args[0], ast.Constant)
    } | set(credentials._TOKENS.values())
    assert rendered <= read
    assert {name for name in rendered if not name.startswith("QWENSFT_")} <= set(RESERVED_ENVIRONMENT)
    of_the_contract = {name for name in read if name in RESERVED_ENVIRONMENT or name.startswith("QWENSFT_")}
    assert of_the_contract == set(RESERVED_ENVIRONMENT) | {
        *("QWENSFT_STAGE", "QWENSFT_ATTEMPT", "QWENSFT_CA_BUNDLE", "QWENSFT_POD_UID", "QWENSFT_STALL_TIMEOUT_SECONDS"),
        "QWENSFT_LINK_LOCAL_SERVICES",
    }


def test_the_trainer_opens_the_files_of_the_config_map() -> None:
    written = {name for case in SPECS for stage in STAGES for name in files(case, stage)}
    texts = {node.value for node in nodes(TRAINER) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert written == {"run.yaml", "train.yaml", "export.yaml", "deepspeed.json"}
    assert written <= texts


def test_the_operator_uses_the_figures_of_an_attempt_and_reads_them_from_a_report_alike() -> None:
    names = set(progress.Attempt.__dataclass_fields__)
    used = {
        str(call.args[0].value)
        for call in calls([REPOSITORY / "operator/qwensft_operator/plan/usage.py"])
        if ast.unparse(call.func) == "figures.get" and isinstance(call.args[0], ast.Constant)
    }
    assert used | set(Startup.model_fields) - {"schedule_seconds", "image_seconds"} == names
    assert {f"{phase}_seconds" for phase in startup.PHASES} < names
    reported = {snake(name) for name in progress.Progress().metrics() if name.startswith("attempt")}
    assert reported == {f"{usage._ATTEMPT}{name}" for name in names}
