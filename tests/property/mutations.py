"""Documents that were changed for the worse, for the contract tests that compare two validators."""

import copy
from typing import Any

from hypothesis import strategies as st

from .documents import Document, job_documents

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
        "1e1000000",
        "x",
        "../x",
        "/x",
        "x/",
        "all",
        "full",
        "fp16",
        "pure_bf16",
        "fp32",
        "fa2",
        "freeze",
        "lora",
        "qlora",
        "dora",
        "openai",
        "qwen",
        "Qwen/Qwen3-30B-A3B",
        "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4",
        3,
        8,
        [],
        ["x"],
        {},
        {"x": 1},
    ]
)
_CONFLICTS: list[Document] = [
    {"model": {"name": "Qwen/Qwen3-30B-A3B"}},
    {"model": {"name": "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4"}},
    {"model": {"name": "Qwen/Qwen2.5-7B-Instruct"}},
    {"model": {"addTokens": ["<|note|>"]}},
    {"worker": {"accelerator": {"count": 0}}},
    {"distribution": {"deepspeed": {"stage": 3}}},
    {"distribution": {"deepspeed": {"offloadOptimizer": True}}},
    {"distribution": {"deepspeed": {"stage": 2, "offloadParameters": True}}},
    {"training": {"precision": "pure_bf16"}},
    {"training": {"precision": "fp16"}},
    {"training": {"neatPacking": True}},
    {"model": {"attention": "fa2"}, "training": {"packing": True, "neatPacking": True}},
    {"training": {"ligerKernel": True}},
    {"training": {"mixStrategy": "concat"}},
    {"tuning": {"method": "full"}},
    {"tuning": {"method": "freeze", "freeze": {"trainableLayers": 0}}},
    {"tuning": {"method": "qlora"}},
    {"tuning": {"quantization": {"bits": 8}}},
    {"tuning": {"quantization": {"method": "hqq"}}},
    {"tuning": {"quantization": {"method": "eetq"}}},
    {"tuning": {"lora": {"pissa": True}}},
    {"tuning": {"vision": {"freezeLanguageModel": True}}},
    {"evaluation": {"fraction": 0.5}},
    {"worker": {"env": [{"name": "GLOO_SOCKET_IFNAME"}]}},
    *(
        {"extraArguments": {name: "true"}}
        for name in (
            "use_galore",
            "use_badam",
            "use_unsloth",
            "fp8",
            "use_llama_pro",
            "load_best_model_at_end",
            "lora_rank",
            "Rank",
        )
    ),
]


@st.composite
def mutated(draw: st.DrawFn) -> Document:
    """A valid document that was changed in one way, mostly for the worse.

    One value is replaced or removed, a block of another valid document is laid over it (two sources, two lengths), or
    something that excludes much else.
    """
    document = copy.deepcopy(draw(job_documents()))
    way = draw(st.sampled_from(["value", "block", "conflict"]))
    if way == "block":
        other = draw(job_documents())["spec"]
        block = draw(st.sampled_from(sorted(other)))
        _overlay(document["spec"], {block: copy.deepcopy(other[block])})
        return document
    if way == "conflict":
        _overlay(document["spec"], copy.deepcopy(draw(st.sampled_from(_CONFLICTS))))
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
