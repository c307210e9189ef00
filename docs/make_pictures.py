"""
Draws the pictures `concepts`, `program` and `worst_task` of `docs/images`: `python docs/make_pictures.py`.

The last shows `docs/data/worst_task.json`, which `python docs/make_pictures.py --collect` makes from the finished
runs of `benchmarks/learning.py`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple


ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.learning_runs import read_runs


IMAGES = ROOT / "docs" / "images"
CURVES = ROOT / "docs" / "data" / "worst_task.json"

# The methods in the order of the legend: folder of the runs, name, colour.
METHODS = (
    ("mt_grpo-b12", "MT-GRPO, this library", "#0b6e4f"),
    ("dapo-b12", "DAPO", "#b5651d"),
    ("grpo-b12", "GRPO", "#5b6785"),
)
SEEDS = range(5)
AGENTS = ROOT / "benchmarks" / "results" / "agents"
# What the runs of the example with a program measured, name, colour.
PROGRAM = (("program", "the program", "#0b6e4f"), ("rule", "its first call", "#3d6db5"))
TASK_COLOURS = ("#0b6e4f", "#3d6db5", "#b5651d")
STYLE = (
    "<style>text{font-family:sans-serif;font-size:13px;fill:#1c2233}.b{font-weight:bold}.s{font-size:12px;fill:#4c5568}"
    ".m{text-anchor:middle}.e{text-anchor:end}</style>"
)
PAPER = '<rect width="100%" height="100%" fill="#ffffff"/>'


def collect() -> dict[str, Any]:
    """Worst-task accuracy over generated tokens: mean, lowest and highest of the seeds at common numbers of tokens."""
    grid = [16_000 * i for i in range(11)]
    found: dict[str, Any] = {"tokens": grid, "seeds": len(SEEDS)}
    for arm, *_ in METHODS:
        runs = [run["curve"] for run in read_runs("three") if run["arm"] == arm and run["seed"] in SEEDS]
        at = [[interpolated(run, tokens) for run in runs] for tokens in grid]
        found[arm] = {
            "mean": [round(sum(values) / len(values), 4) for values in at],
            "low": [round(min(values), 4) for values in at],
            "high": [round(max(values), 4) for values in at],
        }
    return found


def interpolated(curve: Sequence[dict[str, Any]], tokens: float) -> float:
    """The worst task's accuracy of one run at a number of tokens, on the line between its measurements."""
    points = [(float(point["tokens"]), min(point["accuracy"].values())) for point in curve]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= tokens <= x1:
            return float(y0 + (y1 - y0) * (tokens - x0) / (x1 - x0))
    return float(points[-1][1])


class Curve(NamedTuple):
    """A mean over seeds with its range, at the numbers of `Chart.x`."""

    name: str
    colour: str
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


class Chart(NamedTuple):
    """Curves of accuracies with their axes; ticks of y are percent."""

    title: str
    y_label: str
    x_label: str
    x: Sequence[float]
    x_ticks: Sequence[int]
    y_ticks: Sequence[int]
    curves: Sequence[Curve]


def draw(chart: Chart) -> str:
    """A chart as SVG."""
    left, top, width, height = 62, 24, 470, 250

    def x(value: float) -> float:
        return left + width * value / chart.x[-1]

    def y(accuracy: float) -> float:
        return top + height * (1 - 100 * accuracy / chart.y_ticks[-1])

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 330" role="img">',
        f"<title>{escape(chart.title)}</title>",
        STYLE,
        PAPER,
        f'<text class="s" x="10" y="14">{escape(chart.y_label)}</text>',
    ]
    for percent in chart.y_ticks:
        parts.append(
            f'<line x1="{left}" x2="{left + width}" y1="{y(percent / 100):.1f}" y2="{y(percent / 100):.1f}" '
            f'stroke="#e3e6ee"/><text class="s e" x="{left - 8}" y="{y(percent / 100) + 4:.1f}">{percent} %</text>'
        )
    for tick in chart.x_ticks:
        parts.append(f'<text class="s m" x="{x(tick):.1f}" y="{top + height + 18}">{tick:,}</text>')
    parts.append(f'<text class="m" x="{left + width / 2}" y="{top + height + 40}">{escape(chart.x_label)}</text>')
    xs = [x(value) for value in chart.x]
    for curve in chart.curves:
        high = [f"{a:.1f},{y(b):.1f}" for a, b in zip(xs, curve.high, strict=True)]
        low = [f"{a:.1f},{y(b):.1f}" for a, b in zip(xs, curve.low, strict=True)]
        parts.append(f'<polygon points="{" ".join(high + low[::-1])}" fill="{curve.colour}" opacity="0.13"/>')
    ends = sorted(chart.curves, key=lambda curve: curve.mean[-1], reverse=True)
    places: list[float] = []
    for curve in ends:
        places.append(max(y(curve.mean[-1]), places[-1] + 40) if places else y(curve.mean[-1]))
    for curve in chart.curves:
        points = " ".join(f"{a:.1f},{y(b):.1f}" for a, b in zip(xs, curve.mean, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{curve.colour}" stroke-width="2.5"/>')
    for curve, place in zip(ends, places, strict=True):
        parts += [
            f'<text class="b" x="{left + width + 10}" y="{place:.1f}" style="fill:{curve.colour}">'
            f"{escape(curve.name)}</text>",
            f'<text class="s" x="{left + width + 10}" y="{place + 16:.1f}">ends at {100 * curve.mean[-1]:.0f} '
            "%</text>",
        ]
    return "\n".join([*parts, "</svg>\n"])


def worst_task(found: dict[str, Any]) -> str:
    """The comparison as SVG."""
    return draw(
        Chart(
            title="Accuracy of the weakest of three tasks over generated tokens, for MT-GRPO, DAPO and GRPO",
            y_label="accuracy of the weakest of three tasks",
            x_label="tokens generated, those of discarded answers included",
            x=found["tokens"],
            x_ticks=range(0, 160_001, 40_000),
            y_ticks=range(0, 71, 10),
            curves=[Curve(name, colour, **found[arm]) for arm, name, colour in METHODS],
        )
    )


def program() -> str:
    """Both modules of the example with a program, over the steps of its finished runs, as SVG."""
    runs = [
        json.loads(path.read_text(encoding="utf-8"))["points"] for path in sorted(AGENTS.glob("program-seed*.json"))
    ]
    curves = []
    for what, name, colour in PROGRAM:
        values = list(zip(*([point[what] for point in run] for run in runs), strict=True))
        mean = [sum(seeds) / len(seeds) for seeds in values]
        curves.append(Curve(name, colour, mean, [min(seeds) for seeds in values], [max(seeds) for seeds in values]))
    return draw(
        Chart(
            title="Accuracy of a program of two calls, and of its first call, which no reward looks at, over steps",
            y_label="accuracy on held-out prompts",
            x_label="optimizer steps",
            x=[point["step"] for point in runs[0]],
            x_ticks=range(0, 151, 30),
            y_ticks=range(0, 101, 20),
            curves=curves,
        )
    )


def concepts() -> str:
    """One step as SVG."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 420" role="img">',
        "<title>One step of Multi-Task GRPO</title>",
        STYLE,
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#5b6785"/></marker></defs>',
        PAPER,
    ]
    columns = (30, 180, 365, 580, 715)
    titles = ("task weights", "shares", "generated groups", "filter", "batch that trains")
    for left, title in zip(columns, titles, strict=True):
        parts.append(f'<text class="b" x="{left}" y="34">{title}</text>')
    notes = (
        "low and slow: up",
        "weight, less what is solved",
        "each box: one prompt",
        "equal rewards: out",
        "the mix that was asked for",
    )
    for left, note in zip(columns, notes, strict=True):
        parts.append(f'<text class="s" x="{left}" y="52">{note}</text>')
    # weight, share, generated groups as 1 (informative) and 0, refilled groups likewise
    tasks = (
        ("task A", 0.55, 0.58, (1, 0, 0, 1, 0, 1), (1, 0, 1)),
        ("task B", 0.25, 0.28, (1, 1), ()),
        ("task C", 0.20, 0.14, (0, 1), ()),
    )
    for row, ((name, weight, share, first, again), colour) in enumerate(zip(tasks, TASK_COLOURS, strict=True)):
        top = 84 + 84 * row
        for left, value in ((columns[0], weight), (columns[1], share)):
            parts += [
                f'<text x="{left}" y="{top + 6}" style="fill:{colour}">{name}</text>',
                f'<rect x="{left}" y="{top + 14}" width="{130 * value:.0f}" height="16" fill="{colour}"/>',
            ]
        for i, informative in enumerate((*first, *again)):
            refill = i >= len(first)
            at = columns[2] + 24 * (i - len(first) if refill else i)
            y = top + (32 if refill else 6)
            fill = colour if informative else "#ffffff"
            parts.append(f'<rect x="{at}" y="{y}" width="18" height="18" rx="3" fill="{fill}" stroke="{colour}"/>')
            if not informative:
                parts.append(f'<path d="M{at + 4} {y + 4}l10 10m0 -10l-10 10" stroke="{colour}" stroke-width="1.5"/>')
        if again:
            parts.append(
                f'<text class="s" x="{columns[2] + 24 * len(again) + 6}" y="{top + 46}">refill: what is short</text>'
            )
        kept = sum(first) + sum(again)
        for i in range(kept):
            at = columns[4] + 24 * (i % 5)
            parts.append(
                f'<rect x="{at}" y="{top + 10}" width="18" height="18" rx="3" fill="{colour}" stroke="{colour}"/>'
            )
        middle = top + 19
        parts.append(f'<line x1="582" x2="690" y1="{middle}" y2="{middle}" stroke="#5b6785" marker-end="url(#tip)"/>')
    for start, end in ((135, 172), (318, 358)):
        parts.append(f'<line x1="{start}" x2="{end}" y1="190" y2="190" stroke="#5b6785" marker-end="url(#tip)"/>')
    parts += [
        '<path d="M770 320 V378 H70 V322" fill="none" stroke="#5b6785" marker-end="url(#tip)"/>',
        '<text class="m" x="435" y="370">optimizer step; then accuracy and improvement of each task move the weights'
        "</text>",
        '<text class="s m" x="435" y="400">full box: the rollouts of the group differ, it can train. crossed box: all '
        "right or all wrong, it teaches nothing</text>",
        "</svg>\n",
    ]
    return "\n".join(parts)


def main() -> None:
    """Writes the pictures, and with `--collect` the numbers first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--collect", action="store_true", help="read the finished runs again")
    if parser.parse_args().collect:
        CURVES.write_text(json.dumps(collect(), indent=1) + "\n", encoding="utf-8")
    (IMAGES / "concepts.svg").write_text(concepts(), encoding="utf-8")
    (IMAGES / "program.svg").write_text(program(), encoding="utf-8")
    found = json.loads(CURVES.read_text(encoding="utf-8"))
    (IMAGES / "worst_task.svg").write_text(worst_task(found), encoding="utf-8")


if __name__ == "__main__":
    main()
