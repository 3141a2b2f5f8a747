"""Strategies for QwenSFTJob documents, for the property tests and for the contract tests that compare two validators.

`job_documents` makes valid ones by construction; `mutated` changes one value of a document, for better or worse.
"""

import copy
import string
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]

_NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
_PATHS = st.lists(st.text(string.ascii_letters + "._-支", min_size=1, max_size=8), min_size=1, max_size=3).map(
    lambda parts: "/".join(part if part.strip(".") else "x" for part in parts)
)
_QUANTITIES = st.one_of(st.integers(1, 1024), st.sampled_from(["500m", "1.5Gi", "2Ti", "100e6", "64"]))
_LABELS = st.dictionaries(st.sampled_from(["team", "example.com/pool", "zone"]), _NAMES, max_size=2)


def _block(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    """An object in which every field is optional."""
    return st.fixed_dictionaries({}, optional=fields)


_RESOURCES = _block(
    requests=st.dictionaries(st.sampled_from(["cpu", "memory"]), st.integers(1, 8), max_size=2),
    limits=st.dictionaries(st.sampled_from(["cpu", "memory", "example.com/nic"]), st.integers(8, 64), max_size=2),
)
_HUB = _block(
    repo=st.sampled_from(["Qwen/Qwen3-8B", "acme/tuned"]),
    revision=st.sampled_from(["main", "v1.0"]),
    tokenSecretRef=st.fixed_dictionaries({"name": _NAMES, "key": st.just("token")}),
)
_MODELS = st.fixed_dictionaries(
    {"name": st.sampled_from(["Qwen/Qwen3-8B", "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-4B-Instruct-2507"])},
    optional={
        "source": st.one_of(
            _HUB.map(lambda hub: {"huggingFace": hub}),
            _HUB.map(lambda hub: {"modelScope": hub}),
            st.fixed_dictionaries({"claimName": _NAMES}, optional={"path": _PATHS}).map(lambda at: {"volume": at}),
        ),
        "template": st.sampled_from(["qwen", "qwen3", "qwen3_nothink"]),
        "attention": st.sampled_from(["auto", "sdpa", "eager"]),
        "trustRemoteCode": st.booleans(),
    },
)
_SOURCES = st.one_of(
    st.fixed_dictionaries({"name": _NAMES, "key": st.just("rows.json")}).map(lambda at: {"configMap": at}),
    st.fixed_dictionaries({"claimName": _NAMES, "path": _PATHS}).map(lambda at: {"volume": at}),
)
_COUNT = {"sampleCount": st.integers(1, 10**9)}
_DATASETS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"name": _NAMES, "format": st.just("alpaca"), "source": _SOURCES},
            optional=_COUNT | {"columns": _block(prompt=_NAMES, query=_NAMES, response=_NAMES, system=_NAMES)},
        ),
        st.fixed_dictionaries(
            {"name": _NAMES, "format": st.just("sharegpt"), "source": _SOURCES},
            optional=_COUNT
            | {
                "columns": _block(messages=_NAMES, tools=_NAMES),
                "tags": _block(role=_NAMES, content=_NAMES, user=_NAMES, assistant=_NAMES),
            },
        ),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda dataset: str(dataset["name"]),
)
_LORA = _block(
    rank=st.integers(1, 4096),
    alpha=st.integers(1, 65536),
    dropout=st.floats(0, 0.99),
    targets=st.one_of(
        st.just(["all"]), st.lists(st.sampled_from(["q_proj", "k_proj"]), min_size=1, max_size=2, unique=True)
    ),
    additionalTargets=st.just(["lm_head"]),
    rslora=st.booleans(),
)
_TUNING = st.one_of(st.just({"method": "full"}), _block(method=st.just("lora"), lora=_LORA))
_LENGTH: st.SearchStrategy[Document] = st.one_of(
    st.just({}), _block(epochs=st.floats(0.01, 100)), _block(maxSteps=st.integers(1, 10**8))
)
_WARMUP: st.SearchStrategy[Document] = st.one_of(
    st.just({}), _block(warmupSteps=st.integers(0, 10**6)), _block(warmupRatio=st.floats(0, 0.99))
)
_TRAINING = st.builds(
    lambda *parts: {key: value for part in parts for key, value in part.items()},
    _LENGTH,
    _WARMUP,
    _block(
        learningRate=st.floats(1e-9, 1),
        scheduler=st.sampled_from(["linear", "cosine", "constant"]),
        weightDecay=st.floats(0, 1),
        perDeviceTrainBatchSize=st.integers(1, 65536),
        cutoffLen=st.integers(16, 1_048_576),
        packing=st.booleans(),
        precision=st.sampled_from(["bf16", "fp32"]),
        seed=st.integers(0, 2**31 - 1),
        saveTotalLimit=st.integers(1, 1000),
    ),
)
_WORKER = _block(
    image=st.just("registry.example.com/trainer:1"),
    accelerator=_block(resource=st.just("amd.com/gpu"), count=st.integers(0, 16)),
    resources=_RESOURCES,
    nodeSelector=_LABELS,
    podLabels=_LABELS,
    affinity=st.just({"nodeAffinity": {}}),
    env=st.lists(
        st.fixed_dictionaries({"name": st.sampled_from(["A", "B", "C"])}, optional={"value": _NAMES}),
        max_size=3,
        unique_by=lambda variable: str(variable["name"]),
    ),
    sharedMemory=_QUANTITIES,
    securityContext=_block(runAsUser=st.integers(1, 2**31 - 1), fsGroup=st.integers(0, 2**31 - 1)),
)
_VOLUMES = st.one_of(
    _NAMES.map(lambda name: {"claimName": name}),
    st.fixed_dictionaries(
        {"size": _QUANTITIES}, optional={"storageClassName": _NAMES, "accessModes": st.just(["ReadWriteMany"])}
    ).map(lambda template: {"claimTemplate": template}),
)
_SPECS = st.fixed_dictionaries(
    {
        "model": _MODELS,
        "datasets": _DATASETS,
        "storage": st.fixed_dictionaries(
            {"volume": _VOLUMES},
            optional={
                "path": _PATHS,
                "retain": st.booleans(),
                "onExisting": st.sampled_from(["Fail", "Resume", "Overwrite"]),
            },
        ),
    },
    optional={
        "tuning": _TUNING,
        "training": _TRAINING,
        "distribution": _block(nodes=st.integers(1, 1024), masterPort=st.integers(10_000, 65_535)),
        "worker": _WORKER,
        "prepare": _block(resources=_RESOURCES, retries=st.integers(0, 20)),
        "merge": _block(
            enabled=st.booleans(), shardSizeGB=st.integers(1, 1000), path=_PATHS.map(lambda path: "m/" + path)
        ),
        "runPolicy": _block(suspend=st.booleans(), maxRestarts=st.integers(0, 1000)),
        "extraArguments": st.dictionaries(st.sampled_from(["neftune_noise_alpha", "report_to"]), _NAMES, max_size=2),
    },
)


def job_documents() -> st.SearchStrategy[Document]:
    """Valid documents, as a user may write them."""
    return st.builds(
        lambda name, spec: {
            "apiVersion": "qwensft.io/v1alpha1",
            "kind": "QwenSFTJob",
            "metadata": {"name": name},
            "spec": spec,
        },
        _NAMES,
        _SPECS,
    )


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value, with many keys of a spec in it."""
    keys = st.sampled_from(["model", "name", "datasets", "storage", "volume", "training", "worker", "claimName", "x"])
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=10))
    return st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner)))


_ODD_VALUES = st.sampled_from(
    [
        0,
        -1,
        1,
        9400,
        10**12,
        0.5,
        True,
        "",
        "0",
        "x",
        "../x",
        "/x",
        "x/",
        "all",
        "full",
        "fp16",
        "fa2",
        [],
        ["x"],
        {},
        {"x": 1},
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> Document:
    """A valid document that was changed in one way, mostly for the worse.

    One value is replaced or removed, or a block of another valid document is laid over it (two sources, two lengths).
    """
    document = copy.deepcopy(draw(job_documents()))
    if draw(st.booleans()):
        other = draw(job_documents())["spec"]
        block = draw(st.sampled_from(sorted(other)))
        _overlay(document["spec"], {block: copy.deepcopy(other[block])})
        return document
    holder, key = draw(st.sampled_from(list(_places(document["spec"]))))
    if draw(st.booleans()):
        holder[key] = draw(_ODD_VALUES)
    else:
        del holder[key]
    return document


def _overlay(target: Document, addition: Document) -> None:
    for key, value in addition.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _overlay(target[key], value)
        else:
            target[key] = value


def _places(node: Any) -> Any:
    """Every (container, key) below a node."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in list(items):
        yield node, key
        yield from _places(child)
