"""Filters against TRL's advantage formula, written out here in plain numpy."""

import re

import numpy as np
import pytest
from _worlds import thorough
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.sampling import (
    OUTCOMES,
    advantage_is_zero,
    group_outcomes,
    has_mixed_correctness,
    has_reward_variance,
)


def sample_std(values):
    values = values[~np.isnan(values)]
    return np.std(values, ddof=1) if values.size > 1 else np.nan


def advantages(rewards, weights, aggregation, scale="group"):
    """Advantages (N, G) of rewards (N, G, F): TRL's definition, one group at a time."""
    num_groups, num_generations, _ = rewards.shape
    unscored = np.isnan(rewards).all(axis=2)
    result = np.full((num_groups, num_generations), np.nan)
    if aggregation == "sum_then_normalize":
        total = np.nansum(rewards * weights, axis=2)
        total[unscored] = np.nan
        for n in range(num_groups):
            known = total[n][~np.isnan(total[n])]
            if known.size == 0:
                continue
            spread = {"group": sample_std(total[n]), "batch": sample_std(total.ravel()), "none": 0.0}[scale]
            result[n] = (total[n] - known.mean()) / ((spread + 1e-4) if scale != "none" else 1.0)
    else:
        total = np.zeros((num_groups, num_generations))
        for n in range(num_groups):
            for f in range(rewards.shape[2]):
                column = rewards[n, :, f]
                if np.isnan(column).all():
                    continue
                normal = weights[f] * (column - np.nanmean(column)) / (sample_std(column) + 1e-4)
                total[n] += np.nan_to_num(normal, nan=0.0)
        total[unscored] = np.nan
        known = total[~np.isnan(total)]
        if known.size:
            result = (total - known.mean()) / (sample_std(total.ravel()) + 1e-4)
    return np.nan_to_num(result, nan=0.0)


scores = st.sampled_from([0.0, 0.1, 0.5, 1.0, -1.0, np.nan])


@st.composite
def batches(draw):
    num_groups, num_generations, num_functions = (
        draw(st.integers(1, 4)),
        draw(st.integers(2, 5)),
        draw(st.integers(1, 3)),
    )
    size = num_groups * num_generations * num_functions
    rewards = np.array(draw(st.lists(scores, min_size=size, max_size=size)))
    if draw(st.booleans()):
        rewards[: size // num_groups] = draw(scores)
    weights = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=num_functions, max_size=num_functions))
    return rewards.reshape(num_groups, num_generations, num_functions), np.array(weights)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@thorough
@given(batches())
def test_summed_rewards_are_dropped_exactly_when_all_advantages_are_zero(scale, batch):
    rewards, weights = batch
    dead = (np.abs(advantages(rewards, weights, "sum_then_normalize", scale)) < 1e-9).all(axis=1)
    np.testing.assert_array_equal(advantage_is_zero(rewards, weights), dead)


@thorough
@given(batches())
def test_normalised_columns_are_dropped_exactly_when_all_advantages_are_zero(batch):
    rewards, weights = batch
    dead = (np.abs(advantages(rewards, weights, "normalize_then_sum")) < 1e-6).all(axis=1)
    np.testing.assert_array_equal(advantage_is_zero(rewards, weights, "normalize_then_sum"), dead)


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.5, 1.0, -1.0])
@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_rewards_carry_nothing(constant, aggregation, dtype):
    rewards = np.full((1, 8, 2), constant, dtype=dtype)
    assert not has_reward_variance(rewards, np.array([0.3, 0.7]), aggregation)[0]


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_noise_of_rounding_size_counts_as_constant(aggregation):
    rewards = 0.1 + 1e-7 * np.random.default_rng(0).standard_normal((5, 8, 1))
    assert not has_reward_variance(rewards, aggregation=aggregation).any()


def test_the_smallest_real_difference_is_kept():
    assert has_reward_variance(np.array([[0.1] * 7 + [0.101]]))[0]


def test_a_rollout_without_any_score_takes_no_part():
    rewards = np.array([[0.1, np.nan, 0.1], [0.1, np.nan, 1.0], [np.nan, np.nan, 1.0], [np.nan, np.nan, np.nan]])
    assert has_reward_variance(rewards).tolist() == [False, True, False, False]


def test_the_aggregation_decides_about_columns_that_cancel_in_sum():
    rewards = np.array([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]])
    assert has_reward_variance(rewards).tolist() == [False, True]
    assert has_reward_variance(rewards, np.array([1.0, 2.0])).tolist() == [True, False]
    assert has_reward_variance(rewards, np.array([1.0, 2.0]), "normalize_then_sum").tolist() == [True, True]


def test_a_column_of_weight_zero_does_not_count():
    rewards = np.array([[[1.0, 0.3], [0.0, 0.3]]])
    assert not has_reward_variance(rewards, np.array([0.0, 1.0]))[0]


def test_mixed_correctness_wants_both_kinds():
    rewards = np.array([[1.0, 1.0], [0.1, 0.0], [1.0, 0.1], [np.nan, 1.0]])
    assert has_mixed_correctness(rewards).tolist() == [False, False, True, False]
    assert has_mixed_correctness(rewards >= 1.0).tolist() == [False, False, True, True]
    assert has_mixed_correctness(rewards, threshold=0.1).tolist() == [False, True, False, False]


def test_outcomes_name_the_reason():
    rewards = np.array([[0.1, 1.0], [1.0, 1.0], [0.1, 0.1], [0.5, 0.5], [np.nan, 1.0], [0.0, 0.1]])
    correct = np.array([[0, 1], [1, 1], [0, 0], [0, 1], [0, 1], [0, 0]], dtype=bool)
    lenient = [OUTCOMES[code] for code in group_outcomes(rewards, correct)]
    assert lenient == ["informative", "solved", "failed", "constant", "unscored", "informative"]
    strict = [OUTCOMES[code] for code in group_outcomes(rewards, correct, require_mixed=True)]
    assert strict == ["informative", "solved", "failed", "constant", "unscored", "failed"]


def test_without_correctness_a_constant_group_is_constant():
    assert group_outcomes(np.array([[1.0, 1.0]])).tolist() == [OUTCOMES.index("constant")]


@thorough
@given(batches())
def test_a_group_is_informative_exactly_when_the_filter_keeps_it(batch):
    rewards, weights = batch
    np.testing.assert_array_equal(group_outcomes(rewards, None, weights) == 0, has_reward_variance(rewards, weights))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: has_reward_variance(np.zeros(4)), "`rewards` must be of shape (N, G) or (N, G, F), got (4,)"),
        (
            lambda: has_reward_variance(np.zeros((2, 3, 2)), np.ones(3)),
            "`reward_weights` must be of shape (2,), got (3,)",
        ),
        (
            lambda: has_reward_variance(np.zeros((2, 3)), aggregation="mean"),
            "`aggregation` must be 'sum_then_normalize'",
        ),
        (lambda: has_mixed_correctness(np.zeros(3)), "`outcomes` must be of shape (N, G), got (3,)"),
        (lambda: group_outcomes(np.zeros((2, 3)), np.zeros((2, 2))), "`correct` must be of shape (2, 3), got (2, 2)"),
        (lambda: group_outcomes(np.zeros((2, 3)), require_mixed=True), "`correct` must be given with `require_mixed`"),
    ],
)
def test_wrong_arguments_are_refused(use, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        use()
