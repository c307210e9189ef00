"""The pictures of how well each task is done: per task, worst and average, and when levels were reached."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .canvas import (
    MARKERS,
    RUN_COLOURS,
    Drawing,
    Line,
    Panel,
    draw_panel,
    fitted,
    grid_shape,
    hide_unused,
    legend_below,
    panels,
    percent_axis,
    step_axis,
    token_axis,
    with_data,
)
from .curves import band
from .runs import Run
from .thresholds import LEVELS, first_reached


Runs = dict[str, list[Run]]  # by label, one per seed


def accuracy_per_task(runs: Runs) -> Drawing:
    """One panel per task, one line per label: accuracy over steps."""
    tasks = next(iter(runs.values()))[0].tasks
    drawn, missing = with_data(
        Panel(
            task,
            tuple(
                Line(label, band([run.accuracy(task) for run in seeds]), i)
                for i, (label, seeds) in enumerate(runs.items())
            ),
        )
        for task in tasks
    )
    if not drawn:
        return Drawing(None, missing)
    figure, axes = panels(*grid_shape(len(drawn)), sharex=True, sharey=True)
    for ax, panel in zip(axes.ravel(), drawn, strict=False):
        draw_panel(ax, panel, RUN_COLOURS, markers=True)
        ax.set_title(fitted(panel.title, 3.4))
        step_axis(ax)
    for ax in axes[:, 0]:
        percent_axis(ax, "accuracy")
    hide_unused(axes, len(drawn))
    legend_below(figure, axes)
    return Drawing(figure, missing)


def worst_and_average(runs: Runs) -> Drawing:
    """Worst task and average, over steps and over generated tokens."""
    rows: tuple[tuple[str, Callable[..., Any]], ...] = (("worst task", np.min), ("average over tasks", np.mean))
    columns = ("by steps", "by generated tokens")
    grid = []
    for name, reduce in rows:
        curves = {label: [(run, run.over_tasks(reduce)) for run in seeds] for label, seeds in runs.items()}
        by_step = [band([curve for _, curve in found]) for found in curves.values()]
        by_token = [band([run.against_tokens(curve) for run, curve in found]) for found in curves.values()]
        grid.append(
            [
                Panel(f"{name}, {column}", tuple(Line(label, bands[i], i) for i, label in enumerate(runs)))
                for column, bands in zip(columns, (by_step, by_token), strict=True)
            ]
        )
    shown = [j for j in range(len(columns)) if any(row[j].has_data for row in grid)]
    missing = tuple(panel.title for row in grid for panel in row if not panel.has_data)
    if not shown:
        return Drawing(None, missing)
    figure, axes = panels(len(rows), len(shown), width=4.6, sharey="row")
    for row, panels_of_row in zip(axes, grid, strict=True):
        for ax, j in zip(row, shown, strict=True):
            draw_panel(ax, panels_of_row[j], RUN_COLOURS, markers=True)
            ax.set_title(panels_of_row[j].title)
        percent_axis(row[0], "accuracy")
    for ax, j in zip(axes[-1], shown, strict=True):
        if j == 0:
            step_axis(ax)
        else:
            token_axis(ax, "completion tokens generated")
    if 1 in shown:
        token_axis(axes[0, shown.index(1)], "")
        axes[0, shown.index(1)].set_xlabel("")
    legend_below(figure, axes)
    return Drawing(figure, missing)


def thresholds(runs: Runs) -> Drawing:
    """When the worst task first reached each level; one line per seed."""
    titles = {"step": "optimizer steps until first reached", "tokens": "completion tokens until first reached"}
    reached = {
        (i, label, s): {level: found for level in LEVELS if (found := first_reached(run, level)) is not None}
        for i, (label, seeds) in enumerate(runs.items())
        for s, run in enumerate(seeds)
    }
    known = [
        column
        for column in titles
        if any(np.isfinite(getattr(f, column)) for r in reached.values() for f in r.values())
    ]
    missing = tuple(title for column, title in titles.items() if column not in known)
    if not known:
        return Drawing(None, missing)
    figure, axes = panels(1, len(known), width=4.6, height=3.2, sharey=True)
    for (i, label, _), levels in reached.items():
        style = {"color": RUN_COLOURS[i % len(RUN_COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 5}
        for ax, column in zip(axes[0], known, strict=True):
            xs = [getattr(found, column) for found in levels.values()]
            ax.plot(xs, list(levels), label=label, alpha=0.85, linewidth=1.4, **style)
    percent_axis(axes[0, 0], "accuracy of the worst task")
    axes[0, 0].set_yticks(LEVELS)
    axes[0, 0].set_ylim(0.0, min(max(level for r in reached.values() for level in r) + 0.1, 1.0))
    for ax, column in zip(axes[0], known, strict=True):
        ax.set_xlim(left=0)
        if column == "tokens":
            token_axis(ax, titles[column])
        else:
            step_axis(ax, titles[column])
    legend_below(figure, axes)
    return Drawing(figure, missing)
