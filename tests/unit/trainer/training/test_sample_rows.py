"""Rows are spread evenly, and a prompt is all that is trained with before the first token that is learnt."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qwensft_trainer.training.sample_rows import Question, batches, choose, new_tokens, until_stop

NOT = -100
PAD = 7  # stands for a part of an image


def row(prompt: list[int], *rest: tuple[list[int], bool], **more: Any) -> dict[str, Any]:
    """A tokenised row: a prompt, then tokens that are learnt or not."""
    ids, labels = list(prompt), [NOT] * len(prompt)
    for tokens, learnt in rest:
        ids += tokens
        labels += tokens if learnt else [NOT] * len(tokens)
    return {"input_ids": ids, "labels": labels, "images": None, "videos": None} | more


def test_the_prompt_ends_before_the_first_learnt_token_and_the_answer_after_the_last_in_a_row() -> None:
    turns = row([1, 2], ([3, 4], True), ([5], False), ([6], True))
    assert choose([turns], 1, frozenset()) == [Question(0, [1, 2], [3, 4])]


def test_the_first_row_of_a_packed_sequence_is_asked() -> None:
    packed = row([1], ([2], True), ([3, 3], False), ([4], True))
    assert choose([packed], 1, frozenset()) == [Question(0, [1], [2])]


def test_rows_are_the_first_of_stretches_of_equal_length() -> None:
    rows = [row([number], ([1], True)) for number in range(10)]
    assert [one.row for one in choose(rows, 4, frozenset())] == [0, 2, 5, 7]
    assert [one.row for one in choose(rows, 32, frozenset())] == list(range(10))
    assert choose([], 4, frozenset()) == []


def test_a_row_that_learns_its_prompt_or_nothing_is_passed_over_for_the_next_of_its_stretch() -> None:
    rows = [row([], ([1], True)), row([1, 2]), row([3], ([4], True)), row([], ([5], True))]
    assert [one.row for one in choose(rows, 1, frozenset())] == [2]
    assert [one.row for one in choose(rows, 2, frozenset())] == [2]


def test_images_are_asked_with_where_all_of_them_are_in_the_prompt() -> None:
    whole = row([1, PAD, PAD], ([3], True), images=["a.png"])
    later = row([1, PAD], ([3], True), ([PAD], False), ([4], True), images=["a.png", "b.png"])
    assert choose([later, whole], 1, frozenset({PAD})) == [Question(1, [1, PAD, PAD], [3], ["a.png"])]


def test_few_rows_are_looked_at_however_many_have_no_prompt() -> None:
    class Counted(list[dict[str, Any]]):
        seen = 0

        def __getitem__(self, index: Any) -> Any:
            self.seen += 1
            return super().__getitem__(index)

    rows = Counted([row([], ([1], True))] * 10_000)
    assert choose(rows, 4, frozenset()) == []
    assert rows.seen == 400


@given(st.lists(st.integers(1, 300), max_size=32), st.integers(1, 2000))
def test_batches_keep_the_order_and_hold_no_more_than_they_may(lengths: list[int], most: int) -> None:
    questions = [Question(number, [1] * length, []) for number, length in enumerate(lengths)]
    found = list(batches(questions, most, 100))
    assert [one for batch in found for one in batch] == questions
    for batch in found:
        assert len(batch) == 1 or len(batch) * (max(len(one.prompt) for one in batch) + 100) <= most


def test_an_answer_may_have_twice_the_tokens_of_the_longest_that_is_wanted() -> None:
    assert new_tokens([Question(0, [1], [1] * 100), Question(1, [1], [1])]) == 200
    assert new_tokens([Question(0, [1], [1])]) == 64
    assert new_tokens([Question(0, [1], [1] * 9000)]) == 512
    assert new_tokens([]) == 64


def test_a_question_with_an_image_is_alone() -> None:
    questions = [Question(number, [1], [], ["a.png"] if number == 1 else []) for number in range(4)]
    assert [[one.row for one in batch] for batch in batches(questions, 10_000, 100)] == [[0], [1], [2, 3]]


def test_an_answer_ends_before_its_first_stop() -> None:
    assert until_stop([5, 6, 0, 7, 0], frozenset({0})) == ([5, 6], True)
    assert until_stop([5, 6], frozenset({0})) == ([5, 6], False)
    assert until_stop([0], frozenset({0})) == ([], True)
