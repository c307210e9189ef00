"""Weights and acceptances for the planner: the paper's series, harder ones, and how often to draw examples."""

import os

import numpy as np
from hypothesis import settings


# `MTGRPO_EXAMPLES=1000` runs the full battery.
thorough = settings(max_examples=int(os.environ.get("MTGRPO_EXAMPLES", "20")), deadline=None)

# Read off the paper's figures for the 3-task run: arc_1d, countdown, zebra.
FILTERED_STEPS = (10, 50, 100, 200, 300, 400, 500, 600, 720)
FILTERED = np.array(
    [
        (0.46, 0.43, 0.54, 0.68, 0.79, 0.79, 0.84, 0.87, 0.88),
        (0.35, 0.29, 0.50, 0.46, 0.51, 0.39, 0.52, 0.59, 0.68),
        (0.01, 0.00, 0.04, 0.10, 0.12, 0.15, 0.23, 0.32, 0.35),
    ]
)
WEIGHT_STEPS = (10, 50, 100, 200, 400, 600, 720)
WEIGHTS = np.array(
    [
        (0.37, 0.71, 0.64, 0.46, 0.38, 0.37, 0.37),
        (0.35, 0.17, 0.06, 0.03, 0.10, 0.13, 0.13),
        (0.28, 0.12, 0.30, 0.51, 0.51, 0.51, 0.50),
    ]
)


def paper_world(num_steps=720):
    """Weights and acceptance of the paper's 3-task run, shape `(T, 3)` each."""
    steps = np.arange(1, num_steps + 1)
    weights = np.stack([np.interp(steps, WEIGHT_STEPS, row) for row in WEIGHTS], axis=1)
    acceptance = 1 - np.stack([np.interp(steps, FILTERED_STEPS, row) for row in FILTERED], axis=1)
    return weights / weights.sum(axis=1, keepdims=True), acceptance


def falling_world(num_steps=300):
    """Acceptance of one of three equally wanted tasks falls from 0.9 to 0.05."""
    acceptance = np.stack(
        [np.linspace(0.9, 0.05, num_steps), np.linspace(0.6, 0.3, num_steps), np.full(num_steps, 0.9)]
    )
    return np.full((num_steps, 3), 1 / 3), acceptance.T


def collapsing_world(num_steps=300):
    """Acceptance of one of three equally wanted tasks drops from 0.8 to 0.05 from one step to the next."""
    acceptance = np.full((num_steps, 3), 0.8)
    acceptance[num_steps // 3 :, 0] = 0.05
    return np.full((num_steps, 3), 1 / 3), acceptance


def many_tasks_world(num_steps=100, num_tasks=100):
    """A hundred tasks of unequal weight, with acceptances between 0.05 and 0.95."""
    rng = np.random.default_rng(0)
    weights, acceptance = rng.dirichlet(np.ones(num_tasks)), rng.uniform(0.05, 0.95, num_tasks)
    return np.tile(weights, (num_steps, 1)), np.tile(acceptance, (num_steps, 1))
