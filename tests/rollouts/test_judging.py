"""Which groups train: those whose rows of the loss have an advantage, whatever else is known of them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trl_mtgrpo.rollouts import Judge, Verdict
from trl_mtgrpo.sampling import OUTCOMES


NAN = float("nan")
VALUES = st.sampled_from([NAN, 0.0, 0.1, 1.0])


def judge(**changes: Any) -> Judge:
    """One task of one function that says what is correct, lenient, as the host's defaults have it."""
    options: dict[str, Any] = {
        "part_weights": np.ones((1, 1)),
        "has_outcome": np.array([True]),
        "strict": False,
        "keeps_all": False,
    }
    return Judge(**(options | changes))


def judged(
    rule: Judge, reward: Any, success: Any = None, in_loss: Any = None, parts: Any = None, task: Any = None
) -> Verdict:
    """The verdict on groups of one function, whose correctness is the reward unless something else is said."""
    rewards = np.asarray(reward, dtype=np.float64)
    return rule(
        np.zeros(len(rewards), dtype=np.int64) if task is None else np.asarray(task),
        rewards,
        rewards if success is None else np.asarray(success, dtype=np.float64),
        (rewards[:, :, None] if parts is None else np.asarray(parts)).astype(np.float32),
        np.ones(rewards.shape, dtype=bool) if in_loss is None else np.asarray(in_loss),
    )


def named(verdict: Verdict) -> list[str]:
    return [OUTCOMES[code] for code in verdict.outcome]


def test_mixed_groups_train_and_others_say_why_they_do_not() -> None:
    verdict = judged(judge(), [[1, 0, 0], [1, 1, 1], [0, 0, 0], [NAN, NAN, NAN]])
    assert named(verdict) == ["informative", "solved", "failed", "unscored"]
    assert verdict.accepted.tolist() == [True, False, False, False]


@given(st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=5), st.booleans())
def test_a_lenient_group_trains_exactly_when_two_scored_members_differ(rows: list[list[float]], outcome: bool) -> None:
    verdict = judged(judge(has_outcome=np.array([outcome])), rows)
    differ = [len({value for value in row if value == value}) > 1 for row in rows]
    assert verdict.accepted.tolist() == differ
    assert (verdict.accepted == (verdict.outcome == 0)).all()


@given(st.lists(st.tuples(VALUES, st.booleans()), min_size=3, max_size=3))
def test_a_group_is_masked_exactly_when_its_advantages_lie_outside_the_loss(members: list[tuple[float, bool]]) -> None:
    reward, in_loss = zip(*members, strict=True)
    whole, masked = judged(judge(), [reward]), judged(judge(), [reward], in_loss=[in_loss])
    values = np.array(reward)
    known = values[~np.isnan(values)]
    moves = ~np.isnan(values) & (np.abs(values - (known.mean() if len(known) else 0.0)) > 1e-9) & np.array(in_loss)
    assert masked.accepted[0] == (whole.accepted[0] and moves.any())
    if whole.accepted[0] and not masked.accepted[0]:
        assert named(masked) == ["masked"]
    else:
        assert named(masked) == named(whole)


def test_a_masked_member_still_counts_in_the_baseline_of_the_others() -> None:
    assert named(judged(judge(), [[1, 0, 0]], in_loss=[[False, True, True]])) == ["informative"]


def test_of_members_whose_correctness_is_unknown_the_others_decide() -> None:
    reward = [[0.2, 0.4, 0.4]] * 3
    success = [[1, NAN, 1], [NAN, 0, 0], [NAN, NAN, NAN]]
    strict = judge(strict=True)
    assert named(judged(strict, reward, success)) == ["solved", "failed", "informative"]
    assert named(judged(judge(), reward, success)) == ["informative"] * 3


def test_a_constant_group_of_unknown_correctness_is_neither_solved_nor_failed() -> None:
    assert named(judged(judge(), [[0.4, 0.4]], success=[[NAN, NAN]])) == ["constant"]
    assert named(judged(judge(has_outcome=np.array([False])), [[1.0, 1.0]])) == ["constant"]


def test_the_strict_rule_binds_only_tasks_that_say_what_is_correct() -> None:
    rule = judge(strict=True, has_outcome=np.array([True, False]), part_weights=np.ones((2, 1)))
    verdict = judged(rule, [[0.6, 0.9], [0.6, 0.9]], success=[[1, 1], [1, 1]], task=[0, 1])
    assert named(verdict) == ["solved", "informative"]


def test_a_member_without_reward_says_nothing_whatever_is_known_of_its_correctness() -> None:
    verdict = judged(judge(), [[NAN, NAN, 0.5]], success=[[1, 0, 1]], parts=[[[0.0], [1.0], [0.5]]])
    assert named(verdict) == ["unscored"]


@pytest.mark.parametrize(("scale", "outcome"), [("group", "constant"), ("batch", "constant"), ("none", "informative")])
def test_rewards_so_far_apart_that_their_deviation_overflows_move_nothing(scale: str, outcome: str) -> None:
    rule = judge(scale_rewards=scale, has_outcome=np.array([False]))
    assert named(judged(rule, [[3e38, -3e38, 0.0]])) == [outcome]


def test_infinite_rewards_move_nothing_and_leave_other_groups_alone() -> None:
    rule = judge(has_outcome=np.array([False]))
    verdict = judged(rule, [[float("inf"), 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert verdict.accepted.tolist() == [False, True]


def test_each_task_is_judged_with_the_weights_of_its_own_functions() -> None:
    rule = judge(part_weights=np.array([[1.0, 0.0], [1.0, 1.0]]), has_outcome=np.array([False, False]))
    parts = [[[0.5, 0.0], [0.5, 1.0]]] * 2
    verdict = judged(rule, [[0.5, 0.5], [0.5, 1.5]], parts=parts, task=[0, 1])
    assert named(verdict) == ["constant", "informative"]


def test_functions_that_cancel_move_nothing_unless_each_is_normalised_by_itself() -> None:
    parts = [[[0.0, 2.0], [0.5, 1.0], [1.0, 0.0]]]  # twice the first and once the second are 2 everywhere
    options: dict[str, Any] = {"part_weights": np.array([[2.0, 1.0]]), "has_outcome": np.array([False])}
    assert named(judged(judge(**options), [[2.0] * 3], parts=parts)) == ["constant"]
    apart = judge(**options, aggregation="normalize_then_sum")
    assert named(judged(apart, [[2.0] * 3], parts=parts)) == ["informative"]


# A filter of the user's own


@given(st.lists(st.lists(VALUES, min_size=2, max_size=2), min_size=1, max_size=5), st.data())
def test_a_filter_drops_groups_and_never_keeps_one_that_moves_nothing(rows: Any, data: st.DataObject) -> None:
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    free, filtered = judged(judge(), rows), judged(judge(group_filter=lambda rewards: keep), rows)
    assert (filtered.accepted == (free.accepted & keep)).all()
    assert (filtered.outcome == free.outcome).all()


def test_a_filter_sees_the_rewards_of_every_group_of_every_task_at_once() -> None:
    seen: list[NDArray[np.float64]] = []

    def keep(rewards: NDArray[np.float64]) -> NDArray[np.bool_]:
        seen.append(rewards)
        return np.ones(len(rewards), dtype=bool)

    rule = judge(part_weights=np.ones((2, 1)), has_outcome=np.array([True, True]), group_filter=keep)
    judged(rule, [[1, 0], [0, 0], [0, 1]], task=[0, 1, 0])
    assert [rewards.tolist() for rewards in seen] == [[[1, 0], [0, 0], [0, 1]]]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (np.ones((2, 2), dtype=bool), r"bool of shape \(2, 2\)"),
        (np.ones(2), r"float64 of shape \(2,\)"),
        ([True], r"bool of shape \(1,\)"),
        (True, r"bool of shape \(\)"),
    ],
    ids=["per rollout", "numbers", "too few", "one for all"],
)
def test_a_filter_that_answers_otherwise_is_refused(answer: Any, found: str) -> None:
    with pytest.raises(ValueError, match=rf"`group_filter` must return booleans of shape \(2,\), got {found}"):
        judged(judge(group_filter=lambda rewards: answer), [[1, 0], [0, 0]])


def test_where_nothing_is_filtered_every_group_trains_and_its_outcome_is_still_known() -> None:
    verdict = judged(judge(keeps_all=True), [[1, 0], [1, 1], [NAN, NAN]])
    assert verdict.accepted.all()
    assert named(verdict) == ["informative", "solved", "unscored"]
