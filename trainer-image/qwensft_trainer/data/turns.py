"""Turns of a conversation while a row is read, how those that follow each other become one, and their normal form.

A turn is read in row_checks.py or openai_messages.py; which roles may follow each other is checked in row_checks.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from typing import Any

from qwensft_trainer.data import thoughts, tool_calls
from qwensft_trainer.data.row_fields import Media, RowProblem
from qwensft_trainer.data.tool_calls import Call

USER, ASSISTANT, OBSERVATION, FUNCTION, SYSTEM = "user", "assistant", "observation", "function_call", "system"
ASKS = (USER, OBSERVATION)
ANSWERS = (ASSISTANT, FUNCTION)

JOINED_QUESTIONS = "have user messages in a row: they became one, with a line break between them"
UNASKED = "have results whose tool_call_id is that of no call before them: they are taken in their order"
MISSING_RESULTS = "have fewer results than calls: chat templates tell by their order alone which result is whose"
TWO_RESULTS = "have two results for one call: both are trained as its result"
RESULT_OF_NOTHING = "have a tool's result after an answer that calls nothing: is the call written as text?"
TAGS_AS_TEXT = "have <tool_call> tags in an answer that cannot be read as calls: they are trained as text"


@dataclass(frozen=True)
class Turn:
    """What one message says. `number` is its place in the row, `images` and `videos` stood inside of it.

    `thought` is None where there is none and "" where its tags are empty; `calls` are those of a FUNCTION turn.
    `call_ids` are those of its calls, or the one that an OBSERVATION answers, where all have one. An answer that is not
    `learnt` is read, and nothing more.
    """

    role: str
    content: str
    number: int = 0
    images: tuple[Media, ...] = ()
    videos: tuple[Media, ...] = ()
    thought: str | None = None
    calls: tuple[Call, ...] = ()
    call_ids: tuple[str, ...] = ()
    learnt: bool = True
    remarks: tuple[str, ...] = ()

    @property
    def normal(self) -> dict[str, Any]:
        """The message of the normal form, with thoughts and calls as LLaMA-Factory reads them.

        {"role", "content"}, and "learn": False for an answer that is not to be learnt.
        """
        said = self.content
        if self.calls:
            said = tool_calls.written(said, self.calls)
        message = {"role": self.role, "content": thoughts.together(self.thought, said)}
        return message if self.learnt else message | {"learn": False}


def answer(turn: Turn, thought: str | None, calls: tuple[Call, ...] | None = None) -> Turn:
    """Complete an assistant's or a calling turn: thoughts from keys (`thought`) or tags, calls from objects or text.

    Raises RowProblem when thoughts stand in two places, or a FUNCTION turn holds no calls.
    """
    tagged, said, remarks = thoughts.parted(turn.content)
    if thought is not None and tagged and thought.strip() != tagged.strip():
        raise RowProblem("it has thoughts under a key of their own and in its text; leave one of the two")
    if calls is None and turn.role == FUNCTION:
        said, calls = tool_calls.from_text(said)
    elif (inside := tool_calls.in_answer(said)) is not None:
        if calls:
            raise RowProblem("it has calls under 'tool_calls' and in the tags of its text; leave one of the two")
        said, calls = inside
    elif "<tool_call>" in said:
        remarks = (*remarks, TAGS_AS_TEXT)
    elif not calls and (remark := tool_calls.remark(said)):
        remarks = (*remarks, remark)
    return replace(
        turn,
        role=FUNCTION if calls else ASSISTANT,
        content=said,
        thought=tagged if thought is None else thought,
        calls=calls or (),
        remarks=remarks,
    )


def as_result(turn: Turn) -> Turn:
    """Take the tags off a tool's result; a user's message that is nothing but results in tags is one, too."""
    if turn.role not in ASKS:
        return turn
    content = tool_calls.result(turn.content)
    return replace(turn, role=OBSERVATION, content=content) if content != turn.content else turn


def joined(turns: Iterable[Turn]) -> list[Turn]:
    """Make one turn of those that follow each other and mean one: results, questions, and calls after what was said.

    Results come in the order of their calls.
    """
    done: list[Turn] = []
    for turn in _results_in_order(list(turns)):
        if done and (one := _one(done[-1], turn)) is not None:
            done[-1] = one
        else:
            done.append(turn)
    return done


def _results_in_order(turns: list[Turn]) -> list[Turn]:
    """Chat templates know no ids: what result belongs to what call is told by their order alone."""
    ordered: list[Turn] = []
    for role, group in groupby(turns, key=lambda turn: turn.role):
        following = list(group)
        asked = [one for turn in _calls_before(ordered) for one in turn.call_ids]
        if role == OBSERVATION and asked and all(turn.call_ids for turn in following):
            if len({turn.call_ids[0] for turn in following}) < len(following):
                following[0] = _remarked(following[0], TWO_RESULTS)
            if {turn.call_ids[0] for turn in following} <= set(asked):
                following.sort(key=lambda turn: asked.index(turn.call_ids[0]))
            else:
                following[0] = _remarked(following[0], UNASKED)
        if role == OBSERVATION and ordered and ordered[-1].role == ASSISTANT:
            following[0] = _remarked(following[0], RESULT_OF_NOTHING)
        if role == OBSERVATION and len(following) < len(asked):  # without ids, one result may be of all calls
            following[0] = _remarked(following[0], MISSING_RESULTS)
        ordered += following
    return ordered


def _remarked(turn: Turn, remark: str) -> Turn:
    return replace(turn, remarks=(*turn.remarks, remark))


def _calls_before(turns: list[Turn]) -> list[Turn]:
    return list(takewhile(lambda turn: turn.role == FUNCTION, reversed(turns)))[::-1]


def _one(first: Turn, second: Turn) -> Turn | None:
    if first.role == second.role == OBSERVATION:
        return _together(first, second, tool_calls.NEXT_RESULT)
    if first.role == second.role == USER:
        return _together(first, second, "\n", JOINED_QUESTIONS)
    if first.learnt != second.learnt:
        return None
    if first.role in ANSWERS and second.role == FUNCTION and not (first.calls and second.content):
        return _together(first, second, "\n")
    return None


def _together(first: Turn, second: Turn, between: str, *remarks: str) -> Turn:
    texts = [turn.content for turn in (first, second) if turn.content or turn.role in ASKS]
    thoughts_of_both = [turn.thought for turn in (first, second) if turn.thought]
    empty = next((turn.thought for turn in (first, second) if turn.thought is not None), None)
    return replace(
        first,
        role=second.role,
        content=between.join(texts),
        images=first.images + second.images,
        videos=first.videos + second.videos,
        thought="\n\n".join(thoughts_of_both) or empty,
        calls=first.calls + second.calls,
        call_ids=first.call_ids + second.call_ids,
        remarks=tuple(dict.fromkeys((*first.remarks, *second.remarks, *remarks))),
    )


def up_to_what_is_learnt(turns: list[Turn], *, placeholders: bool) -> list[Turn]:
    """Leave out what follows the last answer that is learnt, since nothing is learnt of it.

    `placeholders` tells whether `<image>` and `<video>` in a text are the places of files. Raises RowProblem when no
    answer is learnt, or images would be left out.
    """
    last = max((index for index, turn in enumerate(turns) if turn.role in ANSWERS and turn.learnt), default=None)
    if last is None:
        raise RowProblem("none of its answers is to be learned; take the row out")
    rest = turns[last + 1 :]
    named = placeholders and any(tag in turn.content for turn in rest for tag in ("<image>", "<video>"))
    if named or any(turn.images or turn.videos for turn in rest):
        raise RowProblem("it has images or videos after the last answer that is learned; take these messages out")
    return turns[: last + 1]


def remarks_of(turns: Iterable[Turn]) -> list[str]:
    """What is no problem but should be told of a row, each once."""
    return list(dict.fromkeys(remark for turn in turns for remark in turn.remarks))
