"""What beginning groups with a few rollouts saves on the paper's series, its uneven weights priced in."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rollout_prompts import hard_and_easy, sigmoid
from benchmarks.rollout_worlds import PAPER, PAPER_TOKENS, paper_world
from trl_mtgrpo.rollouts import PassRates, PopulationResult, simulate_prompts
from trl_mtgrpo.sampling import RatioPreservingSampler
from trl_mtgrpo.sampling.pilots import COMPLETION, chance_of_only


Floats = NDArray[np.float64]

PILOT_GUIDE = Path(__file__).parent.parent / "docs" / "pilot-groups.md"
BEGIN_PILOTS = "<!-- table: python benchmarks/rollouts.py --pilots -->"
NAMES, GROUPS, WHOLE, STRETCH = list(PAPER_TOKENS), 32, 72, 25
# Sizes of pilots and which tasks use them; the first is without.
RULES: dict[str, tuple[int | None, str]] = {
    "whole groups": (None, "auto"),
    "18, auto": (18, "auto"),
    "24, auto": (24, "auto"),
    "36, auto": (36, "auto"),
    "24, all tasks": (24, "all"),
}
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 400) for i in range(400)])


@functools.cache
def _logs_of_binomials(size: int) -> Floats:
    return np.concatenate([[0.0], np.log(np.arange(size, 0, -1) / np.arange(1, size + 1)).cumsum()])


def successes(logits: Floats) -> Floats:
    """Probability of each number of correct rollouts in a group of a prompt of these logits, shape `(G + 1,)`."""
    right, wrong = -np.logaddexp(0.0, -logits)[:, None], -np.logaddexp(0.0, logits)[:, None]
    counts = np.arange(WHOLE + 1)
    found: Floats = np.exp(_logs_of_binomials(WHOLE) + counts * right + (WHOLE - counts) * wrong).mean(axis=0)
    return found


def _crossing(function: Any, low: float, high: float) -> float:
    """Where a rising function crosses 0."""
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if function(middle) > 0 else (middle, high)
    return (low + high) / 2


@functools.cache
def paper_logits() -> tuple[Floats, Floats, Floats]:
    """
    Steps, and mean and spread of the logits of each task at them, shapes `(S,)` and `(S, K)`: normal, with the
    accuracy of the paper's curve and its share of groups without variance.
    """
    series = json.loads(PAPER.read_text(encoding="utf-8"))
    steps, filtered = np.array(series["filtered_ratio"]["steps"]), series["filtered_ratio"]
    accuracy = series["accuracy"]["mt_grpo_0.2"]
    means, spreads = np.zeros((len(steps), len(NAMES))), np.zeros((len(steps), len(NAMES)))
    for s in range(len(steps)):
        for k, name in enumerate(NAMES):

            def mean(spread: float, wanted: float = accuracy[name][s]) -> float:
                return _crossing(lambda m: sigmoid(m + spread * _NORMAL).mean() - wanted, -60.0, 60.0)

            def excess(spread: float, wanted: float = filtered[name][s]) -> float:
                share = successes(mean(spread) + spread * _NORMAL)
                return float(share[0] + share[-1] - wanted)

            spreads[s, k] = _crossing(excess, 0.05, 40.0)
            means[s, k] = mean(spreads[s, k])
    return steps, means, spreads


def paper_rates(seed: int, size: int) -> PassRates:
    """Prompts that keep their place among those of their task."""
    places = np.random.default_rng([30, seed]).standard_normal((len(NAMES), size))
    return lambda step, task: sigmoid(_logits(step, task, places[task]))


def _logits(step: int, task: int, places: Floats) -> Floats:
    steps, means, spreads = paper_logits()
    return np.interp(step + 1, steps, means[:, task]) + np.interp(step + 1, steps, spreads[:, task]) * places


def worth(rates: Floats, size: int) -> tuple[float, float]:
    """
    Acceptance of whole groups, and what a trained group that began with a pilot is worth of a whole one: E[w]^2 /
    E[w^2] with w = 1 / pi.
    """
    right = np.log(np.maximum(rates, 1e-12)) - np.log(np.maximum(1.0 - rates, 1e-12))
    share = successes(right)
    only = chance_of_only(WHOLE, size)
    chance = 1.0 - (1.0 - COMPLETION) * (only + only[::-1])
    mixed = np.where((np.arange(WHOLE + 1) % WHOLE) > 0, share, 0.0)
    total = float(mixed.sum())
    return total, total**2 / float((mixed * chance).sum() * (mixed / chance).sum())


def adjusted(result: PopulationResult, rates: PassRates, size: int) -> tuple[float, Floats]:
    """Rollouts over the least that equally certain gradients of whole groups could cost, in all and by task."""
    number, tasks = result.trained.shape
    sampled = np.unique([*range(0, number, 10), number - 1])
    known = np.array([[worth(rates(step, task), size) for task in range(tasks)] for step in sampled])
    least = np.zeros((number, tasks))
    for task in range(tasks):
        acceptance, effect = (np.interp(np.arange(number), sampled, known[:, task, i]) for i in range(2))
        effect = np.where(result.piloted[:, task], effect, 1.0)
        least[:, task] = WHOLE * result.trained[:, task] * effect / acceptance
    return float(result.rollouts.sum() / least.sum()), result.rollouts.sum(axis=0) / least.sum(axis=0)


def measure(size: int, seeds: Sequence[int], num_steps: int | None) -> dict[str, Any]:
    """The paper's series with `size` prompts per task, with each rule."""
    weights = paper_world(0).weights[:num_steps]
    found: dict[str, Any] = {}
    for name, (pilot, tasks) in RULES.items():
        costs, of_tasks, results = [], [], []
        for seed in seeds:
            rates = paper_rates(seed, size)
            sampler = RatioPreservingSampler(GROUPS, max_surplus_age=2)
            result = simulate_prompts(
                weights,
                [size] * len(NAMES),
                rates,
                sampler,
                WHOLE,
                seed=100 + seed,
                pilot_generations=pilot,
                pilot_tasks=tasks,  # type: ignore[arg-type]
            )
            cost, of_task = adjusted(result, rates, pilot or WHOLE)
            costs.append(cost)
            of_tasks.append(of_task)
            results.append(result)
        errors = [result.measured - result.accuracy for result in results]
        found[name] = {
            "adjusted": float(np.mean(costs)),
            "lowest": min(costs),
            "highest": max(costs),
            "by_task": dict(zip(NAMES, np.mean(of_tasks, axis=0).tolist(), strict=True)),
            "rollouts_per_step": float(np.mean([result.rollouts.sum(axis=1).mean() for result in results])),
            "begun": dict(
                zip(NAMES, np.mean([r.piloted.mean(axis=0) for r in results], axis=0).tolist(), strict=True)
            ),
            "largest_bias": float(max(np.abs(np.nanmean(error, axis=0)).max() for error in errors)),
            "deviation": np.sqrt(np.mean([np.nanvar(error, axis=0) for error in errors], axis=0)).tolist(),
            "rounds": float(np.mean([result.rounds.mean() for result in results])),
            "exact_mix": float(np.mean([result.exact_mix_ratio for result in results])),
        }
    return found


def rankings(seeds: Sequence[int], num_steps: int = 200) -> dict[str, float]:
    """How often a split task, .04 and more better than an even one, seems the worse one."""
    found = {}
    for name in ("whole groups", "24, all tasks"):
        pilot, tasks = RULES[name]
        wrong: list[bool] = []
        for seed in seeds:
            result = simulate_prompts(
                np.full((num_steps, 2), 0.5),
                (2_000, 2_000),
                hard_and_easy(seed),
                RatioPreservingSampler(GROUPS, max_surplus_age=2),
                WHOLE,
                seed=100 + seed,
                pilot_generations=pilot,
                pilot_tasks=tasks,  # type: ignore[arg-type]
            )
            whole = num_steps // STRETCH * STRETCH
            means = np.nanmean(result.measured[:whole].reshape(-1, STRETCH, 2), axis=1)
            wrong += (means[:, 1] > means[:, 0]).tolist()
        found[name] = float(np.mean(wrong))
    return found


def pilot_rows(seeds: Sequence[int], num_steps: int | None = None) -> dict[str, Any]:
    """Everything that the section shows."""
    return {
        "seeds": list(seeds),
        "num_steps": num_steps or 720,
        "worlds": {f"{size:,}": measure(size, seeds, num_steps) for size in (2_000, 10_000)},
        "rankings": rankings(seeds, num_steps or 200),
    }


def pilot_table(found: dict[str, Any]) -> str:
    """What a user needs to know of it."""
    lines = [
        f"| pilot | rollouts / least, equally certain gradients | {' | '.join(NAMES)} | rounds |",
        "|---|---:|" + "---:|" * (len(NAMES) + 1),
    ]
    for name, rule in next(iter(found["worlds"].values())).items():
        by_task = " | ".join(f"{rule['by_task'][task]:.2f}" for task in NAMES)
        lines.append(f"| {name} | {rule['adjusted']:.2f} | {by_task} | {rule['rounds']:.2f} |")
    return "\n".join(lines)


def pilot_section(found: dict[str, Any]) -> list[str]:
    """The parts of the page."""
    header = [
        "prompts",
        "pilot",
        "adjusted",
        "range",
        *NAMES,
        "rollouts / step",
        "bias",
        "deviation",
        "rounds",
        "exact mix",
    ]
    rows = []
    for size, world in found["worlds"].items():
        whole = world["whole groups"]
        for name, rule in world.items():
            deviation = max(a / b for a, b in zip(rule["deviation"], whole["deviation"], strict=True))
            rows.append(
                [
                    size,
                    name,
                    f"{rule['adjusted']:.2f}",
                    f"{rule['lowest']:.3f} to {rule['highest']:.3f}",
                    *(f"{rule['by_task'][task]:.2f}" for task in NAMES),
                    f"{rule['rollouts_per_step']:,.0f}",
                    f"{rule['largest_bias']:.4f}",
                    f"{deviation:.2f}",
                    f"{rule['rounds']:.3f}",
                    f"{rule['exact_mix']:.1%}",
                ]
            )
    lines = ["| " + " | ".join(line) + " |" for line in [header, ["---", "---", *["---:"] * (len(header) - 2)], *rows]]
    ranks = found["rankings"]
    return [
        "## Pilot groups",
        f"The paper's series (B = {GROUPS}, G = {WHOLE}, {found['num_steps']} steps, {len(found['seeds'])} seeds), "
        "each prompt with a pass rate: logits are normal, with the paper's accuracy and share of groups without "
        "variance. Adjusted: rollouts over the least that equally certain gradients of whole groups cost, "
        "E[w]^2 / E[w^2] priced in. Bias is the largest of a task's mean accuracy, deviation the largest of a step's "
        "accuracy relative to whole groups.",
        "\n".join(lines),
        f"Two tasks that are .04 and more apart, ranked by the mean of {STRETCH} steps: the wrong way round in "
        f"{ranks['whole groups']:.1%} of the stretches with whole groups, in {ranks['24, all tasks']:.1%} with pilots "
        "of 24 in both.",
    ]
