"""What an alpaca, a sharegpt and an OpenAI row must look like, and the one form all are normalised to.

LLaMA-Factory drops a row whose roles do not alternate and crashes on missing columns; here each becomes a RowProblem
that says what to mend. What an OpenAI message can hold is read in openai_messages.py, images are looked at in media.py.
ADR 0011 says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qwensft_trainer.contract.config import Dataset
from qwensft_trainer.data import loss_keys, odd_texts, openai_messages, preference, thoughts, tool_calls
from qwensft_trainer.data.layout import columns_of, keys_of, misfit
from qwensft_trainer.data.row_fields import Media, RowProblem, kind, media, sequence, text, tools, word
from qwensft_trainer.data.turns import (
    ANSWERS,
    ASKS,
    ASSISTANT,
    FUNCTION,
    OBSERVATION,
    SYSTEM,
    USER,
    Turn,
    answer,
    as_result,
    joined,
    remarks_of,
    up_to_what_is_learnt,
)

# How the rows of a normalised file are described to LLaMA-Factory: omitted tags would become None and drop rows.
NORMAL_COLUMNS = {"messages": "messages", "system": "system", "tools": "tools"}
NORMAL_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": USER,
    "assistant_tag": ASSISTANT,
    "observation_tag": OBSERVATION,
    "function_tag": FUNCTION,
    "system_tag": SYSTEM,
}
_ROLE_TAGS = {tag: role for tag, role in NORMAL_TAGS.items() if tag not in ("role_tag", "content_tag")}

# Remarks: what is no problem but should be told.
PLAIN_TOOLS = "have tool descriptions that are no JSON: they became part of the system prompt"
EMPTY_QUESTION = "have an empty question"
EMPTY_ANSWER = "have an empty answer: they teach to be silent"
COLUMN_OF_THOUGHTS = "have '{}', which was read as the thoughts before the answer"

# Both spellings in use are understood whatever the tags say: published datasets mix them freely.
_SPELLINGS = {
    "human": USER,
    "user": USER,
    "gpt": ASSISTANT,
    "assistant": ASSISTANT,
    "observation": OBSERVATION,
    "tool": OBSERVATION,
    "function_call": FUNCTION,
    "system": SYSTEM,
}


@dataclass(frozen=True)
class Conversation:
    """A row in the normal form: `messages` are {"role", "content"}, beginning with the user, ending with an answer.

    An answer that is not to be learnt has "learn": False, too; the last one is learnt.
    """

    messages: list[dict[str, Any]]
    system: str = ""
    tools: str = ""
    images: list[Media] = field(default_factory=list)
    videos: list[Media] = field(default_factory=list)
    remarks: tuple[str, ...] = ()


def conversation(dataset: Dataset, row: Any) -> Conversation:
    """Check one row against its dataset's format and return it in the normal form. Raises RowProblem."""
    if not isinstance(row, dict):
        of_messages = isinstance(row, list) and row and isinstance(row[0], dict)
        hint = '; write its messages as {"messages": [...]}' if of_messages else ""
        raise RowProblem(f"the row is {kind(row)}; every row must be a JSON object{hint}")
    columns = columns_of(dataset)
    preference.refuse_bad(row, columns.values())
    loss_keys.check_row(row, columns.values())
    try:
        return _conversation(dataset, columns, row)
    except RowProblem as problem:
        raise RowProblem(preference.pair_instead(dataset, row) or misfit(dataset, row) or str(problem)) from problem


def _conversation(dataset: Dataset, columns: Mapping[str, str], row: Mapping[str, Any]) -> Conversation:
    system = text(row, columns.get("system"))
    if dataset.format == "alpaca":
        turns = list(_alpaca(columns, row))
    else:
        turns = _messages(dataset, columns["messages"], row)
        if turns and turns[0].role == SYSTEM:
            system, turns = _one_system(columns.get("system", ""), system, turns[0].content), turns[1:]
        turns = joined(turns)
        _check_turns(columns["messages"], turns)
        turns = up_to_what_is_learnt(turns, placeholders=_has_media(columns, row))
    descriptions, plain = tools(row, columns.get("tools"))
    remarks = [PLAIN_TOOLS] if plain else []
    remarks += remarks_of(turns)
    remarks += _odd(system, plain, turns)
    return Conversation(
        messages=[turn.normal for turn in turns],
        system="\n\n".join(part for part in (system, plain) if part),
        tools=descriptions,
        images=_one_source("images", media(row, columns.get("images")), [one for turn in turns for one in turn.images]),
        videos=_one_source("videos", media(row, columns.get("videos")), [one for turn in turns for one in turn.videos]),
        remarks=tuple(remarks),
    )


def _odd(system: str, plain: str, turns: list[Turn]) -> Iterator[str]:
    """Texts that are empty, or look as if nobody had written them."""
    said = [turn for turn in turns if not turn.calls]
    if any(turn.role in ANSWERS and turn.learnt and not turn.content.strip() for turn in said):
        yield EMPTY_ANSWER
    if any(turn.role == USER and not turn.content.strip() for turn in said):
        yield EMPTY_QUESTION
    yield from dict.fromkeys(odd_texts.remarks([system, plain, *(turn.content for turn in said)]))


def _has_media(columns: Mapping[str, str], row: Mapping[str, Any]) -> bool:
    return any(row.get(columns.get(what, "")) for what in ("images", "videos"))


def _alpaca(columns: Mapping[str, str], row: Mapping[str, Any]) -> Iterator[Turn]:
    need = f"alpaca rows need '{columns['prompt']}' and '{columns['response']}'"
    prompt = text(row, columns["prompt"], need=need)
    query = text(row, columns.get("query"))
    response = text(row, columns["response"], need=need)
    if not prompt and not query:
        raise RowProblem(f"field '{columns['prompt']}' is empty; {need}")
    for ask, reply in _history(row, columns.get("history")):
        yield Turn(USER, ask)
        yield answer(Turn(ASSISTANT, reply), None)
    yield Turn(USER, "\n".join(part for part in (prompt, query) if part))
    yield _last_answer(row, response, named=set(columns.values()))


def _last_answer(row: Mapping[str, Any], response: str, named: set[str]) -> Turn:
    """An alpaca row's thoughts may stand in a column of their own, one that is not named as something else."""
    unnamed = {key: row[key] for key in thoughts.KEYS if key not in named and not thoughts.is_setting(row.get(key))}
    turn = answer(Turn(ASSISTANT, response), thoughts.of_keys(unnamed))
    return replace(turn, remarks=(*turn.remarks, *(COLUMN_OF_THOUGHTS.format(key) for key in unnamed)))


def _history(row: Mapping[str, Any], column: str | None) -> Iterator[tuple[str, str]]:
    if column is None:
        return
    pairs = sequence(row.get(column), column, "of [instruction, response] pairs")
    for number, pair in enumerate(pairs, start=1):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise RowProblem(f"field '{column}', round {number}: expected a pair of texts [instruction, response]")
        yield pair[0], pair[1]


def _messages(dataset: Dataset, column: str, row: Mapping[str, Any]) -> list[Turn]:
    if row.get(column) is None:
        text(row, column, need=f"{dataset.format} rows need it")
    read = openai_messages.turn if dataset.format == "openai" else _sharegpt_turn
    role_key, content_key = keys_of(dataset)
    roles = dict(_SPELLINGS) | (openai_messages.SPELLINGS if dataset.format == "openai" else {})
    roles |= {name: role for tag, role in _ROLE_TAGS.items() if (name := dataset.tags.get(tag))}
    turns = []
    for number, message in enumerate(sequence(row[column], column, "of messages"), start=1):
        if not isinstance(message, dict):
            raise RowProblem(
                f"message {number} is {kind(message)}; expected an object with '{role_key}' and '{content_key}'"
            )
        try:
            role = _role(message, role_key, roles)
            learnt = loss_keys.learned(message, answer=role in ANSWERS) is not False
            turns.append(replace(read(number, role, message, content_key), learnt=learnt))
        except RowProblem as problem:
            raise RowProblem(f"message {number}: {problem}") from problem
    return turns


def _role(message: Mapping[str, Any], key: str, roles: Mapping[str, str]) -> str:
    _require(message, key)
    if not isinstance(message[key], str) or message[key] not in roles:
        raise RowProblem(f"'{key}' is {word(message[key])}; expected one of {', '.join(sorted(roles))}")
    return roles[message[key]]


def _require(message: Mapping[str, Any], key: str) -> None:
    if key not in message:
        there = ", ".join(f"'{name!s:.40}'" for name in list(message)[:10])
        raise RowProblem(
            f"field '{key}' is missing (the message has {there or 'nothing'}; other names go into tags.role and "
            "tags.content of format sharegpt)"
        )


def _sharegpt_turn(number: int, role: str, message: Mapping[str, Any], content_key: str) -> Turn:
    if message.get("tool_calls"):
        raise RowProblem("it has 'tool_calls'; set the dataset's format to openai")
    _require(message, content_key)
    content = message[content_key]
    if isinstance(content, list) and role != FUNCTION:
        raise RowProblem(f"'{content_key}' is a list of parts; set the dataset's format to openai")
    if role == FUNCTION and isinstance(content, dict | list):
        calls = content if isinstance(content, list) else [content]
        return answer(Turn(role, "", number), thoughts.of_keys(message), tool_calls.from_objects(calls))
    if not isinstance(content, str):
        raise RowProblem(f"'{content_key}' is {kind(content)}; expected text")
    if role in ANSWERS:
        return answer(Turn(role, content, number), thoughts.of_keys(message))
    thoughts.refuse(role, message)
    return as_result(Turn(role, content, number))


def _check_turns(column: str, turns: list[Turn]) -> None:
    if not turns:
        raise RowProblem(f"field '{column}' holds no conversation; at least one user message and one answer are needed")
    for position, turn in enumerate(turns):
        if turn.role not in (ANSWERS if position % 2 else ASKS):
            before = f"follows '{turns[position - 1].role}'" if position else "comes first"
            fix = "join the two into one message, or take one out" if position else "take it out"
            raise RowProblem(
                f"message {turn.number} ('{turn.role}') {before}; user and assistant turns must alternate, beginning "
                f"with the user: {fix}"
            )
    if len(turns) % 2:
        raise RowProblem(
            f"the last message is from '{turns[-1].role}'; a conversation must end with an answer: take it off"
        )


def _one_source(what: str, column: list[Media], parts: list[Media]) -> list[Media]:
    """Images stand in a column or in the messages; with both, nobody could tell their order."""
    if column and parts:
        raise RowProblem(f"it has {what} in a column and in its messages; leave one of the two")
    return column or parts


def _one_system(column: str, given: str, said: str) -> str:
    if given.strip() and given.strip() != said.strip():
        raise RowProblem(
            f"it has a system prompt in the column '{column}' and another in its first message; leave one of the two"
        )
    return said
