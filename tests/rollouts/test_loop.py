"""The mix of 200 made-up steps, and the places where a batch is put together."""

from dataclasses import replace

import numpy as np
import pytest

from tests.fake_runs import FakePolicy, loop, step
from trl_mtgrpo import ImprovementAwareWeighting, RatioPreservingSampler, TaskSignal
from trl_mtgrpo.sampling.accounting import REASONS
from trl_mtgrpo.state.run_state import start_state


def names(num_tasks: int) -> tuple[str, ...]:
    return tuple(f"task{k}" for k in range(num_tasks))


def run(sampler: RatioPreservingSampler, acceptance: tuple[float, ...], num_steps: int, seed: int = 0) -> list:
    """Steps whose weights drift towards the tasks of low acceptance."""
    sizes, weighting = [50] * len(acceptance), ImprovementAwareWeighting()
    collect, state, batches = loop(sizes, sampler, seed), start_state(names(len(sizes)), weighting), []
    for _ in range(num_steps):
        batch, state = step(collect, state, weighting.weights(state.weighting), FakePolicy(acceptance))
        moved = weighting.update(TaskSignal(rewards=np.array(acceptance)), state.weighting)
        state = replace(state, weighting=moved)
        batches.append(batch)
    assert (state.groups.imbalance == 0).all()
    return batches


@pytest.mark.parametrize("age", [0, 1])
def test_trained_groups_follow_the_drawn_counts_in_200_steps(age: int) -> None:
    batches = run(RatioPreservingSampler(num_groups=12, max_surplus_age=age), (0.9, 0.5, 0.1), 200)
    sufficed = [batch for batch in batches if (batch.plan.available >= batch.plan.desired).all()]
    for batch in sufficed:
        assert batch.group_ledger.trained.tolist() == batch.plan.desired.tolist()
    assert len(sufficed) >= 195  # at acceptance 0.1 a step in a hundred or less meets its ceiling of 16 batches
    # The drawn counts in turn follow the weights: 200 x 12 draws, within four standard errors.
    drawn = sum(batch.plan.desired for batch in batches) / (200 * 12)
    weights = np.mean([batch.plan.weights for batch in batches], axis=0)
    assert (np.abs(drawn - weights) < 4 * np.sqrt(weights * (1 - weights) / (200 * 12))).all()


def test_without_ratios_the_easy_task_takes_the_batch() -> None:
    batches = run(RatioPreservingSampler(num_groups=24, preserve_ratio=False), (0.9, 0.5, 0.1), 50)
    trained = sum(batch.group_ledger.trained for batch in batches)
    assert trained[0] > 2 * trained[2]


def test_the_budget_of_rounds_ends_a_step() -> None:
    sampler = RatioPreservingSampler(num_groups=8, oversampling=1.0, max_rounds=1)
    batches = run(sampler, (0.1, 0.1), 20)
    assert max(batch.plan.rounds for batch in batches) == 2
    assert any(batch.is_filler.any() for batch in batches)
    for batch in batches:
        assert len(batch.groups) == 8
        assert batch.group_ledger.trained.sum() + batch.is_filler.sum() == 8


def test_with_nothing_accepted_the_whole_batch_is_filler() -> None:
    batches = run(RatioPreservingSampler(num_groups=4, oversampling=1.0, max_rounds=0), (0.0, 0.0), 2)
    assert all(batch.is_filler.all() for batch in batches)
    assert all(batch.group_ledger.filtered.sum() == 4 for batch in batches)


def test_filtered_groups_have_their_reason() -> None:
    batches = run(RatioPreservingSampler(num_groups=8, oversampling=3.0), (0.0,), 10)
    filtered = sum(batch.group_ledger.filtered for batch in batches)[0]
    by_reason = dict(zip(REASONS, filtered.tolist(), strict=True))
    assert by_reason["solved"] > 0
    assert by_reason["failed"] > 0
    assert by_reason["unscored"] > 0
    assert by_reason["constant"] == by_reason["informative"] == 0


def test_the_oldest_carried_groups_train_first() -> None:
    sampler = RatioPreservingSampler(num_groups=4, oversampling=3.0, max_surplus_age=2)
    for batch in run(sampler, (1.0,), 6)[2:]:
        trained = batch.groups.generation.tolist()
        assert trained == sorted(trained)
        assert (batch.surplus.generation >= trained[-1]).all()


def test_solved_groups_shrink_a_share_by_what_is_solved_and_nothing_else() -> None:
    acceptance = np.array([0.9, 0.1])
    weights = np.array([0.5, 0.5])
    state = start_state(names(2), ImprovementAwareWeighting())
    collect = loop([50, 50], RatioPreservingSampler(num_groups=24), solved_discount=1.0)
    shares = []
    for _ in range(60):
        batch, state = step(collect, state, weights, FakePolicy(acceptance))
        shares.append(batch.plan.weights)
    assert shares[0].tolist() == [0.5, 0.5]
    # Of what is filtered the made-up answers solve a third, fail a third and leave a third unscored, which is no news.
    third = (1 - acceptance) / 3
    unsolved = (acceptance + third) / (acceptance + 2 * third)
    assert np.abs(np.mean(shares[20:], axis=0) - unsolved / unsolved.sum()).max() < 0.02


def test_a_held_task_gets_its_share_of_what_is_generated_and_loses_its_solved_groups_once() -> None:
    acceptance = np.array([0.9, 0.1])
    weights = np.array([0.5, 0.5])
    state = start_state(names(2), ImprovementAwareWeighting())
    state = replace(state, guard=replace(state.guard, held=np.array([False, True])))
    collect = loop([50, 50], RatioPreservingSampler(num_groups=24), solved_discount=1.0)
    shares = []
    for _ in range(100):
        batch, state = step(collect, state, weights, FakePolicy(acceptance))
        shares.append(batch.plan.weights)
    kept = np.array([1 - (1 - acceptance[0]) / 3, acceptance[1]])
    assert np.abs(np.mean(shares[30:], axis=0) - kept / kept.sum()).max() < 0.02


class Greedy(RatioPreservingSampler):
    """Selects what it likes."""

    picks: tuple[int, ...] = ()

    def select(self, task_ids: object, ledger: object, rng: object) -> np.ndarray:
        return np.array(self.picks)


@pytest.mark.parametrize("picks", [(0, 1, 2), (0, 0)], ids=["too many", "twice"])
def test_a_sampler_that_selects_too_many_groups_or_one_twice_is_refused(
    picks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Greedy, "picks", picks)
    with pytest.raises(ValueError, match=r"`sampler.select` must return at most 2 positions, each once, got \[0, "):
        run(Greedy(num_groups=2, oversampling=3.0), (1.0,), 1)


def test_a_sampler_that_plans_nothing_is_refused() -> None:
    class Idle(RatioPreservingSampler):
        def plan(self, *arguments: object) -> None:
            return None

    with pytest.raises(ValueError, match="`sampler` must ask for at least one group where none is carried"):
        run(Idle(num_groups=4), (0.5, 0.5), 1)
