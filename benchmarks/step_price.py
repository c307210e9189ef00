"""What one step may cost: groups per step in the mean and at most, where acceptance is unknown, lost or very low.

python benchmarks/step_price.py          # docs/data/step_price.md; about a minute on one core
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.rollout_worlds import collapsing_world, falling_world, many_tasks_world, paper_world, wandering_world
from trl_mtgrpo.rollouts import SimulationResult, simulate
from trl_mtgrpo.sampling import RatioPreservingSampler, StallDoctor


OUTPUT = ROOT / "docs" / "data" / "step_price.md"
SEEDS = range(5)


class World(NamedTuple):
    """
    What a step meets.

    Args:
        weights (`np.ndarray`): Task weights of each step, shape `(T, K)`.
        acceptance (`np.ndarray`): Probability that a generated group carries a gradient, shape `(T, K)`.
        num_groups (`int`): B, groups per step.
        max_rounds (`int`): Rounds after the first.
    """

    weights: NDArray[np.float64]
    acceptance: NDArray[np.float64]
    num_groups: int
    max_rounds: int = 10


def steady(acceptance: Sequence[float], num_groups: int, num_steps: int = 150, max_rounds: int = 10) -> World:
    """Equal weights and an acceptance that stays."""
    rates = np.tile(np.array(acceptance, dtype=np.float64), (num_steps, 1))
    return World(np.full(rates.shape, 1 / rates.shape[1]), rates, num_groups, max_rounds)


def collapsed(seed: int) -> World:
    """One of three tasks answers everything alike from step 20 on."""
    world = steady((0.5, 0.5, 0.5), num_groups=6, num_steps=100, max_rounds=3)
    world.acceptance[20:, 0] = 0.0
    return world


def outage(seed: int) -> World:
    """All is well, but for four steps in which no task yields anything, as when a grader is down."""
    world = steady((0.6, 0.6, 0.6), num_groups=16)
    world.acceptance[30:34] = 0.0
    return world


def seesaw(seed: int) -> World:
    """Four tasks of unequal weight, each easy for 15 steps and nearly hopeless for the next 15, out of phase."""
    rng, steps = np.random.default_rng([21, seed]), np.arange(150)
    low = (steps[:, None] + np.array([0, 7, 15, 22])) // 15 % 2 == 1
    weights = np.tile(rng.dirichlet(np.full(4, 3.0)), (steps.size, 1))
    return World(weights, np.where(low, 0.03, 0.8), num_groups=12)


def long_tail(seed: int) -> World:
    """Twelve tasks with weights 1 / rank; most are hard, some all but hopeless, all drift."""
    rng = np.random.default_rng([22, seed])
    start = np.clip(rng.beta(0.4, 1.2, 12), 0.002, 0.98)
    logits = np.log(start / (1 - start)) + 0.05 * rng.standard_normal((150, 12)).cumsum(axis=0)
    weights = 1 / np.arange(1, 13)
    return World(np.tile(weights / weights.sum(), (150, 1)), 1 / (1 + np.exp(-logits)), num_groups=24)


def weighty(seed: int) -> World:
    """Most of the weight on the hardest of three tasks, as where weights follow what lags."""
    return steady((0.9, 0.5, 0.1), num_groups=12)._replace(weights=np.tile([0.05, 0.15, 0.8], (150, 1)))


def of_rollouts(draw: Callable[[int], tuple[NDArray[np.float64], ...]], num_groups: int) -> Callable[[int], World]:
    """A world of the rollout benchmark."""
    return lambda seed: World(*draw(seed)[:2], num_groups)


UNKNOWN = {
    f"nothing known, B = {b}, {rounds} further rounds": (
        lambda seed, b=b, rounds=rounds: steady((0.5, 0.3, 0.1), b, num_steps=1, max_rounds=rounds)
    )
    for b in (3, 6, 32)
    for rounds in (0, 1, 10)
}
LOW: dict[str, Callable[[int], World]] = {
    "hopeless .01 beside easy .5, B = 32": lambda seed: steady((0.01, 0.5), 32),
    "one of four at .01, B = 32": lambda seed: steady((0.01, 0.5, 0.5, 0.5), 32),
    "a task alone at .01, B = 32": lambda seed: steady((0.01,), 32),
    "collapsed to one answer, B = 6, 3 rounds": collapsed,
    "five tasks .05 to .3, B = 48": lambda seed: steady(np.linspace(0.05, 0.3, 5).tolist(), 48),
    "a grader down for 4 steps, B = 16": outage,
    "seesaw between .8 and .03, B = 12": seesaw,
    "twelve tasks, most hard, B = 24": long_tail,
}
ORDINARY: dict[str, Callable[[int], World]] = {
    "the paper's 3 tasks, B = 32": of_rollouts(paper_world, 32),
    "falls to .05, B = 32": of_rollouts(lambda seed: falling_world(seed, 0.05), 32),
    "collapse to .05, B = 32": of_rollouts(collapsing_world, 32),
    "100 tasks, B = 32": of_rollouts(many_tasks_world, 32),
    "9 wandering tasks, B = 32": of_rollouts(wandering_world, 32),
    "five tasks .05 to .3, B = 48": LOW["five tasks .05 to .3, B = 48"],
    "weight on a task at .1, B = 12": weighty,
}


def own(world: World, max_groups: int | None = None, seed: int = 0) -> SimulationResult:
    """This library, as the trainer sets it up."""
    sampler = RatioPreservingSampler(world.num_groups, max_rounds=world.max_rounds, max_groups=max_groups)
    doctor = StallDoctor.for_batch(world.num_groups)
    return simulate(world.weights, world.acceptance, sampler, max_surplus_age=2, seed=seed, doctor=doctor)


def paper(world: World, max_groups: int | None = None, seed: int = 0) -> SimulationResult:
    """The paper's Algorithm 2, cut at `max_groups` where given."""
    sampler = RatioPreservingSampler(
        world.num_groups, oversampling=3.0, max_rounds=world.max_rounds, max_groups=max_groups
    )
    return simulate(world.weights, world.acceptance, sampler, max_surplus_age=0, seed=seed)


def summary(results: Sequence[SimulationResult], num_groups: int) -> dict[str, float]:
    """Groups per step, rounds, places that nothing fills, and places that the task's own groups do not fill."""
    generated = np.concatenate([result.generated.sum(axis=1) for result in results])
    trained = np.concatenate([result.trained.sum(axis=1) for result in results])
    return {
        "mean": float(generated.mean()),
        "most": int(generated.max()),
        "rounds": float(np.mean([result.rounds_per_step for result in results])),
        "open": float((num_groups - trained).mean()),
        "owed": float(np.mean([result.unfilled.sum(axis=1).mean() for result in results])),
    }


def cell(values: dict[str, float]) -> list[str]:
    return [
        f"{values['mean']:,.0f}",
        f"{values['most']:,.0f}",
        f"{values['rounds']:.2f}",
        f"{values['open']:.2f}",
        f"{values['owed']:.2f}",
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is text."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def comparison(worlds: dict[str, Callable[[int], World]]) -> str:
    """This library, the paper's rule, and the paper's rule cut at this library's ceiling."""
    rows = []
    for title, draw in worlds.items():
        # A step that stands alone needs more seeds than a run.
        drawn = [draw(seed) for seed in range(200 if len(draw(0).weights) == 1 else len(SEEDS))]
        num_groups = drawn[0].num_groups
        limit = RatioPreservingSampler(num_groups, max_rounds=drawn[0].max_rounds).group_limit or 0
        for name, rule in (
            ("this library", own),
            ("the paper's rule", paper),
            ("the paper's rule, cut", paper),
        ):
            most = limit if name.endswith("cut") else None
            results = [rule(world, most, seed) for seed, world in enumerate(drawn)]
            rows.append([title, name, f"{limit:,}", *cell(summary(results, num_groups))])
    return table(["case", "rule", "ceiling", "mean groups", "largest step", "rounds", "open", "owed"], rows)


def ceilings(worlds: dict[str, Callable[[int], World]], batches: Sequence[float]) -> str:
    """Open places per step under several ceilings, this library / the paper's rule cut at the same."""
    rows = []
    for title, draw in worlds.items():
        drawn = [draw(seed) for seed in SEEDS]
        row = [title]
        for factor in batches:
            limit, num_groups = round(factor * drawn[0].num_groups), drawn[0].num_groups
            found = [
                summary([rule(w, limit, s) for w, s in zip(drawn, SEEDS, strict=True)], num_groups)["open"]
                for rule in (own, paper)
            ]
            row.append(" / ".join(f"{value:.2f}" for value in found))
        rows.append(row)
    return table(["case", *(f"{factor:g} B" for factor in batches)], rows)


def choice(worlds: dict[str, Callable[[int], World]], batches: Sequence[int]) -> str:
    """What a ceiling costs where tasks can be filled: steps that it ends, open places, steps with the exact mix."""
    rows = []
    for title, draw in worlds.items():
        drawn = [draw(seed) for seed in range(3)]
        row = [title]
        for factor in batches:
            limit, num_groups = factor * drawn[0].num_groups, drawn[0].num_groups
            results = [own(world, limit, seed) for world, seed in zip(drawn, range(3), strict=True)]
            ended = np.mean([(r.generated.sum(axis=1) >= limit).mean() for r in results])
            exact = np.mean([r.exact_mix_ratio for r in results])
            values = summary(results, num_groups)
            row.append(f"{ended:.1%}, {values['open'] / num_groups:.2%}, {exact:.1%}")
        rows.append(row)
    return table(["case", *(f"{factor} B" for factor in batches)], rows)


def page() -> str:
    parts = [
        "# What a step may cost",
        "Made by `python benchmarks/step_price.py`; five seeds, 150 steps or those of the world; 200 seeds where the "
        "world is one step. This library runs as in training: surplus is kept for two steps, and tasks that yield "
        "nothing lose their share. *Mean* and *largest* "
        "are groups generated in a step; *open* are places of the batch that no group with a gradient fills, *owed* "
        "those that their own task does not fill, per step. The paper's rule has `oversampling=3.0`, "
        "`max_inflation=5.0` and the same number of rounds, and carries nothing.",
        "## The first step, nothing known",
        "Acceptance is .5, .3 and .1.",
        comparison(UNKNOWN),
        "## Low and lost acceptance",
        comparison(LOW),
        "## Open places at any ceiling",
        "This library / the paper's rule cut at the same ceiling.",
        ceilings(LOW, (1, 3, 6, 9, 12, 16, 24)),
        "## How the ceiling was chosen",
        "Where tasks can be filled, three seeds: steps that end at the ceiling, places left open, steps with the "
        "exact mix. The default is the lowest of 9, 12 and 16 batches that leaves at most one place in a thousand "
        "open in every row; with few rounds it is what the paper's rule costs at most, three batches a round.",
        choice(ORDINARY, (6, 9, 12, 16, 24)),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the tables are written")
    options = parser.parse_args(arguments)
    text = page()
    options.output.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
