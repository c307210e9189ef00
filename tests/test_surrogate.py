"""The clipped objective per sequence, by hand and against a plain computation."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.improvement.surrogate import sequence_surrogate


def surrogate(
    ratios: list[list[float]], advantages: list[float], mask: list[list[int]], **options: object
) -> list[float]:
    logps = torch.tensor(ratios, dtype=torch.float64).log()
    clip = {"epsilon_low": 0.2, "epsilon_high": 0.28, **options}
    return sequence_surrogate(
        logps, torch.zeros_like(logps), torch.tensor(advantages, dtype=torch.float64), torch.tensor(mask), **clip
    ).tolist()


def test_without_an_update_it_is_the_advantage() -> None:
    assert surrogate([[1.0, 1.0]], [1.5], [[1, 1]]) == pytest.approx([1.5])


def test_gains_are_cut_at_the_clip_range() -> None:
    # mean of min(1.1, .) = 1.1 and min(2.0, 1.28) = 1.28
    assert surrogate([[1.1, 2.0]], [1.0], [[1, 1]]) == pytest.approx([1.19])
    # for A = -1: min(-0.9, .) = -0.9 and min(-0.5, -0.8) = -0.8
    assert surrogate([[0.9, 0.5]], [-1.0], [[1, 1]]) == pytest.approx([-0.85])


def test_losses_are_not_cut() -> None:
    assert surrogate([[3.0]], [-1.0], [[1]]) == pytest.approx([-3.0])


def test_delta_bounds_the_unclipped_ratio() -> None:
    assert surrogate([[3.0]], [-1.0], [[1]], delta=2.0) == pytest.approx([-2.0])


def test_masked_tokens_do_not_count() -> None:
    assert surrogate([[1.1, 100.0]], [1.0], [[1, 0]]) == pytest.approx([1.1])
    assert surrogate([[5.0, 5.0]], [1.0], [[0, 0]]) == [0.0]


def test_unknown_log_probabilities_behind_the_mask_do_not_spread() -> None:
    assert surrogate([[1.0, math.nan]], [1.0], [[1, 0]]) == pytest.approx([1.0])


def test_at_sequence_level_there_is_one_ratio() -> None:
    # the geometric mean of 1.21 and 1.0 is 1.1
    assert surrogate([[1.21, 1.0]], [1.0], [[1, 1]], level="sequence") == pytest.approx([1.1])


@given(st.lists(st.floats(0.3, 3.0), min_size=1, max_size=5), st.floats(-2, 2))
def test_it_never_exceeds_the_unclipped_objective(ratios: list[float], advantage: float) -> None:
    mask = [[1] * len(ratios)]
    unclipped = sum(ratio * advantage for ratio in ratios) / len(ratios)
    assert surrogate([ratios], [advantage], mask)[0] <= unclipped + 1e-9
