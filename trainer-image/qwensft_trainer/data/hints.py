"""What a name that nothing reads may mean, and what to set or write then: names of columns, messages' keys and parts.

The names are those of published datasets and of other trainers' formats; what is near to one of them is taken for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping

from qwensft_trainer.data import preference

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
CALLS = ("tool_calls", "function_call")

USUAL = frozenset(
    (
        *("id", "_id", "uid", "uuid", "idx", "index", "row_id", "prompt_id", "conversation_id", "custom_id", "hash"),
        *("source", "dataset", "origin", "url", "license", "author", "model", "generator", "category", "task", "topic"),
        *("type", "lang", "language", "tags", "metadata", "meta", "created", "timestamp", "date", "version", "score"),
        *("num_turns", "tokens", "length", "name", "detail", "cache_control", "__index_level_0__"),
    )
)
"""Names that say where a text comes from, not what it is: nobody misses them."""

ALIASES = {
    "query": ("input", "inputs", "context", "query"),
    "history": ("history", "histories", "chat_history"),
    "system": ("system", "system_prompt", "sys_prompt", "system_message", "sysprompt"),
    "tools": ("tools", "tool", "functions", "function", "available_tools", "function_descriptions", "tools_json"),
    "images": ("images", "image", "img", "image_path", "image_paths", "image_file", "picture", "pictures", "photo"),
    "videos": ("videos", "video", "video_path", "video_paths", "video_file"),
}
"""What the columns of optional parts are called elsewhere."""

_THOUGHTS_ELSEWHERE = (
    *("thought", "thoughts", "think", "cot", "complex_cot", "chain_of_thought", "rationale", "scratchpad"),
    "reasoning_details",
)
_NOTES = {
    **dict.fromkeys((*THOUGHTS, *_THOUGHTS_ELSEWHERE), "thoughts belong before the answer, between <think> tags"),
    **dict.fromkeys(preference.PAIRED, "of a preference pair; the row's own answer is learned"),
    **dict.fromkeys(preference.LABELS, "if it marks bad answers, remove those rows"),
    **dict.fromkeys(("audio", "audios"), "audio cannot be trained on"),
    **dict.fromkeys(("enable_thinking", "chat_template_kwargs"), "spec.model.enableThinking holds for all rows"),
    **dict.fromkeys(("mask", "masked"), "'train': false in a message leaves it out"),
    **dict.fromkeys(("skip", "is_error", "error", "invalid"), "if it marks rows to leave out, remove those rows"),
    "split": "rows of all splits are used",
    "objects": "write the boxes themselves in place of <bbox> and <ref-object>",
}
_KEY_NOTES = {
    **dict.fromkeys(("images", "image", "videos", "video"), "files belong into a column of the row"),
    **dict.fromkeys(CALLS, "format openai reads it"),
}
_PART_NOTES = dict.fromkeys(
    ("url", "path", "base64", "data", "source", "file"), "a file belongs under 'image' or 'video'"
)

_SIMILAR = 0.85


def of_column(name: str, free: Mapping[str, str], *, sees: bool) -> str | None:
    """What to do about an unread column. `free` are the parts without a column in the rows, with the name expected.

    `sees` tells whether the model reads images.
    """
    known = {alias: part for part, column in free.items() for alias in (*ALIASES.get(part, ()), column)}
    plain = _plain(name)
    if plain not in known:
        if plain in _NOTES or plain in USUAL or (close := nearest(plain, known)) is None:
            return _NOTES.get(plain)
        plain = close
    part = known[plain]
    if part not in ("images", "videos"):
        return f"set columns.{part} to '{name}'"
    if not sees:
        return "this model reads text only"
    return f"set columns.{part} to '{name}' and write <{part[:-1]}> where each belongs"


def of_key(key: str) -> str | None:
    """What to do about an unread key of a message."""
    plain = _plain(key)
    if note := _KEY_NOTES.get(plain) or _NOTES.get(plain):
        return note
    close = None if plain in USUAL else nearest(plain, (*THOUGHTS, *CALLS))
    return f"did you mean '{close}'?" if close else None


def of_part_key(key: str) -> str | None:
    """What to do about an unread key of a part of a message's content."""
    return _PART_NOTES.get(_plain(key))


def replacement(part: str, name: str, columns: Collection[str]) -> str | None:
    """The column that was probably meant where the job names one for a part that no row has."""
    return nearest(name, columns) or next((one for one in columns if _plain(one) in ALIASES.get(part, ())), None)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that is spelt nearly like `name`."""
    return next(iter(difflib.get_close_matches(name, list(candidates), n=1, cutoff=_SIMILAR)), None)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
