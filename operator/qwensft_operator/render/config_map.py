"""The immutable ConfigMap of an attempt: what the trainer reads under /etc/qwensft.

`run.yaml` is the trainer's own configuration, `train.yaml` and `export.yaml` are LLaMA-Factory's, `deepspeed.json` is
DeepSpeed's. `image` and `worker.json` tell the operator by which trainer image and which of the installation's defaults
for the worker the run has begun.
ADR 0099 says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from qwensft.api.v1alpha1 import NO_DEFAULTS, QwenSFTJob, Stage, Worker
from qwensft_operator.render.deepspeed import FILE, deepspeed_config
from qwensft_operator.render.llamafactory import export_arguments, train_arguments
from qwensft_operator.render.names import child_name, metadata
from qwensft_operator.render.run import run_document

IMAGE = "image"  # name of a file that no pod reads
WORKER_DEFAULTS = "worker.json"  # another one
EDITABLE = ("prepare", "mergePlanned", "merge")
"""Sections of run.yaml that say what the spec says now; the others say what it said when the run began."""

_LONGEST = 1 << 20  # bytes of all files, by Kubernetes
_MOST_VALUES = 100_000
_LONGEST_NUMBER = 100  # characters

# libyaml's are ten times as fast; PyYAML is built without it on some platforms.
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc, unused-ignore]
    """Reads no endless numbers: YAML has some to the base of 60, and a long one takes a minute."""

    def construct_yaml_int(self, node: Any) -> Any:
        return super().construct_yaml_int(_bounded(node))

    def construct_yaml_float(self, node: Any) -> Any:
        return super().construct_yaml_float(_bounded(node))


for _kind, _read in (("int", _Loader.construct_yaml_int), ("float", _Loader.construct_yaml_float)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _read)


def _bounded(node: Any) -> Any:
    if len(node.value) > _LONGEST_NUMBER:
        raise yaml.YAMLError(f"a number of {len(node.value)} characters")
    return node


def config_map(
    job: QwenSFTJob,
    stage: Stage,
    attempt: int,
    *,
    image: str | None = None,
    worker: Worker = NO_DEFAULTS,
    begun: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the manifest of the ConfigMap that the attempt's pods mount.

    Args:
        job: the custom resource.
        stage: whose ConfigMap.
        attempt: counted from 1.
        image: the trainer image of the run; None where the job names its own.
        worker: the installation's defaults by which the run has begun.
        begun: the files by which the run has begun, as another version of the operator may have written them. A run
            goes on as it began: later attempts get these files, and their run.yaml the sections that may be edited.

    Raises:
        ValueError: `begun` holds what no operator has written.
    """
    files = _files(job, stage) if begun is None else _continued(job, stage, begun)
    files |= {} if image is None else {IMAGE: image}
    files |= {WORKER_DEFAULTS: json.dumps(defaults) + "\n"} if (defaults := worker.document()) else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(job, child_name(job, stage, attempt), stage=stage, attempt=attempt),
        "immutable": True,
        "data": files,
    }


def oversize(config_map: Mapping[str, Any]) -> str | None:
    """Return what to shorten when the files of a ConfigMap are more than Kubernetes takes; None when they are not.

    No rule of the API bounds them all together: each name and address in a dataset may be as long as its field says.
    """
    size = sum(len(text.encode()) for text in config_map["data"].values())
    if size <= _LONGEST:
        return None
    return (
        f"the files of the run's configuration have {size} bytes, and a ConfigMap takes {_LONGEST}: shorten what "
        "spec.datasets and spec.evaluation.datasets name (ignore, columns, tags, url), or spec.extraArguments, in a "
        "new QwenSFTJob"
    )


def read_run(files: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of run.yaml out of a ConfigMap's files.

    Raises:
        ValueError: It is nothing that an operator has written. Others may write ConfigMaps, and three lines of YAML
            that name each other stand for gigabytes.
    """
    text = files.get("run.yaml")
    if text is None or len(text) > _LONGEST:
        raise ValueError("run.yaml is missing" if text is None else f"run.yaml has {len(text)} characters")
    try:
        run = yaml.load(text, Loader=_Loader)  # noqa: S506 -- a safe one
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("run.yaml is not valid YAML") from error
    if not isinstance(run, dict) or not _is_usual(run):
        raise ValueError("run.yaml is no mapping of a usual size and kind")
    return run


def _is_usual(document: Any) -> bool:
    """Whether JSON could say it, in no more values than a run has, with what stands there by its name alone."""
    count, left = 0, [document]
    while left and count <= _MOST_VALUES:
        value = left.pop()
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                return False
            inner = list(value.values())
        elif isinstance(value, list):
            inner = value
        elif value is None or isinstance(value, str | int | float):
            inner = []
        else:  # YAML has dates, sets and bytes, too
            return False
        left += inner
        count += 1 + len(inner)
    return count <= _MOST_VALUES


def _files(job: QwenSFTJob, stage: Stage) -> dict[str, str]:
    files = {"run.yaml": _yaml(run_document(job, stage))}
    if stage is Stage.MERGE:
        files["export.yaml"] = _yaml(export_arguments(job))
    else:
        files["train.yaml"] = _yaml(train_arguments(job))
        if (configuration := deepspeed_config(job)) is not None:
            files[FILE] = json.dumps(configuration, indent=2) + "\n"
    return files


def _continued(job: QwenSFTJob, stage: Stage, begun: Mapping[str, str]) -> dict[str, str]:
    if stage is Stage.TRAIN:
        return dict(begun)
    before, now = read_run(begun), run_document(job, stage)
    run = {key: value for key, value in before.items() if key not in EDITABLE}
    run |= {key: now[key] for key in EDITABLE if key in now}
    if run == before:
        return dict(begun)
    return (_files(job, stage) if stage is Stage.MERGE else dict(begun)) | {"run.yaml": _yaml(run)}


def _yaml(content: dict[str, Any]) -> str:
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
