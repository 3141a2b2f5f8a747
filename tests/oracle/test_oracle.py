"""What the API server takes for a QwenSFTJob the operator understands, or says why not; what it makes is taken, too.

The documents are drawn from the CustomResourceDefinition's own schema, the same ones every time. More of them, other
ones at each start: `ORACLE_EXAMPLES=5000 make test-oracle`. ADR 0147 says why.
"""

from __future__ import annotations

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from qwensft.api.v1alpha1 import InvalidJobError, QwenSFTJob, parse_job

from .jobs import NAMES, SEEDS, Document, jobs
from .making import made_of
from .server import NAMESPACE, UNRESTRICTED, Refusal, Server
from .settings import EXAMPLES, Deadline


@EXAMPLES
@given(document=jobs(), attempt=st.sampled_from([1, 2, 999_999]))
def test_what_is_accepted_can_be_made(server: Server, deadline: Deadline, document: Document, attempt: int) -> None:
    if deadline.is_over():
        return
    stored = server.job(document)
    if isinstance(stored, Refusal):
        with pytest.raises(InvalidJobError):
            parse_job(document)
        return
    job = understood(stored)
    if isinstance(job, QwenSFTJob):
        assert_made(server, job, attempt)
    else:  # the models may know more than the schema: then the run is InvalidSpec, and the words name the field
        assert job.startswith(("spec.", "metadata."))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_what_others_are_drawn_from_can_be_made(server: Server, seed: int, name: str) -> None:
    document = {
        "apiVersion": "qwensft.io/v1alpha1",
        "kind": "QwenSFTJob",
        "metadata": {"name": name},
        "spec": SEEDS[seed],
    }
    stored = server.job(document)
    assert not isinstance(stored, Refusal), stored
    assert_made(server, parse_job(stored), attempt=1)


def understood(stored: Document) -> QwenSFTJob | str:
    """Return the job as the operator reads it, or why it does not."""
    try:
        return parse_job(stored)
    except InvalidJobError as error:
        return str(error)


def assert_made(server: Server, job: QwenSFTJob, attempt: int) -> None:
    """Every manifest of the job is taken: strictly, and where Pod Security is enforced unless the job leaves it."""
    namespace = UNRESTRICTED if job.spec.worker.host_network else NAMESPACE
    for manifest in made_of(job, attempt):
        refusal = server.refusal(manifest, namespace)
        if refusal is not None:
            note(str(job.document()))
        assert refusal is None, f"{manifest['kind']} {manifest['metadata']['name']}: {refusal and refusal.text}"
