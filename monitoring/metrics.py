"""The metrics that the code serves, read from what registers them, and the table of them in docs/monitoring.md."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kubernetes.aio.client.configuration import Configuration
from prometheus_client.metrics_core import Metric

from qwensft_operator.runtime.app import App
from qwensft_operator.runtime.kube import Kube
from qwensft_operator.runtime.settings import Settings
from qwensft_trainer.base.metrics_server import Figures
from qwensft_trainer.merging import figures as merging
from qwensft_trainer.trackers.told import Told, gauges
from qwensft_trainer.training import figures as training

_ABOUT = {"run_namespace": "", "run": "", "attempt": ""}
_SUFFIXES = {"counter": "_total", "info": "_info"}


class Described(NamedTuple):
    """A metric: its name as it is queried, its type, its labels, and what it tells."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def of_the_operator() -> list[Described]:
    """Those on port 8080, but for what every Python process tells of itself."""
    found = asyncio.run(_registered())
    return [metric for metric in found if metric.name.startswith("qwensft_")]


def of_the_pods() -> list[Described]:
    """Those on port 9400 of a training's node rank 0, and of a merge."""
    trackers = functools.partial(gauges, [Told("mlflow")])
    figures = [
        Figures("qwensft_train_", training.HELP, functools.partial(_zeros, training.HELP), _ABOUT, labelled=trackers),
        Figures("qwensft_merge_", merging.HELP, functools.partial(_zeros, merging.HELP), _ABOUT),
    ]
    return [metric for kind in figures for metric in _described(kind.collect())]


def _zeros(names: Iterable[str]) -> dict[str, float | None]:
    return dict.fromkeys(names, 0.0)


def table() -> str:
    """Markdown: one table for the operator, one for the pods."""
    parts = (("Operator, port 8080", of_the_operator()), ("Pods of runs, port 9400", of_the_pods()))
    return "\n".join(f"### {title}\n\n{_rows(metrics)}" for title, metrics in parts)


async def _registered() -> list[Described]:
    """Put an operator together, for one namespace and without starting it, and look at what it has registered."""
    kube = Kube(Configuration(host="http://127.0.0.1"), 1)
    app = App(Settings(trainer_image="none", namespaces=("team",)), kube)
    app._acting_since = 0.0  # a leader tells more
    kube.on_request("", "", 200, 0.0)
    try:
        return list(_described(app.registry.collect()))
    finally:
        await kube.close()


def _described(metrics: Iterable[Metric]) -> Iterator[Described]:
    for metric in metrics:
        labels = {label for sample in metric.samples for label in sample.labels if label != "le"}
        yield Described(
            metric.name + _SUFFIXES.get(metric.type, ""), metric.type, tuple(sorted(labels)), metric.documentation
        )


def _rows(metrics: Iterable[Described]) -> str:
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{metric.name}` | {metric.type} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in sorted(metrics)
    ]
    return "\n".join(lines) + "\n"
