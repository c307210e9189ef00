"""`mtgrpo simulate`: what a run will generate, train and waste."""

import argparse
from collections import Counter

from ..report.forecast import POLICIES, RunOutline, forecast, format_comparison, format_tasks
from ..report.prompt_forecast import PromptOutline, forecast_prompts, format_prompts


def run(options: argparse.Namespace) -> str:
    """
    Simulates a run from guesses, or from what a finished run logged.

    Args:
        options (`argparse.Namespace`):
            What was typed.

    Returns:
        `str`: tables.

    Raises:
        ValueError: for guesses that are given twice or out of range, or a run that cannot be replayed.
    """
    for name, value in (("--accuracy", options.accuracy or None), ("--pilot", options.pilot)):
        if value is not None and options.prompts is None:
            raise ValueError(
                f"`--prompts` must be given beside `{name}`, got nothing. It is how many prompts a task has, and "
                "shows what a memory of prompts and pilots save."
            )
    if options.replay is not None:
        from ..report import read_run
        from ..report.replay import outline_of, replayed_prompts

        finished = read_run(options.replay)
        outline = outline_of(finished, options.groups, options.generations)
        prompts = None if options.prompts is None else replayed_prompts(finished, outline, options.prompts)
        source = f"Replaying '{finished.name}'"
        if finished.groups is not None:
            generated, trained = finished.groups.generated.sum(), finished.groups.trained.sum()
            source += f", which generated {generated:,} groups and trained {trained:,}"
    else:
        for name in ("acceptance", "weights", "accuracy"):
            _check_pairs(f"--{name}", getattr(options, name))
        outline = RunOutline.guessed(
            dict(options.acceptance),
            dict(options.weights),
            options.tokens,
            options.groups or 32,
            options.generations,
            options.steps,
        )
        accuracy = dict(options.accuracy)
        prompts = None if options.prompts is None else PromptOutline.guessed(outline, accuracy, options.prompts)
        source = "Guessed acceptance"
    results = {name: forecast(outline, policy, options.seed) for name, policy in POLICIES.items()}
    shown = {options.policy: results.pop(options.policy), **results}
    meanings = "\n".join(f"  {name}: {POLICIES[name].meaning}" for name in shown)
    found = (
        f"{source}: {len(outline.weights)} steps of {outline.num_groups} groups of {outline.num_generations} "
        "rollouts.\n\n"
        f"Per training step\n{format_comparison(outline, shown)}\n\n{meanings}\n\n"
        f"Groups of the whole run under '{options.policy}'\n{format_tasks(outline, shown[options.policy])}"
    )
    if prompts is None:
        return found
    ways = format_prompts(prompts, forecast_prompts(prompts, options.pilot, options.seed))
    return f"{found}\n\n{options.prompts:,} prompts per task, 'mt_grpo', prompt by prompt\n{ways}"


def _check_pairs(name: str, pairs: list[tuple[str, float]]) -> None:
    for task, count in Counter(task for task, _ in pairs).items():
        if count > 1:
            values = [value for other, value in pairs if other == task]
            raise ValueError(f"`{name}` must name each task once, got '{task}' with {values}. Keep one of them.")
    for task, value in pairs:
        if name != "--weights" and value > 1:
            raise ValueError(f"`{name}` must be a share in 0..1, got {value:g} for '{task}'. Write 0.5 for a half.")
