"""The pictures of what was trained on and what it cost: weights and shares, filtered groups, the rollout ledger."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .accuracy_pictures import Runs
from .canvas import RUN_COLOURS, TASK_COLOURS, draw_band, legend_below, panels, percent_axis, token_axis
from .curves import band, smoothed


# What became of a generated group; hatches tell the parts apart without their colours.
FATES: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    ("trained", "#0072B2", "", lambda ledger: ledger.trained),
    ("filtered: all solved", "#E69F00", "//", lambda ledger: ledger.filtered[:, 0]),
    ("filtered: all failed", "#D55E00", "\\\\", lambda ledger: ledger.filtered[:, 1]),
    ("filtered: other", "#CC79A7", "xx", lambda ledger: ledger.filtered[:, 2:].sum(axis=1)),
    ("expired", "#56B4E9", "..", lambda ledger: ledger.expired),
    ("carried to the next step", "#999999", "--", lambda ledger: ledger.carried_out),
)


def weights_and_shares(runs: Runs) -> Any:
    """One row per label: task weights, shares asked for and trained, and how far the two are apart."""
    figure, axes = panels(len(runs), 4, width=2.9, sharex=True)
    tasks = next(iter(runs.values()))[0].tasks
    furthest, largest = 0.5, 0.0
    for row, seeds in zip(axes, runs.values(), strict=True):
        for k, task in enumerate(tasks):
            weights = band([run.series(f"tasks/{task}/weight") for run in seeds])
            asked = band([smoothed(run.asked_share(task)) for run in seeds])
            trained = band([smoothed(run.series(f"tasks/{task}/batch_share")) for run in seeds])
            for ax, drawn in zip(row, (weights, asked, trained), strict=False):
                draw_band(ax, drawn, k, TASK_COLOURS, markers=False, label=task)
                largest = max(largest, float(np.max(drawn.high, initial=0.0)))
        distance = band([smoothed(run.series("sampling/mix_distance")) for run in seeds])
        draw_band(row[3], distance, 0, ("#444444",), markers=False)
        furthest = max(furthest, float(np.max(distance.high, initial=0.0)))
    for row, label in zip(axes, runs, strict=True):
        for k in range(3):
            percent_axis(row[k], f"{label}\nshare of the batch" if k == 0 else "", top=min(1.1 * largest, 1.0))
        row[3].set_ylim(0.0, 1.1 * furthest)
    titles = ("task weights", "shares asked for", "shares trained", "distance of a batch (L1)")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    for ax in axes[-1]:
        ax.set_xlabel("optimizer steps")
    legend_below(figure, axes, title="task")
    return figure


def filtered_groups(runs: Runs) -> Any:
    """One row per label: share of generated groups without a gradient, and why."""
    columns = {"filtered_ratio": "filtered in all", "solved_ratio": "all rollouts right", "failed_ratio": "all wrong"}
    figure, axes = panels(len(runs), 3, width=3.7, sharex=True, sharey=True)
    tasks = next(iter(runs.values()))[0].tasks
    for row, (label, seeds) in zip(axes, runs.items(), strict=True):
        for ax, column in zip(row, columns, strict=True):
            for k, task in enumerate(tasks):
                drawn = band([run.smoothed_ratio(task, column) for run in seeds])
                draw_band(ax, drawn, k, TASK_COLOURS, markers=False, label=task)
        percent_axis(row[0], f"{label}\nshare of generated groups")
    for ax, title in zip(axes[0], columns.values(), strict=True):
        ax.set_title(title)
    for ax in axes[-1]:
        ax.set_xlabel("optimizer steps")
    legend_below(figure, axes, title="task")
    return figure


def generation_cost(runs: Runs) -> Any:
    """Generated per trained group, rounds per step, and groups missing at the end of the budget."""
    figure, axes = panels(1, 3, width=3.7)
    titles = {
        "sampling/waste": "groups generated per group trained",
        "sampling/rounds": "rounds of generation per step",
        "sampling/unfilled_groups": "groups missing in a step",
    }
    for ax, (key, title) in zip(axes[0], titles.items(), strict=True):
        for i, (label, seeds) in enumerate(runs.items()):
            drawn = band([smoothed(run.series(key)) for run in seeds])
            draw_band(ax, drawn, i, RUN_COLOURS, markers=True, label=label)
        ax.set_title(title)
        ax.set_xlabel("optimizer steps")
        ax.set_ylim(0.0, max(1.05, ax.get_ylim()[1]))
        if not any(line.get_ydata().any() for line in ax.get_lines()):
            ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", color="#555555")
    legend_below(figure, axes)
    return figure


def rollout_ledger(runs: Runs) -> Any:
    """Where everything generated went, per label and task, in groups and in tokens; means over seeds."""
    known = {label: [run for run in seeds if run.groups is not None] for label, seeds in runs.items()}
    known = {label: seeds for label, seeds in known.items() if seeds}
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
                [np.mean([part(getattr(run, unit)) for run in seeds], axis=0) for seeds in known.values()]
            )
            ax.barh(places, width, left=left, color=colour, hatch=hatch, edgecolor="white", label=fate, height=0.8)
            left += width
        ax.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(places, names)
    for i, label in enumerate(known):
        for ax in axes[0]:
            ax.text(0.0, i * (len(tasks) + 1.0) - 0.5, f" {label}", va="bottom", weight="bold")
    axes[0, 0].set_ylim(places.max() + 0.6, -1.2)
    axes[0, 0].set_xlabel("groups of rollouts per run")
    token_axis(axes[0, 1], "completion tokens per run")
    legend_below(figure, axes, columns=3)
    return figure
