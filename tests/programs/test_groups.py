"""Ragged groups as numbers: who is a member, what it earned, and what becomes of groups of one and of none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_mtgrpo.rollouts.facts import NOWHERE, GroupFacts
from trl_mtgrpo.rollouts.programs import (
    NO_ROLE,
    BundleLimits,
    Bundles,
    Calls,
    ProgramMemory,
    balanced,
    judged,
    matched,
    ragged_groups,
    rollout_part,
)
from trl_mtgrpo.sampling import OUTCOMES, BatchLedger


def bundles(rewards: np.ndarray) -> Bundles:
    size = len(rewards)
    return Bundles(
        task=np.zeros(size, dtype=int),
        prompt=np.arange(size) + 10,
        bundle=np.arange(size),
        reward=rewards,
        success=(rewards >= 1).astype(float),
        parts=rewards[:, :, None].astype(np.float32),
    )


def calls(made: list[tuple[int, int, int]], rewards: np.ndarray, frozen: tuple[int, ...] = ()) -> Calls:
    """Calls as (rollout, role, occurrence); call i has i + 1 tokens and lies in slot i."""
    rollout, role, occurrence = np.array(made, dtype=int).reshape(-1, 3).T
    reward = rewards.reshape(-1)[rollout]
    return Calls(
        rollout=rollout,
        role=role,
        occurrence=occurrence,
        tokens=np.arange(len(made)) + 1,
        in_loss=np.ones(len(made), dtype=bool),
        trains=~np.isin(role, frozen),
        place=np.stack([np.zeros(len(made), dtype=int), np.arange(len(made))], axis=1),
        reward=reward,
        parts=reward[:, None].astype(np.float32),
    )


REWARDS = np.array([[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
# Bundle 0: all plan, rollouts 0 and 2 act, rollout 2 acts twice. Bundle 1: rollout 4 plans.
MADE = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (2, 0, 0), (2, 1, 0), (2, 1, 1), (4, 0, 0)]


def keys(facts: GroupFacts) -> list[tuple[int, int, int, int]]:
    columns = (facts.bundle, facts.role, facts.occurrence, facts.members)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_calls_of_one_role_and_occurrence_are_a_group_of_those_that_made_them() -> None:
    facts = ragged_groups(calls(MADE, REWARDS), bundles(REWARDS), 7).facts
    assert keys(facts) == [(0, 0, 0, 3), (0, 1, 0, 2), (0, 1, 1, 1), (1, 0, 0, 1)]
    assert facts.place[1, :, 1].tolist() == [1, NOWHERE, 4]
    assert facts.reward[1].tolist() == pytest.approx([1.0, np.nan, 0.5], nan_ok=True)
    assert facts.success[1].tolist() == [1.0, 0.0, 0.0]
    assert facts.prompt.tolist() == [10, 10, 10, 11]
    assert set(facts.generation.tolist()) == {7}
    assert facts.tokens.sum() == sum(range(1, 8))


def test_with_all_rollouts_those_that_never_came_have_a_reward_and_no_row() -> None:
    facts = ragged_groups(calls(MADE, REWARDS), bundles(REWARDS), 0, all_rollouts=True).facts
    assert facts.reward[1].tolist() == [1.0, 0.0, 0.5]
    assert facts.parts[1, :, 0].tolist() == [1.0, 0.0, 0.5]
    assert facts.place[1, :, 1].tolist() == [1, NOWHERE, 4]
    assert facts.members.tolist() == [3, 2, 1, 1]


def test_a_bundle_without_a_call_is_one_group_of_none_that_is_unscored_and_never_trains() -> None:
    ragged = ragged_groups(calls(MADE[:6], REWARDS), bundles(REWARDS), 0)
    facts = judged(ragged, np.zeros(4, dtype=int), np.ones(4, dtype=bool), keeps_all=True)
    assert keys(facts)[-1] == (1, NO_ROLE, 0, 0)
    assert OUTCOMES[facts.outcome[-1]] == "unscored"
    assert facts.accepted.tolist() == [True, True, True, False]
    assert (facts.place[-1] == NOWHERE).all()


def test_a_single_member_is_told_apart_and_does_not_train_where_groups_are_filtered() -> None:
    ragged = ragged_groups(calls(MADE, REWARDS), bundles(REWARDS), 0)
    zero, yes = np.zeros(4, dtype=int), np.ones(4, dtype=bool)
    facts = judged(ragged, zero, yes, keeps_all=False)
    assert [OUTCOMES[code] for code in facts.outcome] == ["informative", "informative", "singleton", "singleton"]
    assert facts.accepted.tolist() == [True, True, False, False]
    assert judged(ragged, zero, yes, keeps_all=False, all_rollouts=True).accepted.all()


def test_modules_that_are_not_trained_make_no_group_but_were_paid_for() -> None:
    facts = ragged_groups(calls(MADE, REWARDS, frozen=(0,)), bundles(REWARDS), 0).facts
    assert keys(facts) == [(0, 1, 0, 2), (0, 1, 1, 1), (1, NO_ROLE, 0, 0)]
    assert facts.tokens.tolist() == [2 + 5 + (1 + 3 + 4), 6, 7]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.data())
def test_every_trained_call_is_in_exactly_one_group_and_every_bundle_has_one(
    num_bundles: int, size: int, roles: int, data: st.DataObject
) -> None:
    made = [
        (rollout, role, occurrence)
        for rollout in range(num_bundles * size)
        for role in range(roles)
        for occurrence in range(data.draw(st.integers(0, 3)))
    ]
    rewards = np.arange(num_bundles * size, dtype=float).reshape(num_bundles, size)
    ragged = ragged_groups(calls(made, rewards), bundles(rewards), 0)
    facts = ragged.facts
    slots = facts.place[:, :, 1]
    assert sorted(slots[slots != NOWHERE].tolist()) == list(range(len(made)))
    assert sorted(set(facts.bundle.tolist())) == list(range(num_bundles))
    for group in range(len(facts)):
        for member in np.flatnonzero(slots[group] != NOWHERE):
            rollout, role, occurrence = made[slots[group, member]]
            assert rollout == facts.bundle[group] * size + member
            assert (role, occurrence) == (facts.role[group], facts.occurrence[group])
            assert facts.reward[group, member] == rewards.reshape(-1)[rollout]
    assert np.isnan(facts.reward[slots == NOWHERE]).all()
    assert facts.tokens.sum() == sum(range(len(made) + 1))


def ledger_of(*desired: int, generated: int = 0) -> BatchLedger:
    ledger = BatchLedger.start(np.array(desired) / sum(desired), np.array(desired))
    return ledger.record([generated, *[0] * (len(desired) - 1)], [0] * len(desired)) if generated else ledger


def test_the_estimate_of_groups_per_bundle_stays_exactly_one_for_single_calls() -> None:
    memory, limits = ProgramMemory.start(2), BundleLimits(np.array([16, 16]), None)
    one = ragged_groups(calls([(0, 0, 0), (3, 0, 0)], REWARDS), bundles(REWARDS), 0).facts
    for _ in range(5):
        memory = memory.update(one)
    assert memory.groups_per_bundle[0] == 1.0
    assert memory.bundles(np.array([7, 3]), ledger_of(7, 3), limits).tolist() == [7, 3]


def test_the_first_bundles_say_how_many_groups_a_bundle_brings() -> None:
    memory = ProgramMemory.start(1).update(ragged_groups(calls(MADE, REWARDS), bundles(REWARDS), 0).facts)
    assert memory.groups_per_bundle[0] == pytest.approx(2.0)
    assert memory.bundles(np.array([7]), ledger_of(7), BundleLimits(np.array([16]), None)).tolist() == [4]


def test_of_an_unknown_program_no_more_bundles_are_asked_for_than_it_has_places() -> None:
    memory, limits = ProgramMemory.start(2), BundleLimits(np.array([16, 1]), None)
    assert memory.bundles(np.array([72, 72]), ledger_of(24, 24), limits).tolist() == [24, 72]


def test_an_unknown_program_without_a_place_is_tried_where_it_is_asked_for() -> None:
    memory, limits = ProgramMemory.start(2), BundleLimits(np.array([16, 16]), 96)
    assert memory.bundles(np.array([3, 0]), ledger_of(0, 6), limits).tolist() == [1, 0]


@pytest.mark.parametrize("ceiling", [12, 48, 100, 384])
def test_unknown_programs_stay_under_the_ceiling_even_if_all_their_calls_are_made(ceiling: int) -> None:
    memory, most = ProgramMemory.start(2), np.array([8, 4])
    asked = memory.bundles(np.array([36, 36]), ledger_of(12, 12), BundleLimits(most, ceiling))
    assert (asked >= 1).all()
    assert (asked * most).sum() <= max(ceiling, most.sum())


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.floats(1, 9)), min_size=1, max_size=4),
    st.integers(1, 400),
    st.integers(0, 300),
)
def test_bundles_of_known_programs_never_bring_more_than_a_step_may_still_generate(
    tasks: list[tuple[int, float]], ceiling: int, generated: int
) -> None:
    asked, brings = np.array([n for n, _ in tasks]), np.array([y for _, y in tasks])
    memory = ProgramMemory(brings, ((),) * len(tasks))
    # The planner never asks for more groups than are left.
    asked = np.minimum(asked, max(ceiling - generated, 0) // len(tasks))
    ledger = ledger_of(*[8] * len(tasks), generated=generated)
    found = memory.bundles(asked, ledger, BundleLimits(np.full(len(tasks), 16), ceiling))
    first = np.minimum(asked, 1) if generated == 0 else np.zeros_like(asked)
    assert (found >= first).all()
    assert (found * brings).sum() <= max(ceiling - generated, 0) + (first * brings).sum() + 1e-6


def test_modules_in_turn_are_as_many_groups_as_were_chosen_the_earliest_first() -> None:
    made = [(i, 0, 0) for i in range(12)] + [(i, 1, 0) for i in range(6)]
    rewards = np.zeros((4, 3))
    stock = ragged_groups(calls(made, rewards), bundles(rewards), 0).facts
    chosen = balanced(stock, np.array([0, 1, 2, 3]), np.array([True]))
    assert stock.role[chosen].tolist().count(0) == stock.role[chosen].tolist().count(1) == 2
    assert stock.bundle[chosen].tolist() == [0, 0, 1, 1]
    assert balanced(stock, np.array([4, 5]), np.array([False])).tolist() == [4, 5]


def test_what_waits_of_balanced_modules_has_a_counterpart_of_every_other() -> None:
    made = [(i, 0, n) for i in range(12) for n in range(3)] + [(i, 1, 0) for i in range(12)]
    rewards = np.zeros((4, 3))
    stock = ragged_groups(calls(made, rewards), bundles(rewards), 0).facts
    left = np.ones(len(stock), dtype=bool)
    left[np.flatnonzero(stock.role == 1)[0]] = False
    kept = matched(stock, left, np.array([True])) & left
    assert np.bincount(stock.role[kept]).tolist() == [3, 3]
    assert matched(stock, left, np.array([False])).all()
    assert matched(stock, left, None).all()


def test_of_balanced_modules_only_groups_with_a_counterpart_count_as_what_a_bundle_brings() -> None:
    made = [(i, 0, n) for i in range(12) for n in range(3)] + [(i, 1, 0) for i in range(12)]
    facts = ragged_groups(calls(made, np.zeros((4, 3))), bundles(np.zeros((4, 3))), 0).facts
    assert ProgramMemory.start(1).update(facts).groups_per_bundle.tolist() == [4.0]
    assert ProgramMemory.start(1).update(facts, np.array([True])).groups_per_bundle.tolist() == [2.0]


def test_a_given_reward_is_put_where_the_host_adds_it_up_to() -> None:
    parts = np.array([[0.5, 0.25, 1.0], [0.5, np.nan, 0.0]], dtype=np.float32)
    weights = np.array([2.0, 1.0, 0.0])
    changed = rollout_part(parts, weights, np.array([9.0, -1.0]), np.array([False, True]))
    assert changed[0].tolist() == parts[0].tolist()
    assert changed[1].tolist() == pytest.approx([-0.5, np.nan, 0.0], nan_ok=True)
    assert np.nansum(changed[1] * weights) == -1.0
