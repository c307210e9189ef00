"""Decides what the report's page says: one HTML file with the pictures inside, which needs no network."""

import base64
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from .accuracy_pictures import Runs
from .curves import Curve
from .run_card import METHOD_NAMES
from .runs import Run
from .thresholds import LEVELS, first_reached


UNKNOWN = "not measured"


class Section(NamedTuple):
    """One picture of the page: its heading, what it shows and how to read it, and the file's name and bytes."""

    title: str
    reading: str
    file_name: str
    image: bytes

    @property
    def data(self) -> str:
        """The picture as it stands in the page."""
        return base64.b64encode(self.image).decode("ascii")


class PageTable(NamedTuple):
    """Cells as text; `groups` are headings over several columns, with how many."""

    header: tuple[str, ...]
    rows: list[list[str]]
    groups: tuple[tuple[str, int], ...] = ()


def page(title: str, runs: Runs, sections: Sequence[Section], left_out: Sequence[str] = ()) -> str:
    """
    The report as one HTML document.

    Args:
        title (`str`):
            Heading of the page.
        runs (`dict[str, list[Run]]`):
            The runs by label.
        sections (`Sequence[Section]`):
            The pictures in order.
        left_out (`Sequence[str]`, *optional*):
            Pictures and panels for which the runs hold no numbers.

    Returns:
        `str`: HTML without a reference to anything outside of itself.

    Raises:
        ImportError: when the template engine is not installed.
    """
    every = [run for seeds in runs.values() for run in seeds]
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return (
        _engine()
        .from_string(template)
        .render(
            title=title,
            tasks=every[0].tasks,
            num_runs=len(every),
            num_labels=len(runs),
            evaluated=sum(run.is_evaluated for run in every),
            has_seeds=any(len(seeds) > 1 for seeds in runs.values()),
            unscored=[task for task in every[0].tasks if not any(run.accuracy(task).x.size for run in every)],
            before_after=before_and_after(runs),
            measured_at=_measured_at(every),
            ends=_ends(runs),
            reached=_reached(runs),
            lowest_level=f"{LEVELS[0]:.0%}",
            described=_described(runs),
            settings=_settings(runs),
            sections=sections,
            left_out=left_out,
        )
    )


def before_and_after(runs: Runs) -> PageTable:
    """Accuracy of each task at the first and at the last measurement, and of the worst task and the average."""
    tasks = next(iter(runs.values()))[0].tasks
    curves: dict[str, Callable[[Run], Curve]] = {
        **{task: lambda run, task=task: run.accuracy(task) for task in tasks},  # type: ignore[misc]
        "worst task": lambda run: run.over_tasks(np.min),
        "average": lambda run: run.over_tasks(np.mean),
    }
    rows = []
    for name, curve_of in curves.items():
        row = [name]
        for seeds in runs.values():
            curves_of_label = [curve_of(run) for run in seeds]
            # A single measurement is one at the end: nothing is known of the time before.
            before = [float(c.y[0]) for c in curves_of_label if c.y.size > 1]
            after = [float(c.y[-1]) for c in curves_of_label if c.y.size]
            change = [100.0 * float(c.y[-1] - c.y[0]) for c in curves_of_label if c.y.size > 1]
            row += [_mean_text(before, "{:.1%}"), _mean_text(after, "{:.1%}") + _spread(after)]
            row.append(_mean_text(change, "{:+.1f}"))
        rows.append(row)
    groups = (("", 1), *((label, 3) for label in runs))
    return PageTable(("task", *("before", "after", "change") * len(runs)), rows, groups)


def _ends(runs: Runs) -> PageTable:
    """One row per label: how long it ran, what it generated, and how its worst task ended."""
    header = (
        "",
        "seeds",
        "steps",
        "generated tokens",
        "generated per trained group",
        "worst task at the end",
        "best worst task (step)",
        "average at the end",
    )
    rows = []
    for label, seeds in runs.items():
        worst, average = [[c for run in seeds if (c := run.over_tasks(f)).y.size] for f in (np.min, np.mean)]
        tops = [int(np.argmax(curve.y)) for curve in worst]
        at = _mean_text([curve.x[top] for curve, top in zip(worst, tops, strict=True)], " ({:,.0f})")
        rows.append(
            [
                label,
                str(len(seeds)),
                _mean_text([run.end for run in seeds if run.end is not None], "{:,.0f}"),
                _tokens_text([t for run in seeds if (t := run.generated_tokens) is not None]),
                _mean_text([w for run in seeds if (w := run.waste) is not None], "{:.2f}"),
                _mean_text([curve.y[-1] for curve in worst], "{:.1%}"),
                _mean_text([curve.y[top] for curve, top in zip(worst, tops, strict=True)], "{:.1%}")
                + (at if worst else ""),
                _mean_text([curve.y[-1] for curve in average], "{:.1%}"),
            ]
        )
    return PageTable(header, rows)


def _reached(runs: Runs) -> PageTable | None:
    levels = [level for level in LEVELS if any(first_reached(run, level) for seeds in runs.values() for run in seeds)]
    if not levels:
        return None
    rows = []
    for label, seeds in runs.items():
        cells = []
        for level in levels:
            reached = [r for r in (first_reached(run, level) for run in seeds) if r is not None]
            text = "not reached"
            if reached:
                steps = _mean_text([r.step for r in reached], "step {:,.0f}, ")
                text = steps + _tokens_text([r.tokens for r in reached]) + " tokens"
                text += f" ({len(reached)} of {len(seeds)} seeds)" if len(reached) < len(seeds) else ""
            cells.append(text)
        rows.append([label, *cells])
    return PageTable(("worst task at least", *(f"{level:.0%}" for level in levels)), rows)


def _described(runs: Runs) -> PageTable | None:
    """One row per label: method, model, dates and versions; `None` where no run wrote them."""
    if all(run.card is None for seeds in runs.values() for run in seeds):
        return None
    rows = []
    for label, seeds in runs.items():
        cards = [run.card for run in seeds if run.card is not None]
        versions = {f"{name} {number}" for card in cards for name, number in card.versions.items()}
        rows.append(
            [
                label,
                _values(METHOD_NAMES.get(card.method, card.method) for card in cards),
                _values(card.model for card in cards),
                _values(sorted(card.started[:10] for card in cards)),
                _values(run.name for run in seeds),
                _values(sorted(versions)),
            ]
        )
    return PageTable(("", "method", "model", "started", "folders", "versions"), rows)


def _settings(runs: Runs) -> PageTable | None:
    """One row per setting, one column per label; seeds that differ in a setting show all its values."""
    cards = {label: [run.card for run in seeds if run.card is not None] for label, seeds in runs.items()}
    names = dict.fromkeys(name for found in cards.values() for card in found for name in card.settings)
    if not names:
        return None
    rows = [
        [name, *(_values(str(card.settings.get(name, "not set")) for card in found) for found in cards.values())]
        for name in names
    ]
    return PageTable(("setting", *cards), rows)


def _measured_at(runs: Sequence[Run]) -> str:
    """At which steps the accuracies before and after were measured."""
    curves = [run.over_tasks(np.min) for run in runs]
    firsts = [int(curve.x[0]) for curve in curves if curve.x.size > 1]
    lasts = [int(curve.x[-1]) for curve in curves if curve.x.size]
    if not lasts:
        return ""
    before = f"Before is the measurement at step {_range(firsts)}, after" if firsts else "After is"
    return f"{before} {'that' if firsts else 'the measurement'} at step {_range(lasts)}."


def _range(steps: Sequence[int]) -> str:
    low, high = min(steps), max(steps)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _values(values: Any) -> str:
    """Different values in the order in which they come."""
    return ", ".join(dict.fromkeys(values)) or "not recorded"


def _mean_text(values: Sequence[float], form: str) -> str:
    return form.format(float(np.mean(values))) if values else UNKNOWN


def _spread(values: Sequence[float]) -> str:
    return f" [{min(values):.1%} to {max(values):.1%}]" if len(values) > 1 else ""


def _tokens_text(values: Sequence[float]) -> str:
    mean = float(np.mean(values)) if values else float("nan")
    scale, unit = next(
        ((s, u) for s, u in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")) if mean >= s), (1.0, "")
    )
    return "unknown" if np.isnan(mean) else f"{mean / scale:.3g}{unit}"


def _engine() -> Any:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ImportError(
            "`jinja2` must be installed to write a report, got none. Install it with `pip install trl_mtgrpo[report]`."
        ) from error
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
