"""Which rows the report shows answers for, and what the model is asked in each: the row as it was encoded, cut. Pure.

The prompt ends before the first token that is learnt: so it is written by the very template that was trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

_IGNORED = -100  # LLaMA-Factory's IGNORE_INDEX
_LOOKED_AT = 100  # rows of a stretch, until one has a prompt
_FEWEST_TOKENS, _MOST_TOKENS = 64, 512  # of an answer


@dataclass(frozen=True)
class Question:
    """Token ids of a row up to the first that is learnt, and of what is learnt there; `row` counts from 0.

    `images` and `videos` are the paths of those in the prompt.
    """

    row: int
    prompt: list[int]
    wanted: list[int]
    images: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)

    @property
    def has_media(self) -> bool:
        """Whether there are images or videos in the prompt."""
        return bool(self.images or self.videos)


def choose(rows: Sequence[Mapping[str, Any]], count: int, media_tokens: frozenset[int]) -> list[Question]:
    """At most `count` rows, evenly spread: the first of each stretch of equal length that can be asked.

    Args:
        rows: As tokenised: input_ids and labels of the same length, images and videos as lists of paths or None.
        count: How many stretches to make.
        media_tokens: Ids of the tokens that stand for images and videos.
    """
    stretches = min(count, len(rows))
    found = []
    for number in range(stretches):
        start, end = (len(rows) * edge // stretches for edge in (number, number + 1))
        asked = (_question(index, rows[index], media_tokens) for index in range(start, min(end, start + _LOOKED_AT)))
        found += [first] if (first := next(filter(None, asked), None)) is not None else []
    return found


def _question(index: int, row: Mapping[str, Any], media_tokens: frozenset[int]) -> Question | None:
    """None for a row that learns its prompt, or nothing; and where images come after the first answer."""
    ids, labels = row["input_ids"], row["labels"]
    cut = next((place for place, label in enumerate(labels) if label != _IGNORED), 0)
    if cut == 0:
        return None
    images, videos = row.get("images") or [], row.get("videos") or []
    if (images or videos) and not media_tokens.isdisjoint(ids[cut:]):
        return None
    wanted = [
        token for token, _ in takewhile(lambda pair: pair[1] != _IGNORED, zip(ids[cut:], labels[cut:], strict=True))
    ]
    return Question(index, list(ids[:cut]), wanted, list(images), list(videos))


def new_tokens(questions: Sequence[Question]) -> int:
    """How many tokens an answer may have: twice those of the longest that is wanted, within bounds."""
    longest = max((len(one.wanted) for one in questions), default=0)
    return min(_MOST_TOKENS, max(_FEWEST_TOKENS, 2 * longest))


def batches(questions: Sequence[Question], most_tokens: int, answer_tokens: int) -> Iterator[list[Question]]:
    """The questions in order, together as far as they take `most_tokens` with padding and `answer_tokens` each.

    A question is alone where it is longer than that, and with images.
    """
    batch: list[Question] = []
    for question in questions:
        longest = max(len(one.prompt) for one in [*batch, question])
        alone = question.has_media or any(one.has_media for one in batch)
        if batch and (alone or (len(batch) + 1) * (longest + answer_tokens) > most_tokens):
            yield batch
            batch = []
        batch.append(question)
    if batch:
        yield batch


def until_stop(tokens: Sequence[int], stops: frozenset[int]) -> tuple[list[int], bool]:
    """The tokens before the first of `stops`, and whether there was one."""
    kept = list(takewhile(lambda token: token not in stops, tokens))
    return kept, len(kept) < len(tokens)
