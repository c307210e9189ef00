"""How every picture looks: colours that survive colour blindness with a second mark beside each, axes, legends."""

from collections.abc import Sequence
from typing import Any

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
}


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


def percent_axis(ax: Any, label: str, top: float = 1.0) -> None:
    """Labels a vertical axis whose values are shares in 0..`top`, shown in percent."""
    ax.set_ylim(-0.02 * top, 1.02 * top)
    ax.yaxis.set_major_formatter(import_matplotlib().ticker.PercentFormatter(1.0, decimals=0))
    ax.set_ylabel(label)


def token_axis(ax: Any, label: str) -> None:
    """Labels a horizontal axis that counts tokens, in thousands, millions or billions as they come."""
    _, high = ax.get_xlim()
    scale, unit = next(
        ((s, u) for s, u in ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands")) if high >= s), (1, "")
    )
    ax.xaxis.set_major_formatter(lambda value, position: f"{value / scale:g}")
    ax.set_xlabel(f"{label} ({unit})" if unit else label)


def legend_below(figure: Any, axes: Any, title: str | None = None, columns: int = 5) -> None:
    """One legend for all panels, below them."""
    found = {
        label: handle for ax in axes.ravel() for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if found:
        figure.legend(
            found.values(), found.keys(), loc="outside lower center", ncols=min(len(found), columns), title=title
        )
