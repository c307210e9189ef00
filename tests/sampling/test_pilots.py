"""The chance to complete a group, and what whole groups and pilots say of the same thing."""

from itertools import combinations

import numpy as np
import pytest

from trl_mtgrpo.sampling.pilots import COMPLETION, ENOUGH, PilotEstimate, completion_chance


@pytest.mark.parametrize("chance", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("size", [2, 3])
def test_the_chance_is_the_share_of_pilots_that_are_not_alike(size: int, chance: float) -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(3, size=(50, 6))
    pilots = [[len(set(row[list(pilot)])) == 1 for pilot in combinations(range(6), size)] for row in classes]
    expected = 1.0 - (1.0 - chance) * np.mean(pilots, axis=1)
    np.testing.assert_allclose(completion_chance(classes, size, chance), expected, atol=1e-12)


def test_every_group_may_be_completed() -> None:
    alike = np.zeros((1, 72), dtype=np.int64)
    assert completion_chance(alike, 24)[0] == pytest.approx(COMPLETION)


def test_a_group_in_which_no_class_fills_a_pilot_is_certain() -> None:
    assert completion_chance(np.arange(8)[None] % 4, 3).tolist() == [1.0]


def test_nothing_is_said_before_there_is_enough() -> None:
    estimate = PilotEstimate.start(2, 4)
    assert np.isnan(estimate.saving).all()
    assert estimate.mean_weight.tolist() == [1.0, 1.0]
    few = np.tile([ENOUGH / 2, 10, 20, 10, 20, 0, 0], (2, 1)).astype(float)
    assert np.isnan(estimate.add(few, always=False).saving).all()
    assert not estimate.add(few, always=False).active.any()


def test_a_task_begins_where_it_pays_and_ends_where_it_costs() -> None:
    pays = np.array([[100.0, 50.0, 40.0, 35.0, 50.0, 0.0, 0.0]])
    costs = np.array([[2000.0, 2000.0, 1500.0, 1300.0, 1700.0, 0.0, 0.0]])
    begun = PilotEstimate.start(1, 4).add(pays, always=False)
    assert begun.active.tolist() == [True]
    assert begun.saving[0] == pytest.approx(1 - 0.5 * 1.25)
    assert begun.add(costs, always=False).active.tolist() == [False]
    assert begun.add(costs, always=True).active.tolist() == [True]
