"""Answers of a real API server, as exceptions whose text says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwensft.client import errors

ANSWERS: dict[str, dict[str, object]] = json.loads((Path(__file__).parent / "answers.json").read_text())
DOING = "create QwenSFTJob another in namespace team"


def error(name: str, doing: str = DOING) -> errors.ClientError:
    answer = ANSWERS[name]
    return errors.from_answer(int(str(answer["status"])), str(answer["body"]), doing)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ("no definition", errors.NotInstalledError, "this cluster has no QwenSFTJobs; install the operator's chart"),
        ("no such run", errors.NotFoundError, "it does not exist; look at the names"),
        ("no namespace", errors.NotFoundError, "the namespace does not exist; create it"),
        ("a namespace that goes", errors.NotFoundError, "the namespace is being deleted; wait"),
        ("name taken", errors.NameExistsError, "the name is taken; choose another name"),
        ("not logged in", errors.NotLoggedInError, "log in again"),
        ("not permitted", errors.NotPermittedError, "ana may not; ask for the ClusterRole edit in this namespace"),
        ("applied by another", errors.ConflictError, "ana has set spec.runPolicy.suspend; leave these fields out"),
        ("applied by two others", errors.ConflictError, "kubectl-patch has set spec.runPolicy.maxRestarts"),
        ("a precondition that fails", errors.ConflictError, "the UID in the precondition"),
        ("a version that has changed", errors.ConflictError, "The object might have been modified"),
        ("a page that is too old", errors.ExpiredError, "try again"),
        ("not permitted to nobody", errors.NotLoggedInError, "log in again"),
    ],
)
def test_an_answer_says_what_to_do(answer: str, kind: type[errors.ClientError], words: str) -> None:
    found = error(answer)
    assert type(found) is kind
    assert words in str(found)
    assert str(found).startswith(f"cannot {DOING}: ")


def test_a_broken_rule_is_its_sentence() -> None:
    found = error("against a rule")
    assert isinstance(found, errors.RefusedError)
    assert found.problems == (
        "spec.tuning.freeze: the freeze block is for method freeze: remove tuning.freeze, or set method: freeze",
    )
    assert str(found) == f"QwenSFTJob another in namespace team is refused: {found.problems[0]}"


def test_an_edit_of_what_is_fixed_is_the_rules_sentence() -> None:
    found = error("an edit of what is fixed")
    assert isinstance(found, errors.RefusedError)
    assert [problem.partition(":")[0] for problem in found.problems] == ["spec.model"]
    assert "spec.model: model is fixed at creation, since one QwenSFTJob is one run" in str(found)


def test_rules_that_were_not_looked_at_are_not_told() -> None:
    found = error("of another type")
    assert isinstance(found, errors.RefusedError)
    assert len(found.problems) == 1
    assert found.problems[0].startswith("spec.training.epochs: ")


def test_a_field_that_nobody_knows_is_named() -> None:
    found = error("an unknown field")
    assert isinstance(found, errors.RefusedError)
    assert 'unknown field "spec.colour"' in found.problems[0]


def test_a_policy_says_its_own_words_and_not_whose_they_are() -> None:
    found = error("against a policy")
    assert isinstance(found, errors.RefusedError)
    assert found.problems == ("spec.storage.volume.claimName: this installation allows only the claim x",)


def test_a_pod_that_is_not_restricted_is_refused_and_no_matter_of_rights() -> None:
    found = error("against pod security", "create Pod p in namespace team")
    assert isinstance(found, errors.RefusedError)
    assert "violates PodSecurity" in str(found)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_says_so(status: int) -> None:
    found = errors.from_answer(status, "busy", DOING)
    assert type(found) is errors.ServerError
    assert str(found) == f"cannot {DOING}: busy (HTTP {status}); try again later"
