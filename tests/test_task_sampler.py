"""Prompts are drawn on demand; the loader only keeps time."""

from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo import TaskAwareSampler


def sampler(**changes: object) -> TaskAwareSampler:
    return TaskAwareSampler(**{"sizes": [10, 4], "num_groups": 3, "num_generations": 2, "seed": 1, **changes})


def test_draws_come_in_task_order_and_move_the_cursors() -> None:
    keys, cursors = sampler().draw([2, 1], (0, 5))
    assert [task_id for task_id, _ in keys] == [0, 0, 1]
    assert cursors == (2, 6)


def test_the_cursors_are_all_that_a_draw_depends_on() -> None:
    first, cursors = sampler().draw([3, 2], (0, 0))
    second, _ = sampler().draw([3, 2], cursors)
    both, _ = sampler().draw([6, 4], (0, 0))
    for task_id in (0, 1):
        parts = [key for key in (*first, *second) if key[0] == task_id]
        assert parts == [key for key in both if key[0] == task_id]


@given(st.integers(0, 25))
def test_a_pass_over_a_task_names_each_row_once(count: int) -> None:
    keys, _ = sampler().draw([count, 0], (0, 0))
    for start in range(0, count - 9, 10):
        assert sorted(row for _, row in keys[start : start + 10]) == list(range(10))


def test_without_shuffling_rows_come_in_order() -> None:
    keys, _ = sampler(shuffle=False).draw([3, 0], (8, 0))
    assert [row for _, row in keys] == [8, 9, 0]


def test_other_seeds_give_other_orders() -> None:
    assert sampler().draw([10, 0], (0, 0)) != sampler(seed=2).draw([10, 0], (0, 0))


def test_the_clock_ticks_once_per_row_that_the_host_fetches() -> None:
    clock = sampler(repeats=4)
    # 14 rows, 3 prompts per batch: 4 batches of 3 x 2 rows, fetched 4 times each
    assert len(clock) == 4 * 3 * 2 * 4 == len(list(clock))
    assert set(clock) == {0}


def test_a_run_with_fewer_rows_than_a_batch_has_one_batch_per_epoch() -> None:
    assert len(sampler(sizes=[1], num_groups=3)) == 6
