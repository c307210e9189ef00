"""What a memory of prompts saves in worlds of known pass rates, and what the task weights are told meanwhile."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.rollout_prompts import PROMPT_WORLDS, PromptWorld, hard_and_easy
from trl_mtgrpo.rollouts import PopulationResult, simulate_prompts
from trl_mtgrpo.sampling import RatioPreservingSampler


# Steps whose measured accuracies are averaged before two tasks are ranked by them.
STRETCH = 25


def run(world: PromptWorld, memory: str, seed: int) -> PopulationResult:
    weights = np.full((world.num_steps, len(world.sizes)), 1 / len(world.sizes))
    sampler = RatioPreservingSampler(world.num_groups, max_surplus_age=2)
    return simulate_prompts(weights, world.sizes, world.draw(seed), sampler, world.num_generations, memory, 100 + seed)


def measure(world: PromptWorld, seeds: Sequence[int]) -> dict[str, Any]:
    """One world, with and without memory."""
    found: dict[str, Any] = {"num_steps": world.num_steps, "sizes": list(world.sizes), "seeds": list(seeds)}
    for memory in ("off", "solved"):
        results = [run(world, memory, seed) for seed in seeds]
        errors = [result.measured - result.accuracy for result in results]
        raw = [np.nanmean(result.raw - result.accuracy) for result in results]
        costs = [result.generated_per_least for result in results]
        found[memory] = {
            "generated_per_least": float(np.mean(costs)),
            "lowest": min(costs),
            "highest": max(costs),
            "groups_per_step": float(np.mean([result.generated.sum(axis=1).mean() for result in results])),
            "passes": float(np.mean([result.passes.mean() for result in results])),
            "accuracy": float(np.mean([result.accuracy.mean() for result in results])),
            "bias": float(np.mean([np.nanmean(error) for error in errors])),
            "largest_bias": float(max(abs(np.nanmean(error)) for error in errors)),
            "raw_bias": float(np.mean(raw)),
            "deviation": float(np.sqrt(np.mean([np.nanvar(error) for error in errors]))),
            "rounds": float(np.mean([result.rounds.mean() for result in results])),
            "exact_mix": float(np.mean([result.exact_mix_ratio for result in results])),
        }
    return found


def rankings(seeds: Sequence[int], num_steps: int = 400) -> dict[str, dict[str, float]]:
    """How often a split task, .04 and more better than an even one, seems the worse one."""
    found: dict[str, dict[str, float]] = {}
    for memory in ("off", "solved"):
        wrong: dict[str, list[bool]] = {"measured": [], "raw": []}
        for seed in seeds:
            sampler = RatioPreservingSampler(32, max_surplus_age=2)
            weights = np.full((num_steps, 2), 0.5)
            result = simulate_prompts(weights, (2_000, 2_000), hard_and_easy(seed), sampler, 8, memory, 100 + seed)
            for name, values in (("measured", result.measured), ("raw", result.raw)):
                means = np.nanmean(values[100:].reshape(-1, STRETCH, 2), axis=1)
                wrong[name] += (means[:, 1] > means[:, 0]).tolist()
        found[memory] = {name: float(np.mean(values)) for name, values in wrong.items()}
    return found


def memory_rows(seeds: Sequence[int], num_steps: int | None = None) -> dict[str, Any]:
    """Everything that the section shows."""
    worlds = {
        title: world if num_steps is None else world._replace(num_steps=num_steps)
        for title, world in PROMPT_WORLDS.items()
    }
    return {
        "worlds": {title: measure(world, seeds) for title, world in worlds.items()},
        "rankings": rankings(seeds, num_steps or 400),
        "stretch": STRETCH,
    }


def short_table(found: dict[str, Any]) -> str:
    """What a user needs to know of it."""
    lines = [
        "| world | passes | groups / least, uniform | with memory | bias of accuracy |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, world in found["worlds"].items():
        off, on = (f"{world[memory]['generated_per_least']:.2f}" for memory in ("off", "solved"))
        lines.append(f"| {title} | {world['solved']['passes']:.1f} | {off} | {on} | {world['solved']['bias']:+.3f} |")
    return "\n".join(lines)


def memory_section(found: dict[str, Any]) -> list[str]:
    """The parts of the page."""
    header = [
        "world",
        "passes",
        "groups / least, off",
        "solved",
        "range",
        "accuracy",
        "bias of what weights see",
        "without correction",
        "its deviation, relative to off",
        "rounds, off",
        "solved",
        "exact mix",
    ]
    rows = []
    for title, world in found["worlds"].items():
        off, on = world["off"], world["solved"]
        rows.append(
            [
                title,
                f"{on['passes']:.1f}",
                f"{off['generated_per_least']:.2f}",
                f"{on['generated_per_least']:.2f}",
                f"{on['lowest']:.2f} to {on['highest']:.2f}",
                f"{on['accuracy']:.2f}",
                f"{on['bias']:+.4f}",
                f"{on['raw_bias']:+.3f}",
                f"{on['deviation'] / off['deviation']:.2f}",
                f"{off['rounds']:.2f}",
                f"{on['rounds']:.2f}",
                f"{on['exact_mix']:.1%}",
            ]
        )
    lines = ["| " + " | ".join(line) + " |" for line in [header, ["---", *["---:"] * (len(header) - 1)], *rows]]
    ranks, first = found["rankings"], next(iter(found["worlds"].values()))
    return [
        "## Memory of prompts",
        f"One task, B = 32, G = 8, {first['num_steps']} steps, {len(first['seeds'])} seeds; each prompt has a "
        "pass rate that drifts. Uniform draws against `prompt_memory='solved'`. Bias and deviation are of the "
        "accuracy of one step, against the true mean pass rate.",
        "\n".join(lines),
        "Two tasks that are .04 and more apart, one half solved and half failing and one in between, ranked by the "
        f"mean of {found['stretch']} steps: the wrong way round in {ranks['off']['measured']:.1%} of the stretches "
        f"with uniform draws, in {ranks['solved']['measured']:.1%} with memory, and in "
        f"{ranks['solved']['raw']:.0%} if the accuracy were not corrected.",
    ]
