"""Facts of groups: joining and selecting keep every column of every group together, and counts follow the tasks."""

from dataclasses import fields, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.rollouts import GroupFacts


NAMES = [field.name for field in fields(GroupFacts)]
SIZE, PARTS = 3, 2


def numbered(first: int, num_groups: int) -> GroupFacts:
    """Groups whose every column says which group it is."""
    ids = np.arange(first, first + num_groups)
    matrix = np.repeat(ids[:, None], SIZE, axis=1).astype(float)
    return GroupFacts(
        task=ids,
        prompt=ids,
        role=ids,
        occurrence=ids,
        bundle=ids,
        members=ids,
        generation=ids,
        tokens=ids,
        outcome=ids,
        accepted=ids % 2 == 0,
        reward=matrix,
        success=matrix,
        parts=np.repeat(matrix[:, :, None], PARTS, axis=2).astype(np.float32),
        place=np.repeat(matrix[:, :, None], 2, axis=2).astype(np.int64),
    )


def assert_is(facts: GroupFacts, ids: list[int]) -> None:
    """Every column holds the values of the groups `ids`, in this order."""
    expected = numbered(0, max(ids, default=0) + 1)
    for name in NAMES:
        column = getattr(facts, name)
        assert column.dtype == getattr(expected, name).dtype, name
        assert (column == getattr(expected, name)[ids]).all(), name
        assert len(column) == len(ids), name


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_joined_groups_stand_one_after_another(sizes: list[int]) -> None:
    starts = np.cumsum([0, *sizes])
    joined = GroupFacts.join([numbered(int(first), size) for first, size in zip(starts, sizes, strict=False)])
    assert_is(joined, list(range(sum(sizes))))


@given(st.integers(1, 6), st.data())
def test_selected_groups_come_whole_and_in_the_order_of_the_index(num_groups: int, data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, num_groups - 1), max_size=8))
    assert_is(numbered(0, num_groups).select(np.array(index, dtype=np.int64)), index)
    chosen = data.draw(st.lists(st.booleans(), min_size=num_groups, max_size=num_groups))
    assert_is(numbered(0, num_groups).select(np.array(chosen)), np.flatnonzero(chosen).tolist())


def test_nothing_beside_groups_changes_neither_their_shapes_nor_their_types() -> None:
    assert_is(GroupFacts.join([GroupFacts.empty(), numbered(0, 2), GroupFacts.empty()]), [0, 1])


def test_nothing_joined_with_nothing_is_nothing() -> None:
    nothing = GroupFacts.join([GroupFacts.empty(SIZE, PARTS), GroupFacts.empty()])
    assert len(nothing) == 0
    assert nothing.reward.shape == nothing.success.shape == (0, SIZE)
    assert nothing.parts.shape == (0, SIZE, PARTS)
    assert nothing.place.shape == (0, SIZE, 2)


def test_no_groups_have_the_types_of_groups() -> None:
    nothing, some = GroupFacts.empty(SIZE, PARTS), numbered(0, 1)
    assert {name: getattr(nothing, name).dtype for name in NAMES} == {
        name: getattr(some, name).dtype for name in NAMES
    }


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99)), max_size=12))
def test_groups_and_tokens_are_counted_per_task(groups: list[tuple[int, int]]) -> None:
    task, tokens = (np.array(column, dtype=np.int64) for column in (zip(*groups, strict=True) if groups else ((), ())))
    facts = replace(numbered(0, len(groups)), task=task, tokens=tokens)
    assert facts.counts(4).tolist() == [int((task == k).sum()) for k in range(4)]
    assert facts.token_counts(4).tolist() == [int(tokens[task == k].sum()) for k in range(4)]
    assert facts.token_counts(4).dtype == np.int64
