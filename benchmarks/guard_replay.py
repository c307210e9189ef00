"""
How often does the plateau guard hold a task that can be learned, and how soon one that cannot? Logged runs, replayed.

    python benchmarks/guard_replay.py

A log entry is the mean of ten steps, without the noise that a guard has to live with. So each step draws its groups
again: as many as the run generated, with prompts as different as their share of filtered groups says. The weights are
those of the run, which does not answer to the replayed guard.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.learning import GENERATIONS
from benchmarks.learning_report import UNLEARNABLE
from benchmarks.learning_runs import read_runs
from trl_mtgrpo import MultiTaskGRPOConfig
from trl_mtgrpo.host.method import build_guard
from trl_mtgrpo.host.settings import resolve


REPEATS = 5
# Of two completions of one prompt: what explains the filtered groups of these runs if the prompts' rates follow a Beta
# distribution, 0.2 to 0.6 for the tasks that can be learned and none for a riddle.
CORRELATION, CORRELATION_OF_RIDDLES = 0.4, 0.01
LEARNABLE = ("three", "eight", "even", "unequal")


def draw(accuracy: float, groups: int, correlation: float, rng: np.random.Generator) -> float:
    """Share of right completions among `groups` groups of a task of this accuracy."""
    a, b = (p * (1 / correlation - 1) for p in (accuracy, 1 - accuracy))
    return float(rng.binomial(GENERATIONS, rng.beta(a, b, groups)).mean() / GENERATIONS)


def held_steps(run: dict[str, Any], rng: np.random.Generator) -> tuple[list[str], NDArray[np.bool_]]:
    """Task names, and for each step which tasks the guard would have held, shape `(steps, K)`."""
    names = list(run["curve"][0]["accuracy"])
    log = [entry for entry in run["history"] if f"tasks/{names[0]}/weight" in entry]
    steps = np.arange(log[-1]["step"])

    def series(metric: str) -> NDArray[np.float64]:
        def one(key: str) -> NDArray[np.float64]:
            known = [entry for entry in log if key in entry]
            return np.interp(steps, [entry["step"] - 5 for entry in known], [entry[key] for entry in known])

        return np.stack([one(f"tasks/{name}/{metric}") for name in names], axis=1)

    weights, accuracy = series("weight"), series("accuracy").clip(0.01, 0.99)
    num_groups = int(run["arm"].rsplit("-b", 1)[1])
    generated = num_groups * series("batch_share") / (1 - series("filtered_ratio")).clip(0.05)
    guard = build_guard(resolve(MultiTaskGRPOConfig(use_cpu=True, bf16=False)), len(names))
    assert guard is not None
    correlation = np.where(np.isin(names, UNLEARNABLE), CORRELATION_OF_RIDDLES, CORRELATION)
    state, average, held = guard.init(len(names)), np.full(len(names), np.nan), []
    for z, accuracies, groups in zip(weights, accuracy, rng.poisson(generated), strict=True):
        for k in np.flatnonzero(groups):
            seen = draw(accuracies[k], groups[k], correlation[k], rng)
            average[k] = seen if np.isnan(average[k]) else (average[k] + seen) / 2
        state = guard.update(z, average, state)
        held.append(state.held)
    return names, np.array(held)


def replayed(world: str, method: str) -> list[tuple[list[str], NDArray[np.bool_]]]:
    runs = [run for run in read_runs(world) if run["arm"].startswith(method)]
    return [held_steps(run, np.random.default_rng([i, r])) for i, run in enumerate(runs) for r in range(REPEATS)]


def main() -> None:
    for world in LEARNABLE:
        found = [held for _, held in replayed(world, "mt_grpo")]
        runs, steps = np.mean([held.any() for held in found]), np.mean(np.concatenate([h.any(1) for h in found]))
        print(f"{world}: {len(found)} replays, held in {runs:.1%} of them, {steps:.2%} of the steps")
    first = []
    for names, held in replayed("stress", "mt_grpo_no_guard"):
        hopeless = np.isin(names, UNLEARNABLE)
        at = np.flatnonzero(held[:, hopeless].any(axis=1))
        first.append(at[0] if at.size else len(held))
    spread = np.percentile(first, [0, 50, 100]).astype(int)
    print(f"stress: {len(first)} replays, first held at step {spread[1]} in the median, {spread[0]} to {spread[2]}")


if __name__ == "__main__":
    main()
