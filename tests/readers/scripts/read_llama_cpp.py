"""Says how llama.cpp reads the merged model of each case, after its own converter has written it as GGUF in float32.

Usage: read_llama_cpp.py DIRECTORY SOURCES CASE... Leaves llama.cpp.json in each case's directory, with the relative
error of its logits beside expected.npz.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import llama_cpp  # type: ignore[import-not-found]  # the bindings beside the library
import numpy as np  # type: ignore[import-not-found, unused-ignore]
from corpus import ADDED_TEXTS, PROMPTS, TEXTS  # type: ignore[import-not-found]  # beside it in the pod
from gguf import GGUFReader  # type: ignore[import-not-found]  # the sources' own

GREEDY = 24
POSITIONS = 32
_KEYS = re.compile(
    r"\.rope\.|tokenizer\.ggml\.(eos|bos|padding)_token_id$|add_bos|tokenizer\.(chat_template|ggml\.pre)$"
)


def converted(model: Path, sources: Path, *options: str) -> Path:
    """Write the GGUF file. Raises SystemExit with what the converter says when it fails."""
    gguf = model.with_name(f"{model.name}.gguf")
    converter = sources / "convert_hf_to_gguf.py"
    command = [sys.executable, converter, model, "--outtype", "f32", "--outfile", gguf, *options]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"convert_hf_to_gguf.py cannot convert {model}:\n{done.stderr[-2000:]}")
    return gguf


def metadata(gguf: Path) -> dict[str, Any]:
    """What the file says of positions, ends and the chat template."""
    fields = GGUFReader(gguf).fields
    return {name: field.contents() for name, field in fields.items() if _KEYS.search(name)}


class Model:
    """A model in llama.cpp, all in float32; or its vocabulary alone."""

    def __init__(self, gguf: Path, *, vocabulary: bool = False) -> None:
        self._llama = llama_cpp.Llama(
            model_path=str(gguf),
            vocab_only=vocabulary,
            n_ctx=1024,
            logits_all=True,
            n_threads=2,
            flash_attn=False,
            type_k=llama_cpp.GGML_TYPE_F32,
            type_v=llama_cpp.GGML_TYPE_F32,
            verbose=False,
        )

    def tokens(self, text: str) -> list[int]:
        """As a server reads a rendered conversation: control tokens are such."""
        return list(self._llama.tokenize(text.encode(), add_bos=False, special=True))

    def logits(self, tokens: list[int]) -> Any:
        """Of all positions."""
        self._llama.reset()
        self._llama.eval(tokens)
        return self._llama.scores[: len(tokens)].copy()

    def greedy(self, tokens: list[int]) -> list[int]:
        """The likeliest token each time, with llama.cpp's cache."""
        answer = [int(self.logits(tokens)[-1].argmax())]
        while len(answer) < GREEDY:
            self._llama.eval(answer[-1:])
            answer.append(int(self._llama.scores[self._llama.n_tokens - 1].argmax()))
        return answer


def tokens(model: Model) -> dict[str, list[int]]:
    """Of all texts."""
    return {text: model.tokens(text) for text in (*TEXTS, *ADDED_TEXTS)}


def read(case: Path, sources: Path) -> dict[str, Any]:
    """Everything of one case."""
    gguf = converted(case / "merged", sources)
    model = Model(gguf)
    errors = []
    with np.load(case / "expected.npz") as expected:
        for prompt, wanted in zip(PROMPTS, expected.values(), strict=False):
            given = model.logits(model.tokens(prompt))[-POSITIONS:]
            errors.append(float(np.linalg.norm(given - wanted) / np.linalg.norm(wanted)))
    base = Model(converted(case / "base", sources, "--vocab-only"), vocabulary=True)
    return {
        "metadata": metadata(gguf),
        "base": {"tokens": tokens(base)},
        "tokens": tokens(model),
        "answers": [model.greedy(model.tokens(prompt)) for prompt in PROMPTS],
        "errors": errors,
    }


def main() -> None:
    """Read all cases."""
    directory, sources = Path(sys.argv[1]), Path(sys.argv[2])
    for case in sys.argv[3:]:
        found = read(directory / case, sources)
        (directory / case / "llama.cpp.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
