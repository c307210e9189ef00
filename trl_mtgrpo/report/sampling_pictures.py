"""The pictures of what was trained on and what it cost: weights and shares, filtered groups, the rollout ledger."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .accuracy_pictures import Runs
from .canvas import (
    RUN_COLOURS,
    TASK_COLOURS,
    Drawing,
    Line,
    Panel,
    draw_panel,
    fitted,
    legend_below,
    panels,
    percent_axis,
    step_axis,
    token_axis,
    with_data,
)
from .curves import band, smoothed
from .runs import Run


# What became of a generated group; hatches tell the parts apart without their colours.
FATES: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    ("trained", "#0072B2", "", lambda ledger: ledger.trained),
    ("filtered: all solved", "#E69F00", "//", lambda ledger: ledger.filtered[:, 0]),
    ("filtered: all failed", "#D55E00", "\\\\", lambda ledger: ledger.filtered[:, 1]),
    ("filtered: other", "#CC79A7", "xx", lambda ledger: ledger.filtered[:, 2:].sum(axis=1)),
    ("expired", "#56B4E9", "..", lambda ledger: ledger.expired),
    ("carried to the next step", "#999999", "--", lambda ledger: ledger.carried_out),
)


def weights_and_shares(runs: Runs) -> Drawing:
    """One row per label: task weights, shares asked for and trained, and how far the two are apart."""
    tasks = next(iter(runs.values()))[0].tasks
    grid = {}
    for label, seeds in runs.items():
        series = {
            "task weights": lambda run, task: run.series(f"tasks/{task}/weight"),
            "shares asked for": lambda run, task: smoothed(run.asked_share(task)),
            "shares trained": lambda run, task: smoothed(run.series(f"tasks/{task}/batch_share")),
        }
        row = [
            Panel(
                title, tuple(Line(task, band([read(run, task) for run in seeds]), k) for k, task in enumerate(tasks))
            )
            for title, read in series.items()
        ]
        distance = band([smoothed(run.series("sampling/mix_distance")) for run in seeds])
        grid[label] = [*row, Panel("distance of a batch (L1)", (Line(None, distance, 0),))]
    figure, axes, shown, missing = _rows_of_panels(grid, width=2.9)
    if figure is None:
        return Drawing(None, missing)
    highs = [
        (p.title, float(line.band.high.max())) for row in shown for p in row for line in p.lines if line.band.x.size
    ]
    largest = max((high for title, high in highs if "distance" not in title), default=1.0)
    furthest = max((high for title, high in highs if "distance" in title), default=0.5)
    for row, panels_of_row in zip(axes, shown, strict=True):
        for k, (ax, panel) in enumerate(zip(row, panels_of_row, strict=True)):
            if "distance" in panel.title:
                draw_panel(ax, panel, ("#444444",), markers=False)
                ax.set_ylim(0.0, 1.1 * max(furthest, 0.5))
            else:
                draw_panel(ax, panel, TASK_COLOURS, markers=False)
                percent_axis(ax, "share of the batch" if k == 0 else "", top=min(1.1 * largest, 1.0))
    _name_rows(axes, [label for label, row in grid.items() if any(p.has_data for p in row)])
    legend_below(figure, axes, title="task")
    return Drawing(figure, missing)


def filtered_groups(runs: Runs) -> Drawing:
    """One row per label: share of generated groups without a gradient, and why."""
    columns = {"filtered_ratio": "filtered in all", "solved_ratio": "all rollouts right", "failed_ratio": "all wrong"}
    tasks = next(iter(runs.values()))[0].tasks
    grid = {
        label: [
            Panel(
                title,
                tuple(
                    Line(task, band([run.smoothed_ratio(task, column) for run in seeds]), k)
                    for k, task in enumerate(tasks)
                ),
            )
            for column, title in columns.items()
        ]
        for label, seeds in runs.items()
    }
    figure, axes, shown, missing = _rows_of_panels(grid, width=3.7, sharey=True)
    if figure is None:
        return Drawing(None, missing)
    for row, panels_of_row in zip(axes, shown, strict=True):
        for ax, panel in zip(row, panels_of_row, strict=True):
            draw_panel(ax, panel, TASK_COLOURS, markers=False)
        percent_axis(row[0], "share of generated groups")
    _name_rows(axes, [label for label, row in grid.items() if any(p.has_data for p in row)])
    legend_below(figure, axes, title="task")
    return Drawing(figure, missing)


def generation_cost(runs: Runs) -> Drawing:
    """Generated per trained group, rounds per step, and groups missing at the end of the budget."""
    titles = {
        "sampling/waste": "groups generated per group trained",
        "sampling/rounds": "rounds of generation per step",
        "sampling/unfilled_groups": "groups missing in a step",
    }
    drawn, missing = with_data(
        Panel(
            title,
            tuple(
                Line(label, band([smoothed(run.series(key)) for run in seeds]), i)
                for i, (label, seeds) in enumerate(runs.items())
            ),
        )
        for key, title in titles.items()
    )
    # A panel of zeros alone says less than its title.
    zeros = {p.title for p in drawn if "missing" in p.title and not any(line.band.high.any() for line in p.lines)}
    drawn = [p for p in drawn if p.title not in zeros]
    missing += tuple(zeros)
    if not drawn:
        return Drawing(None, missing)
    figure, axes = panels(1, len(drawn), width=3.7)
    for ax, panel in zip(axes[0], drawn, strict=True):
        draw_panel(ax, panel, RUN_COLOURS, markers=True)
        ax.set_title(panel.title)
        step_axis(ax)
        ax.set_ylim(0.0, max(1.05, ax.get_ylim()[1]))
    legend_below(figure, axes)
    return Drawing(figure, missing)


def rollout_ledger(runs: Runs) -> Drawing:
    """Where everything generated went, per label and task, in groups and in tokens; means over seeds."""
    known = {label: [run for run in seeds if run.groups is not None] for label, seeds in runs.items()}
    known = {
        label: seeds
        for label, seeds in known.items()
        if any(run.groups is not None and run.groups.generated.any() for run in seeds)
    }
    if not known:
        return Drawing(None, ("groups", "tokens"))
    tasks = next(iter(known.values()))[0].tasks
    names = [task for _ in known for task in tasks]
    bar = 0.55
    figure, axes = panels(1, 2, width=4.9, height=0.9 + bar * len(names), sharey=True)
    # A blank row between labels, the first label on top.
    places = np.concatenate([i * (len(tasks) + 1.0) + np.arange(len(tasks)) for i in range(len(known))])
    for ax, unit in zip(axes[0], ("groups", "tokens"), strict=True):
        left = np.zeros(len(names))
        for fate, colour, hatch, part in FATES:
            width = np.concatenate(
                [
                    np.mean([_in_order(run, tasks, part(getattr(run, unit))) for run in seeds], axis=0)
                    for seeds in known.values()
                ]
            )
            if width.any():
                ax.barh(places, width, left=left, color=colour, hatch=hatch, edgecolor="white", label=fate, height=0.8)
            left += width
        ax.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(places, [fitted(name, 2.0) for name in names])
    for i, label in enumerate(known):
        for ax in axes[0]:
            ax.text(0.0, i * (len(tasks) + 1.0) - 0.5, f" {label}", va="bottom", weight="bold")
    axes[0, 0].set_ylim(places.max() + 0.6, -1.2)
    axes[0, 0].set_xlabel("groups of rollouts per run")
    token_axis(axes[0, 1], "completion tokens per run")
    legend_below(figure, axes, columns=3)
    return Drawing(figure)


def _in_order(run: Run, tasks: Sequence[str], counts: Any) -> Any:
    """Counts per task of a run in the order of other runs' tasks."""
    return counts[[run.tasks.index(task) for task in tasks]]


def _rows_of_panels(
    grid: dict[str, list[Panel]], **options: Any
) -> tuple[Any, Any, list[list[Panel]], tuple[str, ...]]:
    """A figure for the rows and columns that have numbers anywhere, with titles; what was left out."""
    columns = range(len(next(iter(grid.values()))))
    shown = [j for j in columns if any(row[j].has_data for row in grid.values())]
    rows = [[row[j] for j in shown] for row in grid.values() if any(p.has_data for p in row)]
    missing = tuple(
        f"{panel.title} of {label}" if len(grid) > 1 else panel.title
        for label, row in grid.items()
        for panel in row
        if not panel.has_data
    )
    if not rows:
        return None, None, [], missing
    figure, axes = panels(len(rows), len(shown), sharex=True, **options)
    for row, panels_of_row in zip(axes, rows, strict=True):
        for ax, panel in zip(row, panels_of_row, strict=True):
            ax.set_visible(panel.has_data)
    for column, panels_of_column in zip(axes.T, zip(*rows, strict=True), strict=True):
        top = next(i for i, panel in enumerate(panels_of_column) if panel.has_data)
        column[top].set_title(panels_of_column[top].title)
    for ax in axes[-1]:
        step_axis(ax)
    return figure, axes, rows, missing


def _name_rows(axes: Any, labels: Sequence[str]) -> None:
    """Puts the labels before the axis names of the first column, where there are several."""
    if len(labels) > 1:
        for ax, label in zip(axes[:, 0], labels, strict=True):
            ax.set_ylabel(f"{fitted(label, 2.4)}\n{ax.get_ylabel()}")
