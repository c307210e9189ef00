"""The pictures of how well each task is done: per task, worst and average, and when levels were reached."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .canvas import (
    MARKERS,
    RUN_COLOURS,
    draw_band,
    grid_shape,
    hide_unused,
    legend_below,
    panels,
    percent_axis,
    token_axis,
)
from .curves import band
from .runs import Run
from .thresholds import LEVELS, first_reached


Runs = dict[str, list[Run]]  # by label, one per seed


def accuracy_per_task(runs: Runs) -> Any:
    """One panel per task, one line per label: accuracy over steps."""
    tasks = next(iter(runs.values()))[0].tasks
    figure, axes = panels(*grid_shape(len(tasks)), sharex=True, sharey=True)
    for ax, task in zip(axes.ravel(), tasks, strict=False):
        for i, (label, seeds) in enumerate(runs.items()):
            draw_band(ax, band([run.accuracy(task) for run in seeds]), i, RUN_COLOURS, markers=True, label=label)
        ax.set_title(task)
        ax.set_xlabel("optimizer steps")
    for ax in axes[:, 0]:
        percent_axis(ax, "accuracy")
    hide_unused(axes, len(tasks))
    if len(runs) > 1:
        legend_below(figure, axes)
    return figure


def worst_and_average(runs: Runs) -> Any:
    """Worst task and average, over steps and over generated tokens."""
    figure, axes = panels(2, 2, width=4.6, sharey="row")
    rows: tuple[tuple[str, Callable[..., Any]], ...] = (("worst task", np.min), ("average over tasks", np.mean))
    for (name, reduce), (by_step, by_token) in zip(rows, axes, strict=True):
        for i, (label, seeds) in enumerate(runs.items()):
            curves = [run.over_tasks(reduce) for run in seeds]
            tokens = [run.against_tokens(curve) for run, curve in zip(seeds, curves, strict=True)]
            draw_band(by_step, band(curves), i, RUN_COLOURS, markers=True, label=label)
            draw_band(by_token, band(tokens), i, RUN_COLOURS, markers=True, label=label)
        percent_axis(by_step, "accuracy")
        by_step.set_title(f"{name}, by steps")
        by_token.set_title(f"{name}, by generated tokens")
    axes[1, 0].set_xlabel("optimizer steps")
    token_axis(axes[1, 1], "completion tokens generated")
    token_axis(axes[0, 1], "")
    axes[0, 1].set_xlabel("")
    legend_below(figure, axes)
    return figure


def thresholds(runs: Runs) -> Any:
    """When the worst task first reached each level; one line per seed."""
    figure, axes = panels(1, 2, width=4.6, height=3.2, sharey=True)
    highest = LEVELS[0]
    for i, (label, seeds) in enumerate(runs.items()):
        for run in seeds:
            reached = {level: found for level in LEVELS if (found := first_reached(run, level)) is not None}
            highest = max([highest, *reached])
            style = {"color": RUN_COLOURS[i % len(RUN_COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 5}
            for ax, column in zip(axes[0], ("step", "tokens"), strict=True):
                xs = [getattr(found, column) for found in reached.values()]
                ax.plot(xs, list(reached), label=label, alpha=0.85, linewidth=1.4, **style)
    percent_axis(axes[0, 0], "accuracy of the worst task")
    axes[0, 0].set_yticks(LEVELS)
    axes[0, 0].set_ylim(0.0, min(highest + 0.1, 1.0))
    axes[0, 0].set_xlabel("optimizer steps until first reached")
    for ax in axes[0]:
        ax.set_xlim(left=0)
    token_axis(axes[0, 1], "completion tokens generated until first reached")
    legend_below(figure, axes)
    return figure
