"""Task weights and acceptance over a run: the paper's series, and harder ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


PAPER = Path(__file__).parent / "data" / "paper_exp1.json"
# Completion tokens of a rollout in the paper's series. The paper prints none: these are assumed.
PAPER_TOKENS = {"arc": 1000.0, "countdown": 500.0, "zebra": 750.0}


class World(NamedTuple):
    """
    What a sampler meets.

    Args:
        weights (`np.ndarray`): Task weights of each step, shape `(T, K)`.
        acceptance (`np.ndarray`): Probability that a generated group carries a gradient, shape `(T, K)`.
        tokens (`np.ndarray`): Completion tokens of a rollout, shape `(K,)`.
    """

    weights: NDArray[np.float64]
    acceptance: NDArray[np.float64]
    tokens: NDArray[np.float64]


def paper_world(seed: int) -> World:
    """Experiment 1 of the paper (3 tasks, 720 steps), its series interpolated linearly; the same for every seed."""
    series = json.loads(PAPER.read_text(encoding="utf-8"))
    names, steps = list(PAPER_TOKENS), np.arange(1, 721)
    filtered, weights = series["filtered_ratio"], series["task_weights_lambda_0.2"]
    acceptance = 1 - np.stack([np.interp(steps, filtered["steps"], filtered[name]) for name in names], axis=1)
    shares = np.stack([np.interp(steps, weights["steps"], weights[name]) for name in names], axis=1)
    return World(shares / shares.sum(axis=1, keepdims=True), acceptance, np.array(list(PAPER_TOKENS.values())))


def falling_world(seed: int, lowest: float, num_steps: int = 300) -> World:
    """One of three equally wanted tasks falls from acceptance 0.9 to `lowest`, one to 0.3; the third stays at 0.9."""
    acceptance = np.stack([np.linspace(0.9, lowest, num_steps), np.linspace(0.6, 0.3, num_steps)], axis=1)
    acceptance = np.column_stack([acceptance, np.full(num_steps, 0.9)])
    return World(np.full((num_steps, 3), 1 / 3), acceptance, np.array([1000.0, 500.0, 750.0]))


def collapsing_world(seed: int, num_steps: int = 300) -> World:
    """One of three equally wanted tasks drops from acceptance 0.8 to 0.05 between two steps."""
    acceptance = np.full((num_steps, 3), 0.8)
    acceptance[num_steps // 3 :, 0] = 0.05
    return World(np.full((num_steps, 3), 1 / 3), acceptance, np.array([1000.0, 500.0, 750.0]))


def many_tasks_world(seed: int, num_steps: int = 100, num_tasks: int = 100) -> World:
    """A hundred tasks of unequal weight with acceptance between 0.05 and 0.95, others with every seed."""
    rng = np.random.default_rng([10, seed])
    weights, acceptance = rng.dirichlet(np.ones(num_tasks)), rng.uniform(0.05, 0.95, num_tasks)
    tokens = rng.uniform(250.0, 1000.0, num_tasks)
    return World(np.tile(weights, (num_steps, 1)), np.tile(acceptance, (num_steps, 1)), tokens)


def wandering_world(seed: int, num_steps: int = 300, num_tasks: int = 9) -> World:
    """Nine tasks whose weights and acceptance (at least 0.05) are random walks, others with every seed."""
    rng = np.random.default_rng([11, seed])
    logits = rng.uniform(-2.0, 2.0, num_tasks) + 0.1 * rng.standard_normal((num_steps, num_tasks)).cumsum(axis=0)
    shares = np.exp(0.05 * rng.standard_normal((num_steps, num_tasks)).cumsum(axis=0))
    return World(
        shares / shares.sum(axis=1, keepdims=True),
        np.clip(1 / (1 + np.exp(-logits)), 0.05, 0.98),
        rng.uniform(250.0, 1000.0, num_tasks),
    )


# By title: how to draw it, groups per step, and rollouts per group.
WORLDS: dict[str, tuple[Callable[[int], World], int, int]] = {
    "the paper's 3 tasks, B = 32": (paper_world, 32, 72),
    "acceptance falls to 0.05, B = 32": (lambda seed: falling_world(seed, 0.05), 32, 8),
    "acceptance falls to 0.05, B = 1024": (lambda seed: falling_world(seed, 0.05), 1024, 8),
    "acceptance falls to 0.02, B = 32": (lambda seed: falling_world(seed, 0.02), 32, 8),
    "acceptance falls to 0.02, B = 1024": (lambda seed: falling_world(seed, 0.02), 1024, 8),
    "sudden collapse to 0.05, B = 32": (collapsing_world, 32, 8),
    "sudden collapse to 0.05, B = 1024": (collapsing_world, 1024, 8),
    "100 tasks, B = 32": (many_tasks_world, 32, 8),
    "100 tasks, B = 1024": (many_tasks_world, 1024, 8),
    "9 wandering tasks, B = 32": (wandering_world, 32, 8),
    "9 wandering tasks, B = 1024": (wandering_world, 1024, 8),
}
