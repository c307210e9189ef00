"""The sample by which a resumed run tells its rows from others."""

import datetime
import decimal

import datasets
import numpy as np
import pytest
from datasets import Dataset

from tests.tiny import contains_a, contains_digit, rows
from trl_mtgrpo import Task
from trl_mtgrpo.tasks.fingerprint import fingerprint, function_names


def some_rows(size: int = 1000) -> Dataset:
    return Dataset.from_dict({"prompt": [f"p{i}" for i in range(size)], "answer": list(range(size))})


def test_equal_rows_have_equal_fingerprints_wherever_they_come_from(tmp_path) -> None:
    dataset = some_rows()
    dataset.save_to_disk(str(tmp_path / "rows"))
    same = [
        some_rows(),
        dataset.select(range(1000)),
        dataset.select(range(999, -1, -1)).select(range(999, -1, -1)),
        dataset.select_columns(["answer", "prompt"]),
        dataset.with_format("numpy"),
        dataset.with_format(columns=["prompt"]),
        dataset.with_transform(lambda batch: {"prompt": ["x"] * len(batch["prompt"])}),
        datasets.load_from_disk(str(tmp_path / "rows")),
    ]
    assert {fingerprint(one) for one in same} == {fingerprint(dataset)}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.shuffle(seed=0),
        lambda d: d.select(range(999, -1, -1)),
        lambda d: d.select(range(999)),
        lambda d: d.select([1, 0, *range(2, 1000)]),
        lambda d: d.map(lambda row: {"prompt": row["prompt"] + " "}),
        lambda d: d.map(lambda row: {"answer": row["answer"] + 1}),
        lambda d: d.add_column("more", ["x"] * 1000),
        lambda d: d.rename_column("answer", "solution"),
    ],
)
def test_other_or_reordered_rows_have_another(change) -> None:
    assert fingerprint(change(some_rows())) != fingerprint(some_rows())


@pytest.mark.parametrize("row", [0, 67, 134, 199])
def test_every_row_of_a_small_dataset_counts(row: int) -> None:
    answers = list(range(200))
    answers[row] = -1
    changed = some_rows(200).remove_columns("answer").add_column("answer", answers)
    assert fingerprint(changed) != fingerprint(some_rows(200))


def test_it_is_a_sample_of_256_rows() -> None:
    seen = np.unique(np.linspace(0, 999, 256).round().astype(int))
    unseen = next(i for i in range(1000) if i not in seen)
    prompts = some_rows()["prompt"][:]
    for row, differs in ((int(seen[7]), True), (unseen, False)):
        other = Dataset.from_dict(
            {"prompt": [*prompts[:row], "other", *prompts[row + 1 :]], "answer": list(range(1000))}
        )
        assert (fingerprint(other) != fingerprint(some_rows())) == differs


def test_values_of_any_kind_have_a_text() -> None:
    def dataset(image: bytes) -> Dataset:
        return Dataset.from_dict(
            {
                "prompt": [[{"role": "user", "content": "ä"}]],
                "when": [datetime.datetime(2024, 1, 1)],
                "price": [decimal.Decimal("1.50")],
                "score": [float("nan")],
                "image": [image],
                "nothing": [None],
            }
        )

    assert fingerprint(dataset(b"1")) == fingerprint(dataset(b"1"))
    assert fingerprint(dataset(b"1")) != fingerprint(dataset(b"2"))


def test_an_empty_dataset_has_one_too() -> None:
    assert fingerprint(some_rows(0)) != fingerprint(some_rows(1))


def test_functions_are_named_in_order_with_the_outcome_marked() -> None:
    task = Task("a", rows("a"), [contains_digit, "a/reward-model"], outcome_func=contains_a)
    assert function_names(task) == ("contains_digit", "a/reward-model", "contains_a (outcome_func)")
