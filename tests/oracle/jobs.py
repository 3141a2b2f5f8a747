"""QwenSFTJobs of all kinds: seeds into which values of the schema are grafted, most mended by what the models say."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from pydantic import ValidationError

from qwensft.api import crd
from qwensft.api.v1alpha1 import InvalidJobError, parse_job

from .schema import DOMAIN, Schema, union, values

Document = dict[str, Any]

ROOT = Path(__file__).parents[2]
SPEC: Schema = crd.structural_schema()["properties"]["spec"]
NAMES = ("a", "demo", "a-0", "a" * 45)
_DEEPEST = 6
# What Kubernetes reads is grafted more often than what is written into a file for the trainer.
_BLOCKS = ("worker",) * 8 + ("prepare", "merge", "storage", "distribution") * 2 + tuple(SPEC["properties"])


def _crowded() -> Document:
    """As many datasets as may be, each with a volume and a secret of its own, and every name as long as may be."""

    def dataset(number: int, prefix: str) -> Document:
        name = f"{prefix}{number}".ljust(40, "x")
        key = {"name": DOMAIN, "key": "k" * 253}
        kinds: list[Document] = [
            {"volume": {"claimName": f"c{number}", "path": "支" * 512}},
            {"configMap": key},
            {"huggingFace": {"repo": "a/b", "tokenSecretRef": key}},
            {"url": {"url": "s3://b/" + "支" * 2000, "credentialsSecretRef": {"name": DOMAIN}}},
        ]
        return {"name": name, "format": "openai", "source": kinds[number % len(kinds)]}

    return {
        "model": {"name": "Qwen/Qwen3-8B", "source": {"volume": {"claimName": DOMAIN}}},
        "datasets": [dataset(number, "t") for number in range(32)],
        "evaluation": {"datasets": [dataset(number, "e") for number in range(16)]},
        "storage": {"volume": {"claimName": DOMAIN}},
        "distribution": {"nodes": 1024},
    }


def _seeds() -> list[Document]:
    """Specs of the contract's valid documents and of the examples, and one that is crowded."""
    folders = ROOT / "tests" / "contract" / "valid", ROOT / "examples"
    found = [
        document["spec"]
        for folder in folders
        for path in sorted(folder.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document["kind"] == "QwenSFTJob"
    ]
    return [*found, _crowded()]


SEEDS = _seeds()


@st.composite
def jobs(draw: st.DrawFn) -> Document:
    """Documents as a user may send them: the API server's schema accepts most, and refuses some."""
    spec = copy.deepcopy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 5))):
        graft(draw, spec, SPEC, draw(st.sampled_from(_BLOCKS)))
    document = {
        "apiVersion": "qwensft.io/v1alpha1",
        "kind": "QwenSFTJob",
        "metadata": {"name": draw(st.sampled_from(NAMES))},
        "spec": spec,
    }
    # Where the models are wrong to refuse something, mending would hide it.
    return mended(document) if draw(st.integers(0, 4)) else document


def graft(draw: st.DrawFn, block: Document, schema: Schema, name: str, depth: int = 0) -> None:
    """Put a value of the schema at a property of a block, or somewhere below it."""
    members, inner = union(schema), schema["properties"][name]
    if name in members:
        for other in members:
            if other != name:
                block.pop(other, None)
    there = block.get(name)
    if isinstance(there, list) and there and isinstance(there[0], dict) and "properties" in inner["items"]:
        there, inner = draw(st.sampled_from(there)), inner["items"]
    deeper = depth < _DEEPEST and "properties" in inner and (there is not None or not inner.get("required"))
    if deeper and draw(st.integers(0, 3)):
        if not isinstance(there, dict):
            there = block[name] = {}
        graft(draw, there, inner, draw(st.sampled_from(sorted(inner["properties"]))), depth + 1)
    else:
        block[name] = draw(values(schema["properties"][name], name))


def mended(document: Document) -> Document:
    """Return a copy without what the models refuse, as far as taking things out mends it."""
    document = copy.deepcopy(document)
    for _ in range(40):
        blamed = _blamed(document)
        if not blamed or not _take_out(document, blamed):
            break
    return document


def _blamed(document: Document) -> list[str | int]:
    """Return the path of the first thing that the models refuse; [] when they refuse nothing."""
    try:
        parse_job(document)
    except InvalidJobError as error:
        problems: Any = error.__cause__.errors() if isinstance(error.__cause__, ValidationError) else []
        within = problems[0].get("ctx", {}).get("field", "").split(".")
        return [*problems[0]["loc"], *filter(None, within)]
    return []


def _take_out(document: Document, path: list[str | int]) -> bool:
    """Delete what a path leads to, or the innermost thing around it that is there."""
    place: tuple[Any, Any] | None = None
    container: Any = document
    for part in path:
        inside = part in container if isinstance(container, dict) else isinstance(container, list)
        if not inside:
            break
        place, container = (container, part), container[part]
    if place is None or place[0] is document:
        return False
    del place[0][place[1]]
    return True
