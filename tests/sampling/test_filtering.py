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


def names(*arguments, **options):
    return [OUTCOMES[code] for code in group_outcomes(*arguments, **options)]


def test_a_group_is_masked_when_only_rows_outside_the_loss_have_an_advantage():
    rewards = np.array([[0.0, 0.5, 1.0], [0.0, 0.5, 1.0], [0.0, 0.0, 0.0], [0.0, 0.5, 1.0]])
    in_loss = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=bool)
    # The middle row is at the mean: its tokens are in the loss of the second group, with advantage zero.
    assert names(rewards, in_loss=in_loss) == ["informative", "masked", "constant", "informative"]
    correct = np.zeros((4, 3))
    assert names(rewards, correct, in_loss=in_loss) == ["informative", "masked", "failed", "informative"]
    assert names(rewards, correct, require_mixed=True, in_loss=in_loss) == ["failed"] * 4


@thorough
@given(batches(), st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_a_group_trains_exactly_when_a_row_of_the_loss_has_an_advantage(aggregation, batch, seed):
    rewards, weights = batch
    in_loss = np.random.default_rng(seed).random(rewards.shape[:2]) < 0.5
    moved = (np.abs(advantages(rewards, weights, aggregation)) > 1e-6) & in_loss
    outcomes = group_outcomes(rewards, None, weights, aggregation, in_loss=in_loss)
    np.testing.assert_array_equal(outcomes == 0, moved.any(axis=1))


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_a_spread_whose_deviation_overflows_is_constant(aggregation):
    rewards = np.array([[1e30, 0.0, 0.0], [np.inf, 0.0, 1.0], [-np.inf, np.inf, 0.0]], dtype=np.float32)
    assert names(rewards, aggregation=aggregation) == ["constant"] * 3


def test_without_scaling_a_spread_that_overflows_still_moves_the_policy():
    rewards = np.array([[1e30, 0.0, 0.0]], dtype=np.float32)
    assert has_reward_variance(rewards, scale_rewards="none").tolist() == [True]
    assert has_reward_variance(rewards, scale_rewards="batch").tolist() == [False]


def test_what_is_not_known_is_neither_right_nor_wrong():
    rewards = np.array([[0.0, 1.0]] * 4 + [[1.0, 1.0]] * 3)
    nan = np.nan
    correct = np.array([[nan, nan], [1, nan], [nan, 0], [1, 0], [nan, nan], [1, nan], [nan, 0]])
    still = ["constant", "solved", "failed"]
    assert names(rewards, correct) == ["informative"] * 4 + still
    assert names(rewards, correct, require_mixed=True) == ["informative", "solved", "failed", "informative", *still]
    assert has_mixed_correctness(correct).tolist() == [False, False, False, True, False, False, False]


def test_half_a_success_counts_as_correct():
    assert names(np.zeros((2, 2)), np.array([[0.5, 0.9], [0.4, 0.0]])) == ["solved", "failed"]


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
        (
            lambda: has_reward_variance(np.zeros((2, 3)), scale_rewards="all"),
            "`scale_rewards` must be 'group', 'batch' or 'none', got 'all'",
        ),
        (lambda: group_outcomes(np.zeros((2, 3)), in_loss=[True]), "`in_loss` must be of shape (2, 3), got (1,)"),
        (lambda: has_mixed_correctness(np.zeros(3)), "`outcomes` must be of shape (N, G), got (3,)"),
        (lambda: group_outcomes(np.zeros((2, 3)), np.zeros((2, 2))), "`correct` must be of shape (2, 3), got (2, 2)"),
        (lambda: group_outcomes(np.zeros((2, 3)), require_mixed=True), "`correct` must be given with `require_mixed`"),
    ],
)
def test_wrong_arguments_are_refused(use, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        use()
