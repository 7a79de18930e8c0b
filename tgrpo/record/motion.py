"""How an arm moved: how late it follows its reference, and how smoothly."""

from __future__ import annotations

import numpy as np

from tgrpo.types import FloatArray

_LONGEST_LAG = 1.0  # [s]
_SHORTEST = 0.5  # [s] of motion below which nothing is claimed
_STILL = 1e-3  # [m] of way below which the arm has not moved
_ALIKE = 0.7  # correlation below which the motion does not follow the command
_WINDOW = 0.25  # [s] of the fits that jerk is computed from; shorter ones measure the sensor's noise


def uniform(times: FloatArray, positions: FloatArray) -> tuple[float, FloatArray]:
    """Positions at equal intervals.

    Args:
        times: ``(n,)`` ascending [s].
        positions: ``(n, 3)`` [m].

    Returns:
        The interval [s], the median of the given ones, and positions ``(m, 3)``; none if there are fewer than 2.
    """
    known = np.isfinite(positions).all(axis=1)
    times, positions = times[known], positions[known]
    steps = np.diff(times)
    if not (steps > 0).any():
        return 0.0, np.zeros((0, 3))
    interval = float(np.median(steps[steps > 0]))
    grid = np.arange(times[0], times[-1] + interval / 2, interval)
    return interval, np.column_stack([np.interp(grid, times, positions[:, axis]) for axis in range(3)])


def lag(times: FloatArray, commanded: FloatArray, measured: FloatArray) -> float | None:
    """Time by which the measured motion follows the commanded one, from where their velocities are most alike.

    Args:
        times: ``(n,)`` ascending [s].
        commanded: Reference positions ``(n, 3)`` [m].
        measured: ``(n, 3)`` [m].

    Returns:
        Seconds, to a fraction of the interval; None if the arm hardly moved or did not follow.
    """
    both = np.isfinite(commanded).all(axis=1) & np.isfinite(measured).all(axis=1)
    interval, reference = uniform(times[both], commanded[both])
    _, actual = uniform(times[both], measured[both])
    if len(reference) * interval < _SHORTEST or min(_way(reference), _way(actual)) < _STILL:
        return None
    a, b = np.diff(reference, axis=0), np.diff(actual, axis=0)
    longest = min(round(_LONGEST_LAG / interval), len(a) // 2)
    alike = np.array([_correlation(a[: len(a) - shift], b[shift:]) for shift in range(longest + 1)])
    best = int(alike.argmax())
    if alike[best] < _ALIKE:
        return None
    return (best + _vertex(alike, best)) * interval


def jerk(times: FloatArray, positions: FloatArray) -> float | None:
    """Root mean square of the jerk, from cubic fits over a quarter of a second.

    Args:
        times: ``(n,)`` ascending [s].
        positions: ``(n, 3)`` [m].

    Returns:
        [m/s^3]; None for a recording that is too short.
    """
    interval, path = uniform(times, positions)
    if interval == 0:
        return None
    half = max(2, round(_WINDOW / interval / 2))
    if len(path) < 2 * half + 1:
        return None
    offsets = np.arange(-half, half + 1) * interval
    stencil = 6 * np.linalg.pinv(np.vander(offsets, 4))[0]
    values = np.column_stack([np.correlate(path[:, axis], stencil, mode="valid") for axis in range(3)])
    return float(np.sqrt((values**2).sum(axis=1).mean()))


def _way(path: FloatArray) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _correlation(a: FloatArray, b: FloatArray) -> float:
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def _vertex(values: FloatArray, best: int) -> float:
    """Offset of the top of the parabola through the highest value and its neighbours, -0.5 to 0.5."""
    if not 0 < best < len(values) - 1:
        return 0.0
    before, top, after = values[best - 1 : best + 2]
    bend = before - 2 * top + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0
