"""Populations of prompts over several passes, each prompt with a pass rate of its own that drifts."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trl_mtgrpo.rollouts import PassRates


class PromptWorld(NamedTuple):
    """
    What a memory of prompts meets.

    Args:
        draw (`Callable`): From a seed to the pass rates.
        sizes (`tuple[int, ...]`): Prompts of each task.
        num_groups (`int`): Groups per training step (B).
        num_generations (`int`): Rollouts per group (G).
        num_steps (`int`): Steps.
    """

    draw: Callable[[int], PassRates]
    sizes: tuple[int, ...]
    num_groups: int
    num_generations: int
    num_steps: int


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-logits))


def drifting(
    logits: Callable[[np.random.Generator, int], NDArray[np.float64]],
    size: int,
    learned: float = 0.0,
    drift: float = 0.7,
    period: float = 300.0,
    num_steps: int = 400,
) -> Callable[[int], PassRates]:
    """
    Prompts of given logits at the start, which all rise by `learned` over the run while each wanders by itself: its
    logit moves by about `drift` within `period / 6` steps.
    """

    def draw(seed: int) -> PassRates:
        rng = np.random.default_rng([20, seed])
        start = logits(rng, size)
        phase, height = rng.uniform(0, 2 * np.pi, size), drift * rng.standard_normal(size)

        def rates(step: int, task: int) -> NDArray[np.float64]:
            wander = height * (np.sin(phase + 2 * np.pi * step / period) - np.sin(phase))
            return sigmoid(start + learned * step / num_steps + wander)

        return rates

    return draw


def around(mean: float, spread: float) -> Callable[[np.random.Generator, int], NDArray[np.float64]]:
    return lambda rng, size: mean + spread * rng.standard_normal(size)


def bimodal(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """One half nearly solved, the other half in between."""
    return np.where(rng.random(size) < 0.5, 5.0, -0.5) + rng.standard_normal(size)


def adversary(seed: int, size: int = 4_000, pass_steps: int = 64) -> PassRates:
    """What was solved when it came up has become informative when it comes up again, and the other way round."""
    solved_first = np.random.default_rng([21, seed]).random(size) < 0.5

    def rates(step: int, task: int) -> NDArray[np.float64]:
        turned = (step // pass_steps) % 2 == 1
        return np.where(solved_first ^ turned, 0.995, 0.5)

    return rates


def forgetting(seed: int, size: int = 4_000, at: int = 200) -> PassRates:
    """Three quarters of the prompts are solved, until between two steps half of those are not."""
    rng = np.random.default_rng([22, seed])
    logits = np.where(rng.random(size) < 0.75, 5.0, 0.0) + rng.standard_normal(size)
    lost = rng.random(size) < 0.5

    def rates(step: int, task: int) -> NDArray[np.float64]:
        return sigmoid(np.where(lost & (step >= at), np.minimum(logits, 0.0), logits))

    return rates


def hard_and_easy(seed: int, size: int = 2_000) -> PassRates:
    """An easy and a hard task: one half solved and the other failing, or all in between, .05 apart in accuracy."""
    rng = np.random.default_rng([23, seed])
    split = np.where(np.arange(size) < 0.55 * size, 6.0, -4.0) + rng.standard_normal(size)
    even = 0.5 * rng.standard_normal(size)
    logits = (split, even)
    return lambda step, task: sigmoid(logits[task])


STEPS = 400
PROMPT_WORLDS: dict[str, PromptWorld] = {
    "easy": PromptWorld(drifting(around(3.65, 2.0), 4_000), (4_000,), 32, 8, STEPS),
    "bimodal": PromptWorld(drifting(bimodal, 4_000), (4_000,), 32, 8, STEPS),
    "mid": PromptWorld(drifting(around(0.0, 1.6), 4_000), (4_000,), 32, 8, STEPS),
    "hard": PromptWorld(drifting(around(-2.3, 2.0), 4_000), (4_000,), 32, 8, STEPS),
    "adversary": PromptWorld(adversary, (4_000,), 32, 8, STEPS),
    "learning": PromptWorld(drifting(around(-2.0, 2.0), 2_000, learned=6.0), (2_000,), 32, 8, STEPS),
    "forgetting": PromptWorld(forgetting, (4_000,), 32, 8, STEPS),
    "bimodal, less than one pass": PromptWorld(drifting(bimodal, 100_000), (100_000,), 32, 8, STEPS),
}
