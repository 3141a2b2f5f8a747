"""The page as HTML. Every text in it is escaped, and its own policy lets a browser run and fetch nothing.

It is XML, too: what is not closed or not escaped, no strict parser takes. Pure; ADR 0178 says why it is as it is.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qwensft_trainer import __version__
from qwensft_trainer.base.redaction import clean
from qwensft_trainer.contract.config import Run
from qwensft_trainer.reporting import answers, chart, sections
from qwensft_trainer.reporting.losses import Losses
from qwensft_trainer.reporting.records import Records
from qwensft_trainer.reporting.thinning import thinned
from qwensft_trainer.reporting.words import number

_ROWS_OF_LOSSES = 10  # stretches of each curve
_SHOWN_WARNINGS = 200
_SHOWN_DATASETS = 500
_SHOWN_ATTEMPTS = 100
_SHOWN_CHARACTERS = 2000  # of one text
_SHOWN_CHARACTERS_OF_ARGUMENTS = 100_000


def render(run: Run, records: Records, maker: str) -> str:
    """The page of a run whose training is done, with the name of its maker in a meta element.

    It depends on nothing else: the same records give the same bytes.
    """
    warnings = sections.warnings(records) + answers.warnings(run, records)
    datasets = sections.datasets(run, records)
    attempts = sections.attempts(records)
    return (
        _environment()
        .get_template("report.html")
        .render(
            generator=f"{maker} {__version__}",
            name=run.owner.name,
            namespace=run.owner.namespace,
            subtitle=sections.subtitle(run, records),
            figures=sections.figures(run, records),
            warnings=warnings[:_SHOWN_WARNINGS],
            more_warnings=len(warnings[_SHOWN_WARNINGS:]),
            curves=chart.curves(records.losses),
            bars=chart.bars(records.prepared.get("lengths", {}), records.arguments.get("cutoff_len")),
            losses=table(records.losses),
            answers=answers.answers(records),
            datasets=datasets[:_SHOWN_DATASETS],
            more_datasets=len(datasets[_SHOWN_DATASETS:]),
            data=sections.data(run, records),
            model=sections.model(run, records),
            arguments=records.trained.get("arguments", "")[:_SHOWN_CHARACTERS_OF_ARGUMENTS],
            timings=sections.timings(records),
            attempts=attempts[-_SHOWN_ATTEMPTS:],
            earlier_attempts=len(attempts[:-_SHOWN_ATTEMPTS]),
            results=sections.results(records),
            proof=sections.proof(records),
        )
    )


def table(losses: Losses) -> list[tuple[str, str, str]]:
    """The curves as rows of step, training loss and evaluation loss: some of the points, every extreme among them."""
    training, evaluation = (
        {point.step: number(point.value) for point in thinned(points, _ROWS_OF_LOSSES)}
        for points in (losses.training, losses.evaluation)
    )
    steps = sorted({*training, *evaluation})
    return [(f"{step:,}", training.get(step, ""), evaluation.get(step, "")) for step in steps]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("qwensft_trainer.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = _short
    return environment


def _cleaned(value: Any) -> Any:
    """What a template writes, without secrets and control characters; it is escaped after this."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else clean(value)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
