"""Tokens that were added for the training, written into the base's files as transformers 4 and 5 both read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.contract.errors import PermanentError

_SPECIAL = "additional_special_tokens"
Token = Mapping[str, Any]  # an entry of "added_tokens" in tokenizer.json: id, content, special, ...


def are_listed(base: Path) -> bool:
    """Whether any of the base's files lists added tokens: vocab.json and merges.txt alone do not."""
    config = files.read_json_object(base / "tokenizer_config.json") or {}
    alone = isinstance(config.get("added_tokens_decoder"), dict) or (base / "added_tokens.json").is_file()
    return alone or (base / "tokenizer.json").is_file()


def added(base: Path, trained: Path) -> list[Token]:
    """The tokens, in the order of their ids, that `trained` has and `base` has not.

    Raises MergeFailed when the base's vocabulary has another token of the same id.
    """
    learnt = files.read_json_object(trained / "tokenizer.json")
    if learnt is None:
        raise PermanentError("MergeFailed", f"{trained} has no tokenizer.json, which tells the added tokens' ids.")
    vocabulary = files.read_json_object(base / "tokenizer.json") or {}
    decoder = (files.read_json_object(base / "tokenizer_config.json") or {}).get("added_tokens_decoder") or {}
    listed = files.read_json_object(base / "added_tokens.json") or {}
    own = [(token["content"], token["id"]) for token in vocabulary.get("added_tokens") or []]
    decoded = [(token["content"], int(number)) for number, token in decoder.items()]
    known = {content for content, _ in own or decoded}
    new = (token for token in learnt["added_tokens"] if token["content"] not in known)
    tokens = sorted(new, key=lambda token: token["id"])
    trained_too = [(token["content"], token["id"]) for token in tokens]
    _refuse_collisions(tokens, chain(own, decoded, listed.items(), _words(vocabulary), trained_too))
    return tokens


def in_tokenizer(tokenizer: dict[str, Any], tokens: Sequence[Token]) -> list[str]:
    """Add them to tokenizer.json."""
    tokenizer["added_tokens"] = [*(tokenizer.get("added_tokens") or []), *tokens]
    return _why(tokens)


def in_config(config: dict[str, Any], tokens: Sequence[Token]) -> list[str]:
    """Add them to tokenizer_config.json. One without a list of added tokens leaves them to tokenizer.json.

    A list of extra_special_tokens is transformers 5's own, which transformers 4 cannot read: it stays as it is.
    """
    decoder = config.get("added_tokens_decoder")
    missing = []
    if isinstance(decoder, dict):
        missing = [token for token in tokens if str(token["id"]) not in decoder]
        entries = ({key: token[key] for key in sorted(token)} for token in missing)
        decoder.update({str(entry.pop("id")): entry for entry in entries})
    is_read_by_4 = not isinstance(config.get("extra_special_tokens"), list)
    if is_read_by_4 and config.get(_SPECIAL) is None and any(token["special"] for token in tokens):
        config[_SPECIAL] = []
    special = in_specials(config, tokens)
    return _why(missing) or special


def in_specials(holder: dict[str, Any], tokens: Sequence[Token]) -> list[str]:
    """Add the special ones to the list additional_special_tokens, where there is one."""
    listed = holder.get(_SPECIAL)
    if not isinstance(listed, list):
        return []
    known = {entry["content"] if isinstance(entry, dict) else entry for entry in listed}
    missing = [token for token in tokens if token["special"] and token["content"] not in known]
    listed.extend(token["content"] for token in missing)
    return _why(missing)


def in_list(listed: dict[str, Any], tokens: Sequence[Token]) -> list[str]:
    """Add them to added_tokens.json."""
    listed.update({token["content"]: token["id"] for token in tokens})
    return _why(tokens)


def _refuse_collisions(tokens: Sequence[Token], held: Iterable[tuple[str, int]]) -> None:
    wanted = {token["id"]: token["content"] for token in tokens}
    for word, number in held:
        if wanted.get(number, word) != word:
            raise PermanentError(
                "MergeFailed",
                f"The added token {wanted[number]!r} has the id {number}, which is that of {word!r}.",
            )


def _words(vocabulary: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    words = (vocabulary.get("model") or {}).get("vocab")
    return words.items() if isinstance(words, dict) else ()


def _why(tokens: Sequence[Token]) -> list[str]:
    names = ", ".join(token["content"] for token in tokens)
    return [f"added tokens {names}"] if tokens else []
