"""Rows of a rank by slot: what was added is found until it is forgotten, and slots are never given twice."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.rollouts import Row, RowStore


def row(number: int = 0, **changes: Any) -> Row:
    values: dict[str, Any] = {"prompt_ids": [3], "completion_ids": [4, 5, 6], "completion": "abc", "prompt": "p"}
    return Row(task_id=1, index=number, **(values | changes))


@given(st.lists(st.integers(0, 4), max_size=5))
def test_rows_lie_in_slots_one_after_another(sizes: list[int]) -> None:
    store, added = RowStore(), []
    for size in sizes:
        rows = [row(len(added) + i) for i in range(size)]
        assert store.next_slot == len(added)
        assert store.add(rows) == len(added)
        added += rows
    assert len(store) == len(added)
    assert [store[slot] for slot in range(len(added))] == added


@given(st.integers(0, 6), st.data())
def test_what_is_not_kept_is_forgotten_and_its_slot_is_not_given_again(num_rows: int, data: st.DataObject) -> None:
    store = RowStore()
    rows = [row(i) for i in range(num_rows)]
    store.add(rows)
    kept = data.draw(st.sets(st.integers(0, num_rows - 1))) if num_rows else set()
    store.keep(sorted(kept))
    assert len(store) == len(kept)
    for slot in range(num_rows):
        if slot in kept:
            assert store[slot] is rows[slot]
        else:
            with pytest.raises(KeyError):
                store[slot]
    assert store.add([row(99)]) == num_rows


def test_a_row_that_does_not_exist_cannot_be_kept() -> None:
    with pytest.raises(KeyError):
        RowStore().keep([0])


def test_tokens_of_a_row_are_those_that_the_model_wrote() -> None:
    assert row().num_tokens == 3
    assert row(loss_mask=[1, 0, 1]).num_tokens == 2
    assert row(loss_mask=[0, 0, 0]).num_tokens == 0


def test_the_behaviour_policy_is_added_to_a_copy() -> None:
    fresh = row(logged={"seen": "x"})
    carried = fresh.with_behaviour((-0.5, -1.0, -2.0))
    assert fresh.behaviour is None
    assert carried.behaviour == [-0.5, -1.0, -2.0]
    assert {**vars(carried), "behaviour": None} == vars(fresh)


def test_a_saved_row_comes_back_whole() -> None:
    saved = row(
        prompt=[{"role": "user", "content": "2+2?"}],
        loss_mask=[1, 0, 1],
        logprobs=[-0.1, -0.2, -0.3],
        behaviour=[-0.1, -0.2, -0.3],
        logged={"score": 0.5, "seen": None},
    )
    assert vars(Row.from_json(json.loads(json.dumps(saved.to_json())))) == vars(saved)


class Verdict:
    def __str__(self) -> str:
        return "right"


def test_what_a_reward_function_logged_is_saved_in_json_types() -> None:
    logged = {"array": np.array([1, 2]), "number": np.float32(0.5), "tuple": (1, "a"), "other": Verdict(), 3: True}
    again = Row.from_json(json.loads(json.dumps(row(logged=logged).to_json())))
    assert again.logged == {"array": [1, 2], "number": 0.5, "tuple": [1, "a"], "other": "right", "3": True}
