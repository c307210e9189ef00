"""How curves are smoothed, and how several seeds become one line with a band."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


Vector = NDArray[np.float64]


class Curve(NamedTuple):
    """Values `y` over increasing positions `x`, both of shape `(n,)`."""

    x: Vector
    y: Vector


class Band(NamedTuple):
    """The mean over curves with the lowest and the highest of them, all of shape `(n,)`."""

    x: Vector
    mean: Vector
    low: Vector
    high: Vector


def smoothed(curve: Curve, weights: Vector | None = None, window: int | None = None) -> Curve:
    """
    The moving mean over the last points.

    Args:
        curve ([`Curve`]):
            The curve.
        weights (`np.ndarray`, *optional*):
            What each point counts for, shape `(n,)`; all the same by default.
        window (`int`, *optional*):
            Points to average; by default a tenth of the curve, at least one.

    Returns:
        [`Curve`]: of the same length; the first points average what there is.
    """
    window = max(curve.y.size // 10, 1) if window is None else window
    weights = np.ones_like(curve.y) if weights is None else weights
    sums, masses = (np.cumsum(np.append(0.0, terms)) for terms in (weights * curve.y, weights))
    ends = np.arange(1, curve.y.size + 1)
    starts = np.maximum(ends - window, 0)
    mass = masses[ends] - masses[starts]
    return Curve(curve.x, np.divide(sums[ends] - sums[starts], mass, out=curve.y.copy(), where=mass > 0))


def carried_forward(curve: Curve, x: Vector) -> Curve:
    """
    The curve at other positions, each with the last value known there.

    Args:
        curve ([`Curve`]):
            The curve.
        x (`np.ndarray`):
            Positions, shape `(m,)`; those before the first value are left out.

    Returns:
        [`Curve`]
    """
    position = np.searchsorted(curve.x, x, side="right") - 1
    known = position >= 0
    return Curve(x[known], curve.y[position[known]])


def band(curves: Sequence[Curve], num_points: int = 200) -> Band:
    """
    Several curves as one, over the stretch that all of them cover.

    Args:
        curves (`Sequence[Curve]`):
            At least one curve; empty ones are left out.
        num_points (`int`, *optional*, defaults to `200`):
            Positions at which curves with different positions are compared, by linear interpolation.

    Returns:
        [`Band`]: empty when no curve has a point.
    """
    curves = [curve for curve in curves if curve.x.size]
    if not curves:
        empty = np.empty(0)
        return Band(empty, empty, empty, empty)
    x = curves[0].x
    if not all(np.array_equal(curve.x, x) for curve in curves):
        low, high = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
        x = np.linspace(low, max(low, high), num_points)
    values = np.stack([np.interp(x, curve.x, curve.y) for curve in curves])  # (seeds, n)
    return Band(x, values.mean(axis=0), values.min(axis=0), values.max(axis=0))
