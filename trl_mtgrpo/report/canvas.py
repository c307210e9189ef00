"""How every picture looks: colours that survive colour blindness with a second mark beside each, axes, legends."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .curves import Band


# Okabe and Ito's palette for runs, Paul Tol's "muted" for tasks, so that the two are not taken for one another.
RUN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TASK_COLOURS = ("#332288", "#CC6677", "#117733", "#88CCEE", "#AA4499", "#999933", "#882255", "#44AA99", "#DDCC77")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")

RC = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "trl_mtgrpo",
    "text.parse_math": False,  # names of tasks may hold dollar signs
}

# Characters of the small font on an inch of a figure.
_CHARACTERS_PER_INCH = 12


class Line(NamedTuple):
    """One line of a panel: its name in the legend, its values, and the place that decides its colour and mark."""

    label: str | None
    band: Band
    position: int


class Panel(NamedTuple):
    """A title and the lines below it."""

    title: str
    lines: tuple[Line, ...]

    @property
    def has_data(self) -> bool:
        """Whether any line has a point."""
        return any(line.band.x.size for line in self.lines)


class Drawing(NamedTuple):
    """A figure, or `None` where there was nothing to draw, and the titles of the panels that had no numbers."""

    figure: Any | None
    missing: tuple[str, ...] = ()


def with_data(panels: Iterable[Panel]) -> tuple[list[Panel], tuple[str, ...]]:
    """The panels that have numbers, and the titles of the others."""
    panels = list(panels)
    return [p for p in panels if p.has_data], tuple(p.title for p in panels if not p.has_data)


def import_matplotlib() -> Any:
    """
    Matplotlib, with advice where it is missing.

    Returns:
        `module`

    Raises:
        ImportError: when the extra is not installed.
    """
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise ImportError(
            "`matplotlib` must be installed to draw a report, got none. Install it with "
            "`pip install trl_mtgrpo[report]`."
        ) from error
    return matplotlib


def panels(rows: int, columns: int, width: float = 4.0, height: float = 2.9, **options: Any) -> tuple[Any, Any]:
    """
    An empty figure, drawn without a screen and without touching matplotlib's global state.

    Args:
        rows (`int`):
            Rows of panels.
        columns (`int`):
            Columns of panels.
        width (`float`, *optional*, defaults to `4.0`):
            Width of a panel in inches.
        height (`float`, *optional*, defaults to `2.9`):
            Height of a panel in inches.
        **options:
            Passed to `Figure.subplots`.

    Returns:
        `tuple`: the figure and its axes, shape `(rows, columns)`.
    """
    figure = import_matplotlib().figure.Figure(
        figsize=(width * columns + 0.6, height * rows + 0.7), layout="constrained"
    )
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def grid_shape(count: int, most_columns: int = 3) -> tuple[int, int]:
    """Rows and columns for a number of panels."""
    columns = min(count, most_columns)
    return -(-count // columns), columns


def hide_unused(axes: Any, used: int) -> None:
    """Takes away the panels beyond the used ones, in reading order."""
    for ax in axes.ravel()[used:]:
        ax.set_visible(False)


def draw_band(ax: Any, drawn: Band, position: int, colours: Sequence[str], markers: bool, **options: Any) -> None:
    """
    One line with its band, in the colour and the second mark of its position.

    Args:
        ax (`matplotlib.axes.Axes`):
            Where to draw.
        drawn ([`Band`]):
            The curve; the band is left out where it has no height.
        position (`int`):
            Which colour, marker and dash.
        colours (`Sequence[str]`):
            The palette.
        markers (`bool`):
            Whether the second mark is a marker, for few points, or a dash.
        **options:
            Passed to `Axes.plot`.
    """
    colour = colours[position % len(colours)]
    style: dict[str, Any] = {"color": colour, "linewidth": 1.8}
    if markers:
        every = max(drawn.x.size // 12, 1)
        style |= {
            "marker": MARKERS[position % len(MARKERS)],
            "markersize": 4.5,
            "markevery": (position % every, every),
        }
    else:
        style["linestyle"] = DASHES[position % len(DASHES)]
    ax.plot(drawn.x, drawn.mean, **(style | options))
    if np.any(drawn.high > drawn.low):
        ax.fill_between(drawn.x, drawn.low, drawn.high, color=colour, alpha=0.18, linewidth=0)


def draw_panel(ax: Any, panel: Panel, colours: Sequence[str], markers: bool) -> None:
    """The lines of a panel, in the colours of a palette."""
    for line in panel.lines:
        draw_band(ax, line.band, line.position, colours, markers, label=line.label)


def fitted(text: str, inches: float) -> str:
    """A title broken into lines that fit a width."""
    return "\n".join(textwrap.wrap(text, max(int(inches * _CHARACTERS_PER_INCH), 8)) or [text])


def percent_axis(ax: Any, label: str, top: float = 1.0) -> None:
    """Labels a vertical axis whose values are shares in 0..`top`, shown in percent."""
    ax.set_ylim(-0.02 * top, 1.02 * top)
    ax.yaxis.set_major_formatter(import_matplotlib().ticker.PercentFormatter(1.0, decimals=0))
    ax.set_ylabel(label)


def step_axis(ax: Any, label: str = "optimizer steps") -> None:
    """Labels a horizontal axis that counts steps, which are whole."""
    ax.xaxis.set_major_locator(import_matplotlib().ticker.MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlabel(label)


def token_axis(ax: Any, label: str) -> None:
    """Labels a horizontal axis that counts tokens, in thousands, millions or billions as they come."""
    _, high = ax.get_xlim()
    scale, unit = next(
        ((s, u) for s, u in ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands")) if high >= s), (1, "")
    )
    ax.xaxis.set_major_formatter(lambda value, position: f"{value / scale:g}")
    ax.set_xlabel(f"{label} ({unit})" if unit else label)


def legend_below(figure: Any, axes: Any, title: str | None = None, columns: int = 5) -> None:
    """One legend for all panels, below them, with as many columns as its names leave room for."""
    found: dict[str, Any] = {}
    for ax in axes.ravel():
        for artist in [*ax.get_lines(), *ax.containers]:
            label = artist.get_label()
            # Matplotlib hides every label that begins with "_"; only those of its own making are meant here.
            if label and not label.startswith(("_child", "_container", "_nolegend_")):
                found.setdefault(label, artist)
    if not found:
        return
    room = int(figure.get_figwidth() * _CHARACTERS_PER_INCH)
    most = max(room // (max(map(len, found)) + 6), 1)
    shown = [f"\u200b{label}" if label.startswith("_") else label for label in found]
    figure.legend(found.values(), shown, loc="outside lower center", ncols=min(len(found), columns, most), title=title)
