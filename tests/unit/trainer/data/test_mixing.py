"""Splits are made as LLaMA-Factory would make them, and every row that is meant to be in one is."""

from __future__ import annotations

from collections import Counter

import pytest
from datasets import Dataset, interleave_datasets

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.data import mixing


def rows(name: str, count: int) -> Dataset:
    texts = [f"{name}{number}" for number in range(count)]
    prints = [hash(text) for text in texts]
    return Dataset.from_dict({"text": texts, "dataset": [name] * count, "fingerprint": prints})


def texts(dataset: Dataset) -> list[str]:
    return list(dataset["text"])


def drawn(strategy: str, probabilities: list[float] | None = None, seed: int = 42) -> list[str]:
    mixed = mixing.mix([rows("a", 20), rows("b", 60)], strategy, probabilities, seed=seed)
    return texts(mixed)


def counts(values: list[str]) -> Counter[str]:
    return Counter(value[0] for value in values)


def test_concat_puts_one_after_the_other() -> None:
    assert drawn("concat") == texts(rows("a", 20)) + texts(rows("b", 60))


def test_under_ends_with_the_shortest_and_over_with_the_longest() -> None:
    assert counts(drawn("interleave_under")) == {"a": 20, "b": 20}
    over = drawn("interleave_over")
    assert counts(over) == {"a": 60, "b": 60}
    assert len(set(over)) == 80


@pytest.mark.parametrize("strategy", ["interleave_under", "interleave_over"])
def test_weights_draw_as_the_library_does_for_llama_factory(strategy: str) -> None:
    stopping = {"interleave_under": "first_exhausted", "interleave_over": "all_exhausted"}[strategy]
    theirs = interleave_datasets(
        [rows("a", 20), rows("b", 60)], probabilities=[0.5, 0.5], seed=42, stopping_strategy=stopping
    )
    assert drawn(strategy, [0.5, 0.5]) == texts(theirs)


@pytest.mark.parametrize("probabilities", [None, [0.25, 0.75], [0.9, 0.1]])
def test_once_has_every_row_exactly_once_in_its_datasets_order(probabilities: list[float] | None) -> None:
    mixed = drawn("interleave_once", probabilities)
    assert len(mixed) == len(set(mixed)) == 80
    for name, count in (("a", 20), ("b", 60)):
        assert [value for value in mixed if value[0] == name] == texts(rows(name, count))


def test_once_takes_turns_without_weights_and_follows_them_with() -> None:
    assert drawn("interleave_once")[:6] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    shares = [counts(drawn("interleave_once", [0.25, 0.75], seed)[:40])["a"] for seed in range(50)]
    assert 8.5 < sum(shares) / len(shares) < 11.5
    assert drawn("interleave_once", [0.25, 0.75], 1) != drawn("interleave_once", [0.25, 0.75], 2)


def test_one_dataset_is_not_mixed() -> None:
    assert texts(mixing.mix([rows("a", 3)], "interleave_under", [1.0], seed=1)) == ["a0", "a1", "a2"]


@pytest.mark.parametrize("count", [1, 9, 10, 11, 25])
def test_a_sample_has_every_row_before_any_comes_again(count: int) -> None:
    found = texts(mixing.sample(rows("a", 10), count, seed=[42, 0]))
    assert len(found) == count
    times = Counter(found)
    assert max(times.values()) - min(times.get(f"a{number}", 0) for number in range(10)) <= 1
    assert found == texts(mixing.sample(rows("a", 10), count, seed=[42, 0]))


def test_a_fraction_is_split_off_rounded_up() -> None:
    train, validation = mixing.split_off(rows("a", 25), 0.1, seed=42)
    assert (len(train), len(validation)) == (22, 3)
    assert sorted(texts(train) + texts(validation)) == sorted(texts(rows("a", 25)))
    again, _ = mixing.split_off(rows("a", 25), 0.1, seed=42)
    assert texts(again) == texts(train)


def test_rows_that_repeat_are_evaluated_on_once_and_never_trained_on() -> None:
    mixed = mixing.mix([rows("a", 3), rows("b", 30)], "interleave_over", None, seed=42)
    train, validation = mixing.split_off(mixed, 0.5, seed=42)
    assert not set(texts(train)) & set(texts(validation))
    assert len(texts(validation)) == len(set(texts(validation))) == 17
    assert set(texts(train)) | set(texts(validation)) == set(texts(mixed))
    assert len(texts(train)) > len(set(texts(train)))


def test_rows_that_are_the_same_in_the_files_are_never_on_both_sides() -> None:
    twice = mixing.mix([rows("a", 20), rows("a", 20)], "concat", None, seed=42)
    train, validation = mixing.split_off(twice, 0.25, seed=42)
    assert not set(texts(train)) & set(texts(validation))
    assert (len(train), len(validation)) == (30, 5)


def test_what_a_mix_leaves_out_is_counted() -> None:
    datasets = {"a": rows("a", 3), "b": rows("b", 30), "c": rows("c", 3)}
    mixed = mixing.mix(list(datasets.values()), "interleave_under", None, seed=42)
    assert mixing.left_out(datasets, mixed) == {"b": 27}
    assert mixing.left_out(datasets, mixing.mix(list(datasets.values()), "interleave_over", None, seed=42)) == {}


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.1), (2, 0.6), (3, 0.9)])
def test_a_fraction_that_leaves_nothing_to_train_on_is_explained(count: int, fraction: float) -> None:
    with pytest.raises(
        PermanentError, match=rf"spec.evaluation.fraction {fraction} nothing of {count} different rows is left"
    ):
        mixing.split_off(rows("a", count), fraction, seed=42)
