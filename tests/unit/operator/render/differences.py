"""What sets one list of manifests apart from another, one line per value, for golden files that a person reads.

    ConfigMap prepare, ConfigMap train
    - data["train.yaml"].learning_rate: 5e-06
    + data["train.yaml"].learning_rate: 0.001
    - data["train.yaml"].warmup_steps
    + data["train.yaml"].warmup_ratio: 0.1

    Job train
    + spec.template.spec.containers[trainer].env[NCCL_DEBUG].value: "INFO"

A line without a value removes everything below its path. Nothing is left out: the first list and the lines give the
second one, but for the order of keys in a mapping. Values are JSON, which tells "1" from 1. Files of a ConfigMap are
parsed; items of a list are found by their `name`, where all have one. Objects that differ alike share their lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

Manifest = dict[str, Any]
_PLAIN_KEY = re.compile(r"[\w-]+")


def differences(old: list[Manifest], new: list[Manifest]) -> str:
    """Return the lines that lead from the old manifests to the new ones, under a heading for each object."""
    before, after = _by_heading(old), _by_heading(new)
    headings: dict[tuple[str, ...], list[str]] = {}
    for heading in before | after:
        if lines := tuple(_between(before.get(heading, {}), after.get(heading, {}), "")):
            headings.setdefault(lines, []).append(heading)
    return "\n".join("\n".join([", ".join(alike), *lines, ""]) for lines, alike in headings.items())


def _by_heading(manifests: list[Manifest]) -> dict[str, Manifest]:
    found = {}
    for manifest in manifests:
        stage = manifest["metadata"]["labels"].get("qwensft.io/stage", "")
        heading = f"{manifest['kind']} {stage}".rstrip()
        assert heading not in found, f"two objects are called {heading}"
        found[heading] = manifest | {"data": _read(manifest["data"])} if "data" in manifest else manifest
    return found


def _read(files: dict[str, str]) -> dict[str, Any]:
    return {name: yaml.load(text, Loader=yaml.CSafeLoader) for name, text in files.items()}


def _between(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _by_key(_of_mapping(old, path), _of_mapping(new, path))
    elif _is_named(old) and _is_named(new):
        before, after = _of_list(old, path), _of_list(new, path)
        yield from _by_key(before, after)
        kept = [item for item in before if item in after]
        if list(after) != [*kept, *(item for item in after if item not in before)]:
            yield f"+ {path} in this order: {', '.join(item['name'] for item in new)}"
    elif json.dumps(old) != json.dumps(new):
        yield f"- {path}: {_text(old)}"
        yield f"+ {path}: {_text(new)}"


def _by_key(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Compare what stands at each path."""
    for path in old | new:
        if path not in new:
            yield f"- {path}"
        elif path not in old:
            yield from _added(new[path], path)
        else:
            yield from _between(old[path], new[path], path)


def _added(value: Any, path: str) -> Iterator[str]:
    """One line for each scalar, so that a long block can be read."""
    if isinstance(value, dict):
        children = _of_mapping(value, path)
    else:
        children = _of_list(value, path) if _is_named(value) else {}
    for child in children:
        yield from _added(children[child], child)
    if not children:
        yield f"+ {path}: {_text(value)}"


def _of_mapping(mapping: dict[str, Any], path: str) -> dict[str, Any]:
    """Path -> value of everything directly below."""
    return {_below(path, key): value for key, value in mapping.items()}


def _below(path: str, key: str) -> str:
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key


def _of_list(items: list[dict[str, Any]], path: str) -> dict[str, Any]:
    return {f"{path}[{item['name']}]": {k: v for k, v in item.items() if k != "name"} for item in items}


def _is_named(value: Any) -> bool:
    """Whether a list's items can be found by their names."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return False
    names = [item.get("name") for item in value]
    return bool(names) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
