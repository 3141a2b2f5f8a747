"""`compare`: what sets two runs apart, in what was asked for, what was read and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft.cli.output import Paint, columns, safe
from qwensft.cli.views.status import phase_of, reason_of
from qwensft.client import words

_WIDEST = 60
_NONE = "-"
Pair = tuple[str, str, str]


def text(first: QwenSFTJob, second: QwenSFTJob, paint: Paint) -> str:
    """Return three tables; of the spec only the fields that differ."""
    fields = list(differences(first, second))
    same = len(flat(first.spec.document()).keys() & flat(second.spec.document()).keys()) - sum(
        _NONE not in pair[1:] for pair in fields
    )
    blocks = [
        ("spec", fields, f"{words.count(same, 'field')} the same"),
        ("data", list(_pairs(_data(first), _data(second))), ""),
        ("outcome", list(_pairs(_outcome(first), _outcome(second))), ""),
    ]
    rows = [["", first.metadata.name, second.metadata.name]]
    heads = {0}
    for title, pairs, note in blocks:
        if pairs or note:
            heads.add(len(rows))
            rows.append([title, "", ""])
            rows += [[f"  {name}", left, right] for name, left, right in pairs]
            if note:
                rows.append([f"  ({note})", "", ""])
    lines = columns(rows)
    return "\n".join(paint("bold", line) if number in heads else line for number, line in enumerate(lines))


def document(first: QwenSFTJob, second: QwenSFTJob) -> dict[str, Any]:
    """Return the same for programs: by part and name, what the first and the second have."""
    parts = {
        "spec": differences(first, second),
        "data": _pairs(_data(first), _data(second)),
        "outcome": _pairs(_outcome(first), _outcome(second)),
    }
    return {part: {name: [left, right] for name, left, right in pairs} for part, pairs in parts.items()}


def differences(first: QwenSFTJob, second: QwenSFTJob) -> Iterator[Pair]:
    """Yield path and both values of the fields of the specs that differ; - where one is not set."""
    left, right = flat(first.spec.document()), flat(second.spec.document())
    for path in [*left, *(path for path in right if path not in left)]:
        if left.get(path) != right.get(path):
            yield path, _shown(left.get(path)), _shown(right.get(path))


def flat(document: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of a document by their paths; items of a list by their names, where they have some."""
    if isinstance(document, dict) and document:
        return {
            place: value for name, inner in document.items() for place, value in flat(inner, f"{path}.{name}").items()
        }
    if isinstance(document, list) and document and all(isinstance(item, dict) and "name" in item for item in document):
        return {
            place: value
            for item in document
            for place, value in flat({**item}, f"{path}[{item['name']}]").items()
            if not place.endswith("].name")
        }
    return {path.removeprefix("."): document}


def _shown(value: Any) -> str:
    if value is None:
        return _NONE
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return words.shorten(safe(shown).replace("\n", " "), _WIDEST)


def _pairs(left: dict[str, str], right: dict[str, str]) -> Iterator[Pair]:
    for (name, mine), yours in zip(left.items(), right.values(), strict=True):
        if mine or yours:
            yield name, mine or _NONE, yours or _NONE


def _data(job: QwenSFTJob) -> dict[str, str]:
    dataset = job.status.dataset
    figures = {} if dataset is None else dataset.document()
    names = {
        "samples": "samples",
        "tokens": "tokens",
        "evalSamples": "to evaluate on",
        "truncatedSamples": "cut",
        "duplicateSamples": "repeated",
        "lengthP50": "median tokens",
        "lengthMax": "most tokens",
    }
    return {said: f"{figures[name]:,}" if name in figures else "" for name, said in names.items()}


def _outcome(job: QwenSFTJob) -> dict[str, str]:
    status, progress, usage = job.status, job.status.progress, job.status.usage
    outputs = status.outputs
    output = (outputs.merged or outputs.model or outputs.adapter) if outputs else None
    return {
        "phase": " ".join(part for part in (phase_of(job), reason_of(job)) if part),
        "steps": (progress.steps or "") if progress else "",
        "first loss": _number(progress.initial_loss if progress else None),
        "last loss": _number(progress.loss if progress else None),
        "evaluation loss": _number(progress.eval_loss if progress else None),
        "best evaluation loss": _number(progress.best_eval_loss if progress else None),
        "time": words.between(status.start_time, status.completion_time),
        "restarts": str(status.restarts or ""),
        "accelerator-hours": words.hours(usage.accelerator_seconds) if usage and usage.accelerator_seconds else "",
        "tokens/s": f"{progress.tokens_per_second:,.0f}" if progress and progress.tokens_per_second else "",
        "result": f"{words.size(output.size_bytes)}" if output and output.size_bytes is not None else "",
        "digest": words.shorten(output.digest or "", 20) if output else "",
    }


def _number(value: float | None) -> str:
    return "" if value is None else words.number(value)
