"""What stands beside the weights of a merged model: the base's files byte for byte, but for what training has changed.

An export by LLaMA-Factory writes them anew, as transformers 5 does; servers on transformers 4 read some of that
wrongly. None of it stays.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from qwensft_trainer.contract.outputs import MANIFEST
from qwensft_trainer.merging import added_tokens, configs, endings, modelfile, thinking
from qwensft_trainer.merging.documents import Document, Edit
from qwensft_trainer.model import families

_SUFFIXES = frozenset({".json", ".txt", ".jinja", ".model", ".py"})
_NOTICES = ("LICENSE", "NOTICE")
_INDEX = ".index.json"
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", _INDEX)
_TEMPLATE = "chat_template.jinja"
_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Changed:
    """What training and the merge have changed beside the weights.

    `dtype` is bf16, fp16 or fp32 where spec.merge.dtype names one, `rows` the number of the embeddings' where there
    are others than in the base. `template` is LLaMA-Factory's name. `system` is the system prompt of conversations
    without one, None where it is not known. `tokenizer` is the directory of the trained tokenizer, where tokens were
    added.
    """

    dtype: str | None
    untied: bool
    rows: int | None
    template: str
    thinking: bool
    tokenizer: Path | None
    system: str | None = ""

    @property
    def answers_at_once(self) -> bool:
        """Whether training has put empty thoughts before the answers of a model that can think."""
        return not self.thinking and self.template in families.REASONING


def write(base: Path, merged: Path, changed: Changed) -> list[str]:
    """Put the base's files beside the weights in `merged`, in the place of all that is there.

    Returns a line for each file that differs from the base's, with why. Raises PermanentError MergeFailed for added
    tokens that the base's vocabulary has no room for.
    """
    edited, told = _edited(base, _edits(base, changed))
    if changed.answers_at_once and (base / _TEMPLATE).is_file():
        text, why = thinking.in_text((base / _TEMPLATE).read_bytes())
        if why:
            edited[_TEMPLATE] = text
            told.append(_line(_TEMPLATE, why))
    run_by_ollama = (
        None
        if changed.system is None
        else modelfile.modelfile(changed.template, thinking=changed.thinking, system=changed.system)
    )
    _clear(merged)
    if changed.tokenizer is not None and not added_tokens.are_listed(base):
        shutil.copyfile(changed.tokenizer / _TOKENIZER, merged / _TOKENIZER)
        told.append(_line(_TOKENIZER, ["added tokens; the base has no list of any"]))
    for path in _companions(base):
        if path.name in edited:
            (merged / path.name).write_bytes(edited[path.name])
        else:
            shutil.copyfile(path, merged / path.name)
    if run_by_ollama:
        (merged / modelfile.FILE_NAME).write_text(run_by_ollama, encoding="utf-8")
        told.append(_line(modelfile.FILE_NAME, ["for Ollama"]))
    return told


def missing(base: Path, merged: Path) -> list[str]:
    """Names of files of the base that should stand beside the weights and do not, as when somebody took them away."""
    return [path.name for path in _companions(base) if not (merged / path.name).is_file()]


def _edits(base: Path, changed: Changed) -> Mapping[str, list[Edit]]:
    """By name of a file, what may change in it."""
    edits: dict[str, list[Edit]] = defaultdict(list)
    edits["config.json"].append(configs.set_plain)
    if changed.dtype:
        edits["config.json"].append(partial(configs.set_dtype, dtype=changed.dtype))
    if changed.rows is not None:
        edits["config.json"].append(partial(configs.set_rows, rows=changed.rows))
    if changed.untied:
        edits["config.json"].append(configs.untie)
    end = endings.end_of(base)
    if end is not None:
        edits["config.json"].append(partial(endings.in_config, end=end))
        edits["generation_config.json"].append(partial(endings.in_generation, end=end))
        edits["tokenizer_config.json"].append(endings.in_tokenizer)
        edits["special_tokens_map.json"].append(endings.in_tokenizer)
    if changed.answers_at_once:
        edits["tokenizer_config.json"].append(thinking.in_json)
        edits["chat_template.json"].append(thinking.in_json)
    listed = changed.tokenizer is not None and added_tokens.are_listed(base)
    tokens = added_tokens.added(base, changed.tokenizer) if changed.tokenizer and listed else []
    if tokens:
        edits["tokenizer.json"].append(partial(added_tokens.in_tokenizer, tokens=tokens))
        edits["tokenizer_config.json"].append(partial(added_tokens.in_config, tokens=tokens))
        edits["special_tokens_map.json"].append(partial(added_tokens.in_specials, tokens=tokens))
        edits["added_tokens.json"].append(partial(added_tokens.in_list, tokens=tokens))
    return edits


def _edited(base: Path, edits: Mapping[str, list[Edit]]) -> tuple[dict[str, bytes], list[str]]:
    """The bytes of those files in which anything changes, and a line for each."""
    edited, told = {}, []
    for name, changes in edits.items():
        document = Document.read(base / name)
        why = [reason for change in changes for reason in change(document.content)] if document else []
        if document and why:
            edited[name] = document.data
            told.append(_line(name, why))
    return edited, told


def _line(name: str, why: list[str]) -> str:
    return f"{name}: {'; '.join(why)}"


def _companions(base: Path) -> Iterator[Path]:
    """The files beside the base's weights that belong to the model."""
    for path in sorted(base.iterdir()):
        if not path.is_file() or path.name.startswith((".", "adapter_")) or path.name == MANIFEST:
            continue
        if path.name.startswith(_NOTICES) or (path.suffix in _SUFFIXES and not path.name.endswith(_INDEX)):
            yield path


def _clear(merged: Path) -> None:
    """Leave the weights, their index, and hidden files, which are the merge's own."""
    for path in list(merged.iterdir()):
        if path.name.startswith(".") or path.name.endswith(_WEIGHTS):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
