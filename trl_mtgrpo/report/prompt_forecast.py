"""What a memory of prompts and pilot groups would save in a run whose prompts come several times."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..rollouts import PopulationResult, simulate_prompts
from ..rollouts.pass_rates import difficulties, most_mixed, pass_rates
from ..sampling import RatioPreservingSampler, StallDoctor
from .forecast import POLICIES, RunOutline, text_table


Vector = NDArray[np.float64]

PLAIN = "as it is"
MEMORY = "prompt_memory=solved"


@dataclass(frozen=True, eq=False)
class PromptOutline:
    """
    What is known or guessed of a run's prompts.

    Args:
        run ([`RunOutline`]):
            Weights, acceptance and lengths.
        accuracy (`np.ndarray`):
            Mean pass rate of each task's prompts in each step, shape `(T, K)`.
        num_prompts (`int`):
            Prompts of each task.
    """

    run: RunOutline
    accuracy: Vector
    num_prompts: int

    @classmethod
    def guessed(cls, run: RunOutline, accuracy: Mapping[str, float], num_prompts: int) -> "PromptOutline":
        """
        An outline whose pass rates stay the same over the run.

        Args:
            run ([`RunOutline`]):
                The rest of the run.
            accuracy (`dict[str, float]`):
                Accuracy by task name.
            num_prompts (`int`):
                Prompts of each task.

        Returns:
            [`PromptOutline`]

        Raises:
            ValueError: when other tasks are named, or a task of this accuracy cannot have so many mixed groups.
        """
        if set(accuracy) != set(run.names):
            raise ValueError(
                f"`--accuracy` must name exactly the tasks {list(run.names)}, got {dict(accuracy)}. It is the mean "
                "pass rate of each task, from which the pass rates of single prompts are made."
            )
        for name, acceptance in zip(run.names, run.acceptance[0].tolist(), strict=True):
            most = most_mixed(accuracy[name], run.num_generations)
            if acceptance > most + 5e-4:
                raise ValueError(
                    f"`--acceptance` must be at most {most:.3g} for '{name}', got {acceptance:g}: with "
                    f"{accuracy[name]:g} of its answers right and {run.num_generations} per prompt no more groups can "
                    "be mixed. Correct one of the two."
                )
        values = np.array([accuracy[name] for name in run.names])
        return cls(run, np.tile(values, (len(run.weights), 1)), num_prompts)


def forecast_prompts(outline: PromptOutline, pilot: int | None = None, seed: int = 0) -> dict[str, PopulationResult]:
    """
    Simulates a run prompt by prompt: as it is, with a memory of solved prompts, and with pilots.

    Each prompt keeps its place among the prompts of its task, from easy to hard; where accuracy and acceptance change
    over the run, pass rates change with them.

    Args:
        outline ([`PromptOutline`]):
            The run.
        pilot (`int`, *optional*):
            Rollouts that a group begins with; pilots are left out when not given.
        seed (`int`, *optional*, defaults to `0`):
            Seed of every draw.

    Returns:
        `dict[str, PopulationResult]`: by what is switched on.

    Raises:
        ValueError: when a pilot does not divide a group.
    """
    run = outline.run
    if pilot is not None and (pilot >= run.num_generations or run.num_generations % pilot):
        raise ValueError(
            f"`--pilot` must divide `--generations` ({run.num_generations}) and be smaller, got {pilot}. Take a "
            "quarter or a third of it."
        )
    difficulty = difficulties(outline.num_prompts)

    def rates(step: int, task: int) -> Vector:
        known = float(outline.accuracy[step, task]), float(run.acceptance[step, task])
        return pass_rates(*known, run.num_generations, difficulty)

    def simulated(memory: str = "off", size: int | None = None) -> PopulationResult:
        return simulate_prompts(
            run.weights,
            [outline.num_prompts] * len(run.names),
            rates,
            RatioPreservingSampler(num_groups=run.num_groups, max_surplus_age=POLICIES["mt_grpo"].max_surplus_age),
            run.num_generations,
            memory,
            seed,
            doctor=StallDoctor.for_batch(run.num_groups),
            pilot_generations=size,
        )

    found = {PLAIN: simulated(), MEMORY: simulated("solved")}
    return found | ({} if pilot is None else {f"pilot_generations={pilot}": simulated(size=pilot)})


def format_prompts(outline: PromptOutline, results: Mapping[str, PopulationResult]) -> str:
    """
    Ways of drawing and generating side by side: per training step, and tokens per task over the run.

    Args:
        outline ([`PromptOutline`]):
            The run.
        results (`dict[str, PopulationResult]`):
            By what is switched on; the first one is what tokens are compared with.

    Returns:
        `str`: two text tables.
    """
    run = outline.run
    tokens = {name: result.rollouts.sum(axis=0) * run.tokens_per_rollout for name, result in results.items()}
    base = next(iter(tokens.values()))
    steps = len(run.weights)
    ways = [
        [
            name,
            f"{result.rollouts.sum() / steps:,.0f}",
            f"{tokens[name].sum() / steps:,.0f}",
            f"{_ratio(tokens[name].sum(), base.sum())}",
            f"{result.rounds.mean():.2f}",
            f"{result.trained.sum() / steps:,.1f}",
        ]
        for name, result in results.items()
    ]
    tasks = [
        [
            name,
            f"{outline.accuracy[:, k].mean():.2f}",
            f"{run.acceptance[:, k].mean():.2f}",
            f"{next(iter(results.values())).passes[k]:.1f}",
            *(_ratio(tokens[way][k], base[k]) for way in list(results)[1:]),
        ]
        for k, name in enumerate(run.names)
    ]
    return (
        f"{text_table(['per step', 'rollouts', 'tokens', 'tokens, relative', 'rounds', 'groups trained'], ways)}\n\n"
        f"{text_table(['tokens, relative', 'accuracy', 'acceptance', 'passes', *list(results)[1:]], tasks)}"
    )


def _ratio(part: float, whole: float) -> str:
    return f"{part / whole:.2f}" if whole else "-"
