"""Strategies for QwenSFTJob documents, for the property tests and for the contract tests that compare two validators.

`job_documents` makes valid ones by construction; `mutations` makes others from them.
"""

import string
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]

_NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
_PATHS = st.lists(st.text(string.ascii_letters + "._-支", min_size=1, max_size=8), min_size=1, max_size=3).map(
    lambda parts: "/".join(part if part.strip(".") else "x" for part in parts)
)
_BYTES = st.one_of(st.integers(2**20, 2**40), st.sampled_from(["1Mi", "1.5Gi", "2Ti", "100e6", "1048576"]))
_LABELS = st.dictionaries(st.sampled_from(["team", "example.com/pool", "zone"]), _NAMES, max_size=2)


def _block(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    """An object in which every field is optional."""
    return st.fixed_dictionaries({}, optional=fields)


_RESOURCES = _block(
    requests=_block(cpu=st.integers(1, 8), memory=st.sampled_from([0, "1Mi", "500M"])),
    limits=_block(
        cpu=st.integers(8, 64),
        memory=st.sampled_from(["500M", "64Gi", 2**40]),
        **{"example.com/nic": st.integers(1, 8)},
    ),
)
_SECRET_KEY = st.fixed_dictionaries({"name": _NAMES, "key": st.just("token")})
_ENDPOINTS = st.sampled_from(["https://hub.example.com", "http://mirror.example.com:8080/hf"])
_HUB = _block(
    repo=st.sampled_from(["Qwen/Qwen3-8B", "acme/tuned"]),
    revision=st.sampled_from(["main", "v1.0"]),
    tokenSecretRef=_SECRET_KEY,
    endpoint=_ENDPOINTS,
)
_CLAIM_PATHS = st.fixed_dictionaries({"claimName": _NAMES}, optional={"path": _PATHS})
_DOWNLOADS = st.one_of(_HUB.map(lambda hub: {"huggingFace": hub}), _HUB.map(lambda hub: {"modelScope": hub}))
_MOUNTS = st.one_of(
    _CLAIM_PATHS.map(lambda at: {"volume": at}),
    st.fixed_dictionaries(
        {"reference": st.just("registry.example.com/qwen3:1")},
        optional={"path": _PATHS, "pullPolicy": st.sampled_from(["Always", "IfNotPresent"])},
    ).map(lambda image: {"image": image}),
    _NAMES.map(lambda name: {"run": {"name": f"{name}-before"}}),  # none begins with its own result
)
_HUB_DATASETS = st.fixed_dictionaries(
    {"repo": st.just("acme/rows")},
    optional={"revision": st.just("main"), "tokenSecretRef": _SECRET_KEY, "endpoint": _ENDPOINTS},
)
_SOURCES = st.one_of(
    st.fixed_dictionaries({"name": _NAMES, "key": st.just("rows.json")}).map(lambda at: {"configMap": at}),
    st.fixed_dictionaries({"claimName": _NAMES, "path": _PATHS}).map(lambda at: {"volume": at}),
    st.builds(
        lambda hub, where: {"huggingFace": hub | where}, _HUB_DATASETS, _block(subset=_NAMES, split=st.just("train"))
    ),
    st.builds(lambda hub, path: {"modelScope": hub | {"path": path}}, _HUB_DATASETS, _PATHS),
    st.fixed_dictionaries(
        {"url": st.sampled_from(["s3://bucket/rows.jsonl", "s3://bucket/a/b.parquet"])},
        optional={
            "endpoint": _ENDPOINTS,
            "credentialsSecretRef": _NAMES.map(lambda name: {"name": name}),
            "sha256": st.just("0" * 64),
        },
    ).map(lambda at: {"url": at}),
    st.sampled_from(["https://example.com/rows.csv?v=1", "gs://bucket/rows.json"]).map(lambda at: {"url": {"url": at}}),
)


@dataclass(frozen=True)
class _Base:
    """What the rest of a document depends on."""

    name: str
    template: str | None = None
    reasoning: bool = False
    vision: bool = False
    experts: bool = False
    pre_quantised: bool = False
    linear_attention: bool = False
    always_thinks: bool = False


_BASES = st.sampled_from(
    [
        _Base("Qwen/Qwen3-8B", reasoning=True),
        _Base("Qwen/Qwen2.5-7B-Instruct"),
        _Base("Qwen/Qwen3-4B-Instruct-2507"),
        _Base("Qwen/Qwen2.5-7B-Instruct-AWQ", pre_quantised=True),
        _Base("Qwen/Qwen3-30B-A3B", reasoning=True, experts=True),
        _Base("Qwen/Qwen2.5-VL-7B-Instruct", vision=True),
        _Base("Qwen/Qwen3.5-4B", reasoning=True, vision=True, linear_attention=True),
        _Base("Qwen/Qwen3-4B-Thinking-2507", reasoning=True, always_thinks=True),
        _Base("acme/unheard-of", reasoning=True, vision=True),
        _Base("acme/tuned", template="qwen3_vl_nothink", vision=True),
        _Base("acme/tuned", template="qwen3", reasoning=True),
    ]
)
_TOKENS = st.lists(st.sampled_from(["<|note|>", "支持", "two words"]), max_size=2, unique=True)
_MODULES = st.one_of(
    st.just(["all"]), st.lists(st.sampled_from(["q_proj", "k_proj"]), min_size=1, max_size=2, unique=True)
)


@st.composite
def _models(draw: st.DrawFn, base: _Base) -> Document:
    model: Document = {"name": base.name}
    if base.template:
        model["template"] = base.template
    if base.reasoning and draw(st.booleans()):
        model["enableThinking"] = base.always_thinks or draw(st.booleans())
    if draw(st.booleans()):
        model |= draw(st.one_of(_MOUNTS.map(lambda at: {"source": at}), _DOWNLOADS.map(lambda at: {"source": at})))
    if not set(model.get("source", {})) & {"volume", "image", "run"} and draw(st.booleans()):
        model["cache"] = draw(_CLAIM_PATHS)
    return model | draw(_block(attention=st.sampled_from(["auto", "sdpa", "eager"]), trustRemoteCode=st.booleans()))


@st.composite
def _datasets(draw: st.DrawFn, base: _Base, prefix: str, most: int) -> list[Document]:
    """A list of datasets, whose names begin with the prefix."""
    media = {"images": _NAMES, "videos": _NAMES} if base.vision else {}
    conversation = _block(messages=_NAMES, tools=_NAMES, **media)
    kinds = st.sampled_from(
        [
            ("alpaca", {"columns": _block(prompt=_NAMES, query=_NAMES, response=_NAMES, system=_NAMES, **media)}),
            (
                "sharegpt",
                {
                    "columns": conversation,
                    "tags": _block(role=_NAMES, content=_NAMES, user=_NAMES, assistant=_NAMES),
                },
            ),
            ("openai", {"columns": conversation}),
        ]
    )
    datasets = []
    for number in range(draw(st.integers(1, most))):
        format_, blocks = draw(kinds)
        fixed = {"name": f"{prefix}{number}", "format": format_, "source": draw(_SOURCES)}
        datasets.append(fixed | draw(_block(sampleCount=st.integers(1, 10**8), **blocks)))
    return datasets


@st.composite
def _tunings(draw: st.DrawFn, base: _Base, zero3: bool, grows: bool) -> Document:
    """A tuning block; `grows` says that tokens are added."""
    lora = _block(
        rank=st.integers(1, 4096),
        alpha=st.integers(1, 65536),
        dropout=st.floats(0, 0.99),
        targets=_MODULES,
        additionalTargets=st.just(["lm_head"]),
        rslora=st.booleans(),
        loraPlusRatio=st.floats(1, 100),
    )
    unquantised = lora if zero3 else st.builds(lambda a, b: a | b, lora, _block(pissa=st.booleans()))
    extra = st.just({"extraModules": ["embed_tokens"]}) if grows else _block(extraModules=st.just(["norm"]))
    freeze = st.builds(
        lambda a, b: a | b, extra, _block(trainableLayers=st.integers(-8, 8).filter(bool), trainableModules=_MODULES)
    )
    four_bits = _block(bits=st.just(4), type=st.sampled_from(["nf4", "fp4"]), doubleQuantization=st.booleans())
    others = st.sampled_from([{"bits": 8}, {"method": "hqq"}, {"method": "eetq", "bits": 8}])
    kinds = [
        st.just({"method": "full"}),
        st.fixed_dictionaries({"method": st.just("freeze"), "freeze": freeze}),
        _block(method=st.just("lora"), lora=unquantised),
        st.fixed_dictionaries({"method": st.just("dora")}, optional={"lora": unquantised}),
    ]
    if not grows and not base.experts:
        fitting = four_bits if zero3 else st.one_of(four_bits, others)
        kinds.append(
            st.fixed_dictionaries({"method": st.just("qlora")}, optional={"lora": lora, "quantization": fitting})
        )
        kinds.append(
            st.fixed_dictionaries({"method": st.just("dora"), "quantization": four_bits}, optional={"lora": lora})
        )
    tuning: Document = draw(st.one_of(kinds))
    if base.vision and draw(st.booleans()):
        tuning["vision"] = draw(_block(freezeTower=st.booleans(), freezeProjector=st.booleans()))
    return tuning


def _trainings(precisions: list[str], accelerated: bool, weighted: bool) -> st.SearchStrategy[Document]:
    length: st.SearchStrategy[Document] = st.one_of(
        st.just({}), _block(epochs=st.floats(0.01, 100)), _block(maxSteps=st.integers(1, 10**8))
    )
    warmup: st.SearchStrategy[Document] = st.one_of(
        st.just({}), _block(warmupSteps=st.integers(0, 10**6)), _block(warmupRatio=st.floats(0, 0.99))
    )
    packing = st.sampled_from([{}, {"packing": True}, {"packing": True, "neatPacking": True}, {"neatPacking": False}])
    strategies = ["interleave_under", "interleave_over", "interleave_once"] + ([] if weighted else ["concat"])
    others = _block(
        learningRate=st.floats(1e-9, 1),
        scheduler=st.sampled_from(["linear", "cosine", "constant"]),
        weightDecay=st.floats(0, 1),
        perDeviceTrainBatchSize=st.integers(1, 65536),
        cutoffLen=st.integers(16, 1_048_576),
        mixStrategy=st.sampled_from(strategies),
        ligerKernel=st.booleans() if accelerated else st.just(False),
        seed=st.integers(0, 2**31 - 1),
        saveTotalLimit=st.integers(1, 1000),
    )
    return st.builds(
        lambda precision, *parts: {key: value for part in (*parts, precision) for key, value in part.items()},
        st.fixed_dictionaries({"precision": st.sampled_from(precisions)}),
        length,
        warmup,
        packing,
        others,
    )


_DEEPSPEEDS = st.one_of(
    st.just({"stage": 0}),
    st.fixed_dictionaries({"stage": st.sampled_from([1, 2])}, optional={"offloadOptimizer": st.booleans()}),
    st.fixed_dictionaries(
        {"stage": st.just(3)}, optional={"offloadOptimizer": st.booleans(), "offloadParameters": st.booleans()}
    ),
    st.fixed_dictionaries({"name": _NAMES, "key": st.just("zero.json")}).map(lambda at: {"config": at}),
)
_WORKER = _block(
    image=st.just("registry.example.com/trainer:1"),
    resources=_RESOURCES,
    nodeSelector=_LABELS,
    podLabels=_LABELS,
    jobLabels=_LABELS,
    schedulerName=_NAMES,
    affinity=st.just({"nodeAffinity": {}}),
    env=st.lists(
        st.fixed_dictionaries({"name": st.sampled_from(["A", "B", "C"])}, optional={"value": _NAMES}),
        max_size=3,
        unique_by=lambda variable: str(variable["name"]),
    ),
    sharedMemory=_BYTES,
    hostNetwork=st.booleans(),
    networkInterface=st.just("eth0"),
    securityContext=_block(
        assignIds=st.booleans(),
        runAsUser=st.integers(1, 2**31 - 1),
        fsGroup=st.integers(0, 2**31 - 1),
    ),
)
_VOLUMES = st.one_of(
    _NAMES.map(lambda name: {"claimName": name}),
    st.fixed_dictionaries(
        {"size": _BYTES}, optional={"storageClassName": _NAMES, "accessModes": st.just(["ReadWriteMany"])}
    ).map(lambda template: {"claimTemplate": template}),
)
_OTHER_BLOCKS = st.fixed_dictionaries(
    {
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
        "prepare": _block(resources=_RESOURCES, retries=st.integers(0, 20)),
        "merge": _block(
            enabled=st.booleans(), shardSizeGB=st.integers(1, 1000), path=_PATHS.map(lambda path: "m/" + path)
        ),
        "runPolicy": _block(suspend=st.booleans(), maxRestarts=st.integers(0, 1000), retry=st.integers(0, 2**31 - 1)),
        "extraArguments": _block(neftune_noise_alpha=_NAMES, lr_scheduler_kwargs=_NAMES, report_to=st.just("none")),
    },
)


@st.composite
def _specs(draw: st.DrawFn) -> Document:
    base = draw(_BASES)
    count = draw(st.none() | st.integers(0, 16))
    deepspeed = draw(st.none() | _DEEPSPEEDS)
    if base.pre_quantised and deepspeed and deepspeed.get("stage") == 3:
        deepspeed = {"stage": 2}
    accelerated = count != 0
    zero3 = deepspeed is not None and deepspeed.get("stage") == 3
    precisions = ["bf16", "fp32"] if accelerated or not deepspeed else ["fp32"]
    if accelerated:
        precisions += ["fp16"] if deepspeed else ["fp16", "pure_bf16"]
    added = draw(st.sampled_from([{}, {}, {"addTokens": draw(_TOKENS), "addSpecialTokens": draw(_TOKENS)}]))
    datasets = draw(_datasets(base, "train-", 4))
    weighted = draw(st.booleans())
    if weighted:
        datasets = [dataset | {"weight": draw(st.floats(0.001, 1000))} for dataset in datasets]
    spec: Document = {
        "model": draw(_models(base)) | added,
        "datasets": datasets,
        "training": draw(_trainings(precisions, accelerated, weighted)),
    }
    if base.linear_attention:
        spec["training"].pop("neatPacking", None)
    if draw(st.booleans()):
        spec["tuning"] = draw(_tunings(base, zero3, any(added.values())))
    worker = draw(_WORKER)
    if count is not None:
        memory = draw(_block(resource=st.just("amd.com/gpu"), memory=_BYTES))
        worker["accelerator"] = {"count": count} | memory
    spec["worker"] = worker
    distribution = draw(_block(nodes=st.integers(1, 1024), masterPort=st.integers(10_000, 65_535)))
    spec["distribution"] = distribution | ({"deepspeed": deepspeed} if deepspeed else {})
    fraction = st.floats(0.001, 0.999).map(lambda share: {"fraction": share})
    sets = _datasets(base, "eval-", 2).map(lambda chosen: {"datasets": chosen})
    if draw(st.booleans()):
        every = _block(everySteps=st.integers(1, 10**6), batchSize=st.integers(1, 64), samples=st.integers(0, 32))
        held_out = st.one_of(fraction, sets).flatmap(lambda rows: every.map(lambda more: rows | more))
        spec["evaluation"] = draw(st.one_of(held_out, st.just({"samples": 2})))
    return spec | draw(_OTHER_BLOCKS)


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
        _specs(),
    )


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value, with many keys of a spec in it."""
    keys = st.sampled_from(["model", "name", "datasets", "storage", "volume", "training", "worker", "claimName", "x"])
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=10))
    return st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner)))
