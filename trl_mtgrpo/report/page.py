"""Decides what the report's page says: one HTML file with the pictures inside, which needs no network."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from .accuracy_pictures import Runs
from .runs import Run
from .thresholds import LEVELS, first_reached


class Section(NamedTuple):
    """One picture of the page: its heading, what it shows and how to read it, and the file's name and bytes."""

    title: str
    reading: str
    file_name: str
    image: bytes


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 1080px; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #d5d5d5; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; }
figure { margin: 0; } img { width: 100%; height: auto; } p.note { color: #444; max-width: 70ch; }
div.wide { overflow-x: auto; }
"""


def page(title: str, runs: Runs, sections: Sequence[Section]) -> str:
    """
    The report as one HTML document.

    Args:
        title (`str`):
            Heading of the page.
        runs (`dict[str, list[Run]]`):
            The runs by label.
        sections (`Sequence[Section]`):
            The pictures in order.

    Returns:
        `str`: HTML without a reference to anything outside of itself.
    """
    body = [f"<h1>{escape(title)}</h1>", _introduction(runs), "<h2>Where the runs ended</h2>", _summary(runs)]
    body += [_final_accuracy(runs), "<h2>When the worst task got there</h2>", _reached(runs)]
    for section in sections:
        data = base64.b64encode(section.image).decode("ascii")
        body.append(
            f"<h2>{escape(section.title)}</h2><p class='note'>{escape(section.reading)}</p><figure>"
            f"<img alt='{escape(section.title)}' src='data:image/png;base64,{data}'></figure>"
        )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
        f"content='width=device-width, initial-scale=1'><title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _introduction(runs: Runs) -> str:
    every = [run for seeds in runs.values() for run in seeds]
    source = (
        "Accuracies are those of the evaluations during training."
        if all(run.is_evaluated for run in every)
        else "At least one run was not evaluated on every task: its accuracies are those of its own training "
        "completions, "
        "filtered ones included, as a moving mean."
    )
    seeds = (
        " Lines are means over seeds and bands reach from the lowest to the highest seed." if _has_seeds(runs) else ""
    )
    return (
        f"<p class='note'>{len(every)} run(s) of {len(runs)} method(s) on {len(every[0].tasks)} task(s): "
        f"{escape(', '.join(every[0].tasks))}. {source}{seeds} A group is the rollouts of one prompt; a group whose "
        "rollouts all got the same reward carries no gradient and is filtered. Generated tokens are completion "
        "tokens of "
        "everything generated for training, filtered groups included.</p>"
    )


def _summary(runs: Runs) -> str:
    header = ["", "seeds", "steps", "generated tokens", "generated per trained group"]
    header += ["worst task at the end", "best worst task (step)", "average at the end"]
    rows = []
    for label, seeds in runs.items():
        worst, average = [[run.over_tasks(f) for run in seeds] for f in (np.min, np.mean)]
        totals = [run.series("sampling/total_generated_tokens") for run in seeds]
        tops = [int(np.argmax(curve.y)) for curve in worst]
        rows.append(
            [
                label,
                str(len(seeds)),
                _mean_text([run.steps[-1] for run in seeds], "{:,.0f}"),
                _tokens_text([total.y[-1] for total in totals if total.y.size]),
                _mean_text([_waste(run) for run in seeds], "{:.2f}"),
                _mean_text([curve.y[-1] for curve in worst], "{:.1%}"),
                _mean_text([curve.y[top] for curve, top in zip(worst, tops, strict=True)], "{:.1%}")
                + _mean_text([curve.x[top] for curve, top in zip(worst, tops, strict=True)], " ({:,.0f})"),
                _mean_text([curve.y[-1] for curve in average], "{:.1%}"),
            ]
        )
    return _table(header, rows)


def _final_accuracy(runs: Runs) -> str:
    tasks = next(iter(runs.values()))[0].tasks
    rows = []
    for label, seeds in runs.items():
        cells = []
        for task in tasks:
            ends = [run.accuracy(task).y[-1] for run in seeds]
            spread = f" [{min(ends):.1%} to {max(ends):.1%}]" if len(ends) > 1 else ""
            cells.append(_mean_text(ends, "{:.1%}") + spread)
        rows.append([label, *cells])
    return "<p class='note'>Accuracy per task at the end of the run:</p>" + _table(["", *tasks], rows)


def _reached(runs: Runs) -> str:
    levels = [level for level in LEVELS if any(first_reached(run, level) for seeds in runs.values() for run in seeds)]
    if not levels:
        return f"<p class='note'>No run reached {LEVELS[0]:.0%} on its worst task.</p>"
    rows = []
    for label, seeds in runs.items():
        cells = []
        for level in levels:
            reached = [r for r in (first_reached(run, level) for run in seeds) if r is not None]
            text = "not reached"
            if reached:
                steps = _mean_text([r.step for r in reached], "{:,.0f} steps, ")
                text = steps + _tokens_text([r.tokens for r in reached]) + " tokens"
                text += f" ({len(reached)} of {len(seeds)} seeds)" if len(reached) < len(seeds) else ""
            cells.append(text)
        rows.append([label, *cells])
    note = "First measurement at or above each level, with the tokens generated by then; means over the seeds that "
    "got there."
    return f"<p class='note'>{note}</p>" + _table(["worst task at least", *(f"{level:.0%}" for level in levels)], rows)


def _waste(run: Run) -> float:
    return run.groups.waste if run.groups is not None else float(np.mean(run.series("sampling/waste").y))


def _has_seeds(runs: Mapping[str, Sequence[Run]]) -> bool:
    return any(len(seeds) > 1 for seeds in runs.values())


def _mean_text(values: Sequence[float], form: str) -> str:
    return form.format(float(np.mean(values))) if values else "unknown"


def _tokens_text(values: Sequence[float]) -> str:
    mean = float(np.mean(values)) if values else float("nan")
    scale, unit = next(
        ((s, u) for s, u in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")) if mean >= s), (1.0, "")
    )
    return "unknown" if np.isnan(mean) else f"{mean / scale:.3g}{unit}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in header)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    lines_html = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{lines_html}</tbody></table></div>"
