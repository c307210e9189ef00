"""Index streams: passes without repetition, one integer as position, cheap at any size."""

import re
import tracemalloc

import numpy as np
import pytest
from _worlds import thorough
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.sampling import IndexStream


@thorough
@given(st.integers(1, 30), st.integers(0, 99), st.lists(st.integers(0, 70), min_size=1, max_size=6))
def test_every_pass_holds_every_row_once(size, seed, takes):
    stream, cursor, taken = IndexStream(size, seed, task_id=1), 0, []
    for n in takes:
        indices, cursor = stream.take(cursor, n)
        assert indices.size == n
        taken.extend(indices.tolist())
    assert cursor == sum(takes)
    for start in range(0, len(taken) - size + 1, size):
        assert sorted(taken[start : start + size]) == list(range(size))


@thorough
@given(st.integers(1, 30), st.integers(0, 200), st.integers(0, 60), st.booleans())
def test_the_cursor_is_the_whole_position(size, cursor, n, shuffle):
    whole, _ = IndexStream(size, 0, 0, shuffle).take(0, cursor + n)
    resumed, end = IndexStream(size, 0, 0, shuffle).take(cursor, n)
    np.testing.assert_array_equal(resumed, whole[cursor:])
    assert end == cursor + n


def test_tasks_seeds_and_passes_have_orders_of_their_own():
    orders = [
        IndexStream(50, 0, 0).take(0, 50)[0],
        IndexStream(50, 0, 0).take(50, 50)[0],
        IndexStream(50, 0, 1).take(0, 50)[0],
        IndexStream(50, 1, 0).take(0, 50)[0],
    ]
    assert len({tuple(order) for order in orders}) == 4


def test_without_shuffling_rows_come_in_their_order():
    assert IndexStream(3, 0, 0, shuffle=False).take(2, 5)[0].tolist() == [2, 0, 1, 2, 0]


def test_a_million_rows_cost_one_index():
    tracemalloc.start()
    stream = IndexStream(1_000_000, 0, 0)
    cursor = 0
    for _ in range(5):
        _, cursor = stream.take(cursor, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: IndexStream(0, 0, 0), "`size` must be at least 1, got 0"),
        (lambda: IndexStream(5, -1, 0), "`seed` and `task_id` must be non-negative, got -1 and 0"),
        (lambda: IndexStream(5, 0, 0).take(-1, 2), "`cursor` and `n` must be non-negative, got -1 and 2"),
    ],
)
def test_wrong_arguments_are_refused(use, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        use()
