"""Prompts with pass rates of their own: what a memory of them saves, and that task statistics do not notice it."""

import functools

import numpy as np
import pytest

from benchmarks.rollout_prompts import PROMPT_WORLDS, hard_and_easy
from trl_mtgrpo import RatioPreservingSampler
from trl_mtgrpo.rollouts import PopulationResult, simulate_prompts
from trl_mtgrpo.sampling import StallDoctor


@functools.cache
def run(world: str, memory: str, seed: int = 0) -> PopulationResult:
    found = PROMPT_WORLDS[world]
    sampler = RatioPreservingSampler(found.num_groups, max_surplus_age=2)
    weights = np.ones((found.num_steps, 1))
    return simulate_prompts(weights, found.sizes, found.draw(seed), sampler, found.num_generations, memory, seed)


def error(result: PopulationResult) -> np.ndarray:
    off = result.measured - result.accuracy
    return off[~np.isnan(off)]


LIMITS = {"easy": 0.65, "bimodal": 0.85, "mid": 1.0, "hard": 1.02, "adversary": 1.03}


@pytest.mark.parametrize("world", LIMITS)
def test_generated_groups_stay_below_the_limit_of_the_world(world: str) -> None:
    assert run(world, "solved").generated_per_least <= LIMITS[world]
    assert run(world, "off").generated_per_least == pytest.approx(1.0, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("world", PROMPT_WORLDS)
def test_the_accuracy_that_weights_see_is_that_of_uniform_draws(world: str) -> None:
    plain, memory = error(run(world, "off")), error(run(world, "solved"))
    assert abs(memory.mean()) <= 0.01
    assert memory.std() <= 1.25 * plain.std()


def test_without_the_correction_it_would_not_be() -> None:
    result = run("bimodal", "solved")
    assert np.nanmean(result.raw - result.accuracy) < -0.1


@pytest.mark.parametrize("world", ["easy", "bimodal", "hard"])
def test_quotas_and_rounds_are_those_of_uniform_draws(world: str) -> None:
    plain, memory = run(world, "off"), run(world, "solved")
    assert memory.exact_mix_ratio == 1.0
    assert memory.rounds.mean() <= plain.rounds.mean() + 0.1


def test_below_one_pass_draws_are_identical() -> None:
    plain, memory = (run("bimodal, less than one pass", mode) for mode in ("off", "solved"))
    assert memory.passes[0] < 1
    assert len(plain.rows) == len(memory.rows)
    assert all(np.array_equal(one, other) for one, other in zip(plain.rows, memory.rows, strict=True))
    assert np.array_equal(plain.measured, memory.measured, equal_nan=True)


@pytest.mark.parametrize("world", ["easy", "bimodal", "mid", "hard"])
def test_what_the_memory_says_that_it_would_save_is_what_it_saves(world: str) -> None:
    plain, memory = run(world, "off"), run(world, "solved")
    late = slice(300, None)
    saved = 1 - memory.generated[late].sum() / plain.generated[late].sum()
    assert np.nanmean(plain.saving[late]) == pytest.approx(saved, abs=0.08)


def ranked_wrong(memory: str, seeds: int = 3, together: int = 25) -> tuple[float, float]:
    """Share of stretches of steps in which the better task seems worse: as measured, and without correction."""
    wrong, raw = [], []
    for seed in range(seeds):
        sampler = RatioPreservingSampler(32, max_surplus_age=2)
        weights = np.full((400, 2), 0.5)
        result = simulate_prompts(weights, (2_000, 2_000), hard_and_easy(seed), sampler, 8, memory, seed)
        gap = np.diff(result.accuracy, axis=1)[:, 0]
        assert (gap < -0.04).all()
        for values, found in ((result.measured, wrong), (result.raw, raw)):
            means = np.nanmean(values[100:].reshape(-1, together, 2), axis=1)
            found += (means[:, 1] > means[:, 0]).tolist()
    return float(np.mean(wrong)), float(np.mean(raw))


@pytest.mark.slow
def test_of_two_tasks_the_better_one_stays_the_better_one() -> None:
    corrected, raw = ranked_wrong("solved")
    assert corrected <= 0.02
    assert raw > 0.5


def test_the_solved_share_that_the_discount_sees_is_that_of_uniform_draws() -> None:
    shares = []
    for memory in ("off", "solved"):
        rates = {0: np.repeat([0.999, 0.5], 300), 1: np.full(600, 0.5)}
        result = simulate_prompts(
            np.full((200, 2), 0.5),
            (600, 600),
            lambda step, task, rates=rates: rates[task],
            RatioPreservingSampler(32, max_surplus_age=2),
            8,
            memory,
            doctor=StallDoctor.for_batch(32),
            solved_discount=1.0,
        )
        shares.append(result.trained[60:, 0].sum() / result.trained[60:].sum())
    assert shares[0] == pytest.approx(1 / 3, abs=0.02)
    assert shares[1] == pytest.approx(shares[0], abs=0.02)
