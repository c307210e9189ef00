"""
Draws `docs/images/concepts.svg` and `docs/images/worst_task.svg`: `python docs/make_pictures.py`.

The second shows `docs/data/worst_task.json`, which `python docs/make_pictures.py --collect` makes from the finished
runs of `benchmarks/learning.py`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any


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


def worst_task(found: dict[str, Any]) -> str:
    """The comparison as SVG."""
    left, top, width, height = 62, 24, 470, 250
    x_end, y_end = found["tokens"][-1], 0.7

    def x(tokens: float) -> float:
        return left + width * tokens / x_end

    def y(accuracy: float) -> float:
        return top + height * (1 - accuracy / y_end)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 330" role="img">',
        "<title>Accuracy of the weakest of three tasks over generated tokens, for MT-GRPO, DAPO and GRPO</title>",
        STYLE,
        PAPER,
        '<text class="s" x="10" y="14">accuracy of the weakest of three tasks</text>',
    ]
    for percent in range(0, 71, 10):
        parts.append(
            f'<line x1="{left}" x2="{left + width}" y1="{y(percent / 100):.1f}" y2="{y(percent / 100):.1f}" '
            f'stroke="#e3e6ee"/><text class="s e" x="{left - 8}" y="{y(percent / 100) + 4:.1f}">{percent} %</text>'
        )
    for thousand in range(0, 161, 40):
        at = x(1000 * thousand)
        parts.append(f'<text class="s m" x="{at:.1f}" y="{top + height + 18}">{1000 * thousand:,}</text>')
    parts.append(
        f'<text class="m" x="{left + width / 2}" y="{top + height + 40}">tokens generated, those of discarded answers '
        "included</text>"
    )
    for arm, _, colour in METHODS:
        xs = [x(tokens) for tokens in found["tokens"]]
        high = [f"{a:.1f},{y(b):.1f}" for a, b in zip(xs, found[arm]["high"], strict=True)]
        low = [f"{a:.1f},{y(b):.1f}" for a, b in zip(xs, found[arm]["low"], strict=True)]
        parts.append(f'<polygon points="{" ".join(high + low[::-1])}" fill="{colour}" opacity="0.13"/>')
    ends = sorted(((found[arm]["mean"][-1], name, colour) for arm, name, colour in METHODS), reverse=True)
    places: list[float] = []
    for mean, _, _ in ends:
        places.append(max(y(mean), places[-1] + 40) if places else y(mean))
    for arm, _, colour in METHODS:
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(found["tokens"], found[arm]["mean"], strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
    for (mean, name, colour), place in zip(ends, places, strict=True):
        parts += [
            f'<text class="b" x="{left + width + 10}" y="{place:.1f}" style="fill:{colour}">{escape(name)}</text>',
            f'<text class="s" x="{left + width + 10}" y="{place + 16:.1f}">ends at {100 * mean:.0f} %</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


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
    found = json.loads(CURVES.read_text(encoding="utf-8"))
    (IMAGES / "worst_task.svg").write_text(worst_task(found), encoding="utf-8")


if __name__ == "__main__":
    main()
