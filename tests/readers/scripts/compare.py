"""What differs between base and merged model in a reader, and between readers: lines of text, none when all is well."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np  # type: ignore[import-not-found, unused-ignore]
from corpus import ADDED_TEXTS  # type: ignore[import-not-found]  # beside it in the pod

TOLERANCE = 1e-4
"""‖expected - given‖ / ‖expected‖ of logits in float32."""

END, END_ID = "<|im_end|>", 151645
NO_THOUGHTS = "<think>\n\n</think>\n\n"

Facts = Mapping[str, Any]


def of_transformers(directory: Path, case: Facts, reader: str, trainer: str) -> dict[str, list[str]]:
    """Findings by what was compared. `trainer` is the reader that the trainer itself is, against which others stand."""
    found, own = (json.loads((directory / f"{name}.json").read_text()) for name in (reader, trainer))
    base, merged = found["base"], found["merged"]
    told = json.loads((directory / "told.json").read_text())
    return {
        "positions": [*differing("", base, merged, ("rope",)), *turned(base, merged, own["merged"])],
        "tokens": [
            *tokens(base, merged, case),
            *differing("", base, merged, ("special",)),
            *differing("trainer: ", own["merged"], merged, ("tokens", "decoded", "special")),
        ],
        "ends": list(ends(base, merged, told)),
        "chat template": [*rendered(base, merged, case), *differing("trainer: ", own["merged"], merged, ("rendered",))],
        "weights": list(differing("", base, merged, ("missing", "left", "mismatched", "pixels"))),
        "logits": list(logits(directory, reader)),
    }


def of_llama_cpp(directory: Path, case: Facts, trainer: str) -> dict[str, list[str]]:
    """The same for llama.cpp, beside the release of transformers that the trainer itself is."""
    found = json.loads((directory / "llama.cpp.json").read_text())
    own = json.loads((directory / f"{trainer}.json").read_text())["merged"]
    config = json.loads((directory / "merged" / "config.json").read_text())
    answers = dict(enumerate(own["answers"])), dict(enumerate(found["answers"]))
    return {
        "positions": list(written(found["metadata"], config)),
        "tokens": [
            *tokens(found["base"], found, case),
            *differing("trainer: ", normal(own), normal(found), ("tokens",)),
        ],
        "ends": unequal("eos_token_id", END_ID, found["metadata"].get("tokenizer.ggml.eos_token_id")),
        "chat template": list(template(found["metadata"], case)),
        "answers": list(differing("trainer: ", {"answers": answers[0]}, {"answers": answers[1]}, ("answers",))),
        "logits": [f"{error:.2g} away" for error in found["errors"] if not error <= TOLERANCE],
    }


def unequal(what: str, wanted: Any, given: Any) -> list[str]:
    """A line when they are."""
    return [] if wanted == given else [f"{what}: {wanted!r} became {given!r}"]


def differing(before: str, one: Facts, other: Facts, names: tuple[str, ...]) -> Iterator[str]:
    """A line for each fact that is not the same, and for each of those that a fact consists of."""
    for name in names:
        if isinstance(one[name], dict):
            for key in one[name]:
                yield from unequal(f"{before}{name} of {key!r}", one[name][key], other[name].get(key))
        else:
            yield from unequal(before + name, one[name], other[name])


def turned(base: Facts, merged: Facts, own: Facts) -> Iterator[str]:
    """The inverse frequencies of the built models: those of the base, and those that the trainer computes with."""
    yield from differing("", base, merged, ("rotary",))
    wanted, given = (distinct(facts["rotary"]) for facts in (own, merged))
    if len(wanted) != len(given) or not all(
        len(one[0]) == len(other[0]) and np.allclose(one[0], other[0], rtol=1e-6) and np.isclose(one[1], other[1])
        for one, other in zip(wanted, given, strict=True)
    ):
        yield f"trainer: inverse frequencies {wanted} became {given}"


def distinct(rotary: Facts) -> list[Any]:
    """Those of a model's parts: some releases compute the same in every layer."""
    return sorted({str(value): value for value in rotary.values()}.values(), key=str)


def tokens(base: Facts, merged: Facts, case: Facts) -> Iterator[str]:
    """The base's, but for the texts with tokens that were added."""
    for fact in base.keys() & {"tokens", "decoded"}:
        for text, wanted in base[fact].items():
            if case["tokens"] and text in ADDED_TEXTS:
                if merged[fact][text] == wanted and fact == "tokens":
                    yield f"added tokens are not read in {text!r}"
            else:
                yield from unequal(f"{fact} of {text!r}", wanted, merged[fact][text])


def normal(facts: Facts) -> Facts:
    """Tokens without those of texts that Qwen's tokenizer normalises (NFC), which llama.cpp does for no model."""
    return {"tokens": {text: ids for text, ids in facts["tokens"].items() if unicodedata.is_normalized("NFC", text)}}


def ends(base: Facts, merged: Facts, told: list[str]) -> Iterator[str]:
    """The base's end of answers, or <|im_end|> first where the merge says that it has changed it."""
    if not any(END in line for line in told):
        yield from differing("", base, merged, ("eos",))
        return
    for place, given in merged["eos"].items():
        first = given[0] if isinstance(given, list) else given
        if first not in (END, END_ID):
            yield f"eos of {place} is {given!r}"
    yield from unequal("eos of the tokenizer", [END, END_ID], merged["eos"]["the tokenizer"])


def rendered(base: Facts, merged: Facts, case: Facts) -> Iterator[str]:
    """The base's prompts; with thinking off, each goes on behind an empty thought."""
    for wanted, given in zip(base["rendered"], merged["rendered"], strict=True):
        asks = wanted.endswith("<|im_start|>assistant\n")
        yield from unequal("rendered", wanted + (NO_THOUGHTS if asks and not case["thinking"] else ""), given)


def logits(directory: Path, reader: str) -> Iterator[str]:
    """Those that base and adapter have."""
    with np.load(directory / "expected.npz") as expected, np.load(directory / f"{reader}.npz") as given:
        for name, wanted in expected.items():
            if wanted.shape != given[name].shape:
                yield f"prompt {name}: {wanted.shape} became {given[name].shape}"
            elif not (error := relative(wanted, given[name])) <= TOLERANCE:
                yield f"prompt {name}: {error:.2g} away"


def relative(wanted: Any, given: Any) -> float:
    """The relative error."""
    return float(np.linalg.norm(wanted - given) / np.linalg.norm(wanted))


def written(metadata: Facts, config: Facts) -> Iterator[str]:
    """What the GGUF file says of positions, beside config.json."""
    said = {name.partition(".rope.")[2]: value for name, value in metadata.items() if ".rope." in name}
    yield from unequal("freq_base", config["rope_theta"], said.get("freq_base"))
    scaling = config.get("rope_scaling") or {}
    wanted = {
        "scaling.type": scaling.get("rope_type", scaling.get("type")),
        "scaling.factor": scaling.get("factor"),
        "scaling.original_context_length": scaling.get("original_max_position_embeddings"),
    }
    for name, value in wanted.items():
        yield from unequal(name, value, said.get(name))


def template(metadata: Facts, case: Facts) -> Iterator[str]:
    """The chat template is in the file, with the default that thinking off puts before it."""
    text = metadata.get("tokenizer.chat_template", "")
    if "<|im_start|>" not in text:
        yield "no chat template"
    if not case["thinking"] and not text.startswith("{%- if enable_thinking is not defined %}"):
        yield "its chat template thinks by default"
