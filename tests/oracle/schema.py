"""Values of a structural schema for hypothesis, weighted to its edges.

What a CustomResourceDefinition can say is obeyed: types, bounds, lengths, patterns, enumerations, keys of lists, and
unions of the kind "exactly one of". Other rules are met or broken as it happens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]

LABEL = "a" * 63
DOMAIN = ".".join([LABEL] * 3 + ["a" * 61])  # as long as a domain may be
_ODD = "\x00\x1b\x7f\x85\xa0\u2028\ufeff\ufffd\U000e0001"  # what terminals, YAML and trimming take for something else
TEXTS = (
    "", " ", "a", "Z", "0", "-", "_", ".", "..", "...", "..data", "a.b", "a..b", ".a", "a.", "-a", "a-", "a--b",
    "a_b", "a/b", "/a", "a/", "a/../b",
    LABEL, LABEL + "a", DOMAIN, DOMAIN + "a", "latest", "true", "null", "~", "1e5", "0x1F", "12:30:45",
    "2026-01-02", "=", "<<", "- a", "a: b", "#",
    "&a [*a]", "!!bool a", "!!int ''", "!!float a", "!!timestamp a", "!!binary a", "!!null a", "{{ a }}",
    "$(HOME)", "${HOME}", "%s", "\\", "\"'",
    "支持", "é" * 20, "😀", "\n", "a\nb", "\t", *_ODD, *(f"a{odd}" for odd in _ODD), *(f"{odd}a" for odd in _ODD),
    "https://a/", "https://hub.example.com:8080/a", "https://" + DOMAIN, "s3://b/k", "s3://b/支", "gs://b/k?a=b",
    "https://a:99999",
    "registry.example.com:5000/a/b@sha256:" + "0" * 64, "UPPER/Case:Tag", "Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B", "a/b",
    "0" * 64, "q_proj", "all", "eth0",
    "nvidia.com/gpu", "amd.com/gpu", "kubernetes.io/gpu", "a.kubernetes.io/b", "requests.a/b", "a..b/c",
    "a.com/" + LABEL, "a.com/" + LABEL + "a",
    f"{DOMAIN}/{LABEL}", f"{'a' * 64}.com/b",
)  # fmt: skip
QUANTITIES = (
    0, 1, 2, 16, 2**20, 2**31, 2**53, 2**63 - 1,
    "0", "00", "0.0", "1", "01", "1.", ".5", "0.5", "1.5", "100m", "1m", "1u", "1n", "0.0000000001",
    "0.00000000011", "1e3", "1E3", "1e-3", "1e+3", "5E",
    "1Ki", "1Mi", "1.5Gi", "2Mi", "3Mi", "1Gi", "64Gi", "500M", "1e99", "9e98", "9Ei", "99999999999999999999",
    "1000m", "1500m", "9" * 32, "9" * 30 + "Ei",
)  # fmt: skip
RESOURCES = (
    "cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "hugepages-1Gi", "hugepages-", "hugepages-0",
    "hugepages-x", "storage", "pods", "requests.cpu",
    "", "a", "gpu", "nvidia.com/gpu", "amd.com/gpu", "example.com/nic", "kubernetes.io/a", "a.kubernetes.io/b",
    "requests.a/b", "a/b/c", "A.com/a",
    f"{DOMAIN}/a", f"a.com/{LABEL}", f"a.com/{LABEL}a", "attachable-volumes-a", f"{'a' * 244}/b", f"{'a' * 245}/b",
)  # fmt: skip
KEYS = (
    "team", "example.com/pool", "kubernetes.io/hostname", "topology.kubernetes.io/zone",
    "kueue.x-k8s.io/queue-name", LABEL, LABEL + "a", "", "a b", "支",
    f"{DOMAIN}/{LABEL}", f"{DOMAIN}a/a", "Example.com/a", "a/b/c", "/a", "a/", "-a", "a-", "a..b/c",
    "qwensft.io/a", "batch.kubernetes.io/a", "app.kubernetes.io/a", "job-name", "controller-uid",
    "container.apparmor.security.beta.kubernetes.io/trainer", "container.apparmor.security.beta.kubernetes.io/a",
    "seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/trainer",
    "scheduler.alpha.kubernetes.io/tolerations", "controller.kubernetes.io/pod-deletion-cost",
    "kubernetes.io/config.mirror",
    "batch.kubernetes.io/job-completion-index", "neftune_noise_alpha", "report_to", "lr_scheduler_kwargs", "x_y",
)  # fmt: skip
TIMES = (
    "2026-01-02T03:04:05Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-02T03:04:05.999999999+23:59",
    "1970-01-01t00:00:00z", "0000-01-01T00:00:00Z", "2016-12-31T23:59:60Z", "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
)  # fmt: skip
# By the name of a property: words that mean something there, beside those of all texts.
HINTS: Mapping[str, tuple[str, ...]] = {
    "fieldPath": (
        "metadata.name", "metadata.uid", "status.podIP", "status.podIPs", "spec.nodeName", "metadata.labels",
        "metadata.labels['a']",
        "metadata.labels['']", "metadata.annotations['A/b']", "spec.containers", "status.podIP['a']", "spec.host",
    ),
    "name": ("NCCL_DEBUG", "JOB_COMPLETION_INDEX", "PATH", "HF_HOME", "QWENSFT", "NCCL_SOCKET_IFNAME"),
    "topologyKey": KEYS,
    "key": (*KEYS, "token", "ca.crt"),
    "matchLabelKeys": KEYS,
    "metadata.name": ("kubernetes.io",),
    "claimName": ("models", "data", "demo-workspace"),
    "type": ("Succeeded", "Reconciling", "Stalled", "Suspended", "Prepared", "Trained", "Merged"),
    "reason": ("Running", "OutOfMemory", "OperatorError", "InvalidSpec", "PodsStarting", "Queued"),
    "jobName": ("demo-train-1", "demo-prepare-1", "demo-merge-2"),
    "stage": ("prepare", "train", "merge"),
    "path": ("..data/a", "a/..b", "data/train.json"),
}  # fmt: skip


def values(schema: Schema, name: str = "") -> st.SearchStrategy[Any]:  # noqa: PLR0911 -- one for each kind
    """Return a strategy for the values of a node of a schema; `name` is that of its property."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.sampled_from(QUANTITIES) | st.integers(0, 2**40)
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _plain(0, 8),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_plain(0, 8), inner, max_size=2),
            max_leaves=4,
        )
    kind = schema["type"]
    if kind == "boolean":
        return st.booleans()
    if kind in ("integer", "number"):
        return _numbers(schema)
    if kind == "string":
        return _texts(schema, name)
    return _lists(schema, name) if kind == "array" else _objects(schema)


def union(schema: Schema) -> tuple[str, ...]:
    """Return the members of an object of which exactly one is set; () for any other object."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if rule["rule"].endswith(".filter(x, x).size() == 1"):
            return tuple(re.findall(r"has\(self\.(\w+)\)", rule["rule"]))
    return ()


def _objects(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    if "additionalProperties" in schema:
        return _maps(schema)
    return _object(schema)


@st.composite
def _object(draw: st.DrawFn, schema: Schema) -> dict[str, Any]:
    properties, members = schema.get("properties", {}), union(schema)
    wanted = list(schema.get("required", ()))
    free = [name for name in properties if name not in wanted and name not in members]
    if free:
        wanted += draw(st.lists(st.sampled_from(free), max_size=3, unique=True))
    if members:
        wanted.append(draw(st.sampled_from(members)))
    return {name: draw(values(properties[name], name)) for name in wanted}


def _maps(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    inner, most = schema["additionalProperties"], schema.get("maxProperties", 4)
    keys = st.sampled_from(RESOURCES if inner.get("x-kubernetes-int-or-string") else KEYS) | _plain(0, 8)
    few = st.dictionaries(keys, values(inner), max_size=min(most, 4))
    many = st.builds(
        lambda value: {f"k{number}": value for number in range(most)},
        values(inner) if "type" in inner else st.just("1"),
    )
    return st.one_of(few, few, few, many)


@st.composite
def _lists(draw: st.DrawFn, schema: Schema, name: str) -> list[Any]:
    least, most = schema.get("minItems", 0), schema.get("maxItems", 4)
    item = values(schema["items"], name)
    items = draw(st.lists(item, min_size=least, max_size=min(most, max(least, 3))))
    if items and "type" in schema["items"] and schema["items"]["type"] != "object" and draw(st.integers(0, 9)) == 0:
        items = [items[0]] * most
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys and draw(st.integers(0, 9)):
        items = list({tuple(str(each.get(key)) for key in keys): each for each in items}.values())
    return items


def _numbers(schema: Schema) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum", -(2**53)), schema.get("maximum", 2**53)
    edges = [low, high, (low + high) // 2 if schema["type"] == "integer" else (low + high) / 2]
    if schema["type"] == "integer":
        return st.sampled_from([*edges, min(low + 1, high), float(low)]) | st.integers(low, high)
    edges = [edge for edge in [*edges, low + 5e-324, low + 1e-7, high - 1e-7] if low <= edge <= high]
    if schema.get("exclusiveMinimum"):
        edges = [edge for edge in edges if edge > low]
    if schema.get("exclusiveMaximum"):
        edges = [edge for edge in edges if edge < high]
    return st.sampled_from(edges) | st.floats(
        low,
        high,
        exclude_min=bool(schema.get("exclusiveMinimum")),
        exclude_max=bool(schema.get("exclusiveMaximum")),
    )


def _texts(schema: Schema, name: str) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return st.sampled_from(TIMES)
    least, most, pattern = schema.get("minLength", 0), schema.get("maxLength", 64), schema.get("pattern")
    known = st.sampled_from(_fitting(HINTS.get(name, ()) * 3 + TEXTS, pattern, least, most))
    if pattern is None:
        return known | _plain(least, min(most, 16)) | _long(least, most)
    return known | _of_pattern(pattern).filter(lambda text: least <= len(text) <= most)


@cache
def _fitting(texts: tuple[str, ...], pattern: str | None, least: int, most: int) -> list[str]:
    """Those that a schema accepts, also when one is drawn out to the longest that it accepts."""
    longest = [text.replace(text[-1], text[-1] * (most - len(text) + 1), 1) for text in texts if 0 < len(text) <= most]
    halves = [text + ("." + text[-1] * 40) * ((most - len(text)) // 41) for text in texts if 0 < len(text) <= most]
    matches = re.compile(pattern or "", re.ASCII).search  # as RE2 reads it
    found = [text for text in (*texts, *longest, *halves) if least <= len(text) <= most and matches(text)]
    # To Python, $ stands before a last line break, too.
    return [
        text
        for text in found
        if not (pattern and pattern.endswith("$") and text.endswith("\n") and not matches(text + "\n"))
    ]


@cache
def _of_pattern(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)


def _plain(least: int, most: int) -> st.SearchStrategy[str]:
    # Halves of characters are no JSON.
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)


def _long(least: int, most: int) -> st.SearchStrategy[str]:
    return st.builds(
        lambda one, size: one * size,
        st.sampled_from(["a", "支", "😀", "\x01", "\U000e0001"]),
        st.sampled_from([least, most]),
    )
