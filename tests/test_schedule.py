"""A checkpoint can be resumed exactly where a generation batch ends, in the schedule that the host really has."""

import itertools
from pathlib import Path

import pytest

from tests.tiny import rows, tiny_trainer
from trl_mtgrpo import Task
from trl_mtgrpo.host.schedule import Schedule


def ends(schedule: Schedule) -> list[bool]:
    """For each optimizer step whether a batch ends with it, counted out micro-step by micro-step."""
    found, micro, in_window = [], 0, 0
    length = schedule.batches_per_epoch * schedule.per_batch
    while len(found) < schedule.max_steps:
        micro, in_window = micro + 1, in_window + 1
        if in_window == schedule.window or micro % length == 0:
            found.append(micro % schedule.per_batch == 0)
            in_window = 0
    return found


def test_the_schedule_is_the_one_that_is_counted_out() -> None:
    for per_batch, window, batches in itertools.product((1, 2, 3, 4, 6), (1, 2, 3, 4), (1, 2, 3, 5)):
        schedule = Schedule(per_batch, window, batches, max_steps=40)
        assert [schedule.fits(step) for step in range(1, 41)] == ends(schedule)
        for every in range(1, 12):
            missed = [step for step in range(every, 41, every) if not ends(schedule)[step - 1]]
            assert schedule.misses(every) == missed


def test_a_proposed_interval_misses_nothing() -> None:
    for per_batch, window, batches in itertools.product((2, 3, 4), (1, 2, 3), (1, 3)):
        schedule = Schedule(per_batch, window, batches, max_steps=60)
        found = schedule.next_interval(5)
        assert found is None or (found >= 5 and schedule.misses(found) == [])


@pytest.mark.parametrize(("size", "window"), [(5, 2), (7, 2), (8, 3)])
def test_checkpoints_at_accepted_steps_lie_between_batches(size: int, window: int, tmp_path: Path) -> None:
    # An epoch of one batch per row, of 3 micro-steps each; windows that the epoch's end cuts short.
    from tests.tiny import contains_digit

    tasks = [Task("one", rows("o", size=size), contains_digit), Task("two", rows("t", size=1), contains_digit)]
    settings = {"per_device_train_batch_size": 4, "steps_per_generation": 3, "gradient_accumulation_steps": window}
    schedule = Schedule(3, window, max((size + 1) // 3, 1), max_steps=12)
    every = schedule.next_interval(1)
    assert every is not None
    trainer = tiny_trainer(
        tmp_path, tasks, **settings, max_steps=12, save_strategy="steps", save_steps=every, save_total_limit=None
    )
    left: list[int] = []
    save = trainer._run.save

    def noted(*arguments: object) -> None:
        left.append(trainer._run._steps_left)
        save(*arguments)

    trainer._run.save = noted
    trainer.train()
    assert left
    assert set(left) == {0}
