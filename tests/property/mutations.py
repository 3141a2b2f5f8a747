"""Documents that were changed for the worse, for the tests that compare two validators."""

import copy
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import strategies as st

from .documents import Document, job_documents

_ODD_VALUES: list[Any] = [
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
    "16m",
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
    {"evaluation": {"fraction": 0.5, "keepBest": True, "everySteps": 7}},
    {"evaluation": {"fraction": 0.5, "earlyStopping": {"patience": 1}}, "training": {"saveSteps": 300}},
    {"worker": {"env": [{"name": "GLOO_SOCKET_IFNAME"}]}},
    *(
        {"extraArguments": {name: "true"}}
        for name in (
            "use_galore",
            "use_badam",
            "use_unsloth",
            "fp8",
            "use_llama_pro",
            "eval_on_each_dataset",
            "report_to",
            "push_to_hub",
            "lora_rank",
            "Rank",
        )
    ),
]


def change(random: Random, document: Document, other: Callable[[], Document]) -> Document:
    """Return a copy that was changed in one way, mostly for the worse.

    One value is replaced or removed, blocks of another document are laid over it (two sources, two lengths), or
    something that excludes much else.
    """
    changed = copy.deepcopy(document)
    spec = changed["spec"]
    way = random.choice(["value", "blocks", "conflict"])
    if way == "blocks":
        addition = other()["spec"]
        blocks = random.sample(sorted(addition), random.randint(1, len(addition)))
        _overlay(spec, {block: copy.deepcopy(addition[block]) for block in blocks})
    elif way == "conflict":
        _overlay(spec, copy.deepcopy(random.choice(_CONFLICTS)))
    else:
        holder, key = random.choice(list(_places(spec)))
        if random.random() < 0.5:
            holder[key] = copy.deepcopy(random.choice(_ODD_VALUES))
        else:
            del holder[key]
    return changed


@st.composite
def mutated(draw: st.DrawFn) -> Document:
    """A valid document that was changed in one way."""
    random = draw(st.randoms(use_true_random=False))
    return change(random, draw(job_documents()), lambda: draw(job_documents()))


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
