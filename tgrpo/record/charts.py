"""Charts as SVG text: small pure functions, no script, colours from the page's style sheet.

All charts are drawn in a view box and scale with the page. The classes they use are defined in the report's template:
``c0`` to ``c5`` are the series colours, ``axis``, ``grid`` and ``tick`` the frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from tgrpo.record.stats import Interval

COLOURS = 6
"""Number of series colours; later series start again."""
_SMOOTH_FROM = 20  # points


@dataclass(frozen=True)
class Series:
    """One curve; points whose y is None are left out."""

    name: str
    """For the tooltip."""
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int = 0
    """Index of the colour, 0 to ``COLOURS - 1``."""
    intervals: Sequence[Interval] = field(default_factory=tuple)
    """Bounds of each y; given, the points are drawn with bars and not smoothed."""

    def points(self) -> list[tuple[float, float]]:
        """The finite points ``(x, y)``."""
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if y is not None and math.isfinite(y)]


@dataclass(frozen=True)
class _Frame:
    """Maps data to the picture."""

    x: Interval
    y: Interval
    width: float
    height: float
    left: float = 52
    right: float = 10
    top: float = 8
    bottom: float = 24
    log: bool = False
    """The y axis is logarithmic."""
    x_name: str = "iteration"

    def px(self, value: float) -> float:
        low, high = self.x
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        low, high = (math.log10(bound) for bound in self.y) if self.log else self.y
        value = math.log10(value) if self.log else value
        return self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that cover a range: multiples of 1, 2, 2.5 or 5 times a power of ten.

    Args:
        low: Smallest value.
        high: Largest value.
        count: About how many intervals.
    """
    if high <= low:
        low, high = (low - abs(low) / 2, low + abs(low) / 2) if low else (0.0, 1.0)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def powers_of_ten(low: float, high: float) -> list[float]:
    """Powers of ten that cover a range above 0, not more than seven."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    step = math.ceil((last - first) / 6)
    return [10.0**power for power in range(first, last + step, step)]


def smooth(values: Sequence[float]) -> list[float]:
    """Centred moving average, whose window shrinks towards the ends so that a straight line stays as it is.

    Args:
        values: ``(n,)`` numbers.
    """
    n = len(values)
    widest = max(2, n // 15)
    result = []
    for index in range(n):
        half = min(widest, index, n - 1 - index)
        window = values[index - half : index + half + 1]
        result.append(sum(window) / len(window))
    return result


def line_chart(
    series: Sequence[Series],
    *,
    percent: bool = False,
    log: bool = False,
    label: str = "",
    x_name: str = "iteration",
    smoothed: bool = True,
    width: float = 360,
    height: float = 190,
) -> str:
    """Curves over iterations or episodes.

    Args:
        series: The curves; long ones are drawn faintly, with their moving average on top.
        percent: The values are shares; the axis goes from 0 to 100 %.
        log: The y axis is logarithmic; all values are above 0.
        label: What the chart shows, for those who cannot see it.
        x_name: What is counted along the x axis.
        smoothed: Long curves get a moving average.
        width: Width of the view box.
        height: Height of the view box.
    """
    points = [point for item in series for point in item.points()]
    if not points:
        return ""
    bounds = [bound for item in series for interval in item.intervals for bound in interval]
    ys = [y for _, y in points] + bounds
    xs = [x for x, _ in points]
    y_ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if percent else nice_ticks(min(ys), max(ys))
    if log:
        y_ticks = powers_of_ten(min(ys), max(ys))
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1)
    frame = _Frame((x_low, x_high), (y_ticks[0], y_ticks[-1]), width, height, log=log, x_name=x_name)
    x_ticks = [tick for tick in nice_ticks(x_low, x_high, 5) if x_low <= tick <= x_high and tick == int(tick)]
    parts = [_axes(frame, x_ticks, y_ticks, percent)]
    parts += [
        _markers(item, frame, percent) if item.intervals else _curve(item, frame, percent, smoothed) for item in series
    ]
    return _svg("".join(parts), width, height, label)


def interval_chart(
    rows: Sequence[tuple[str, float, Interval]], label: str = "", *, left: float = 58, pitch: float = 46
) -> str:
    """Success rates with their intervals on one axis from 0 to 100 %.

    Args:
        rows: Name, rate and interval of each; the first is drawn in grey.
        label: What the chart shows, for those who cannot see it.
        left: Room for the names.
        pitch: Height of a row.
    """
    width, top = 362 + left, 4.0
    height = top + pitch * len(rows) + 22
    frame = _Frame((0, 1), (0, 1), width, height, left=left, right=14)
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = frame.px(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - 20:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height - 5:.1f}" text-anchor="middle">{100 * tick:.0f} %</text>'
        )
    for index, (name, rate, (low, high)) in enumerate(rows):
        y = top + pitch * index + pitch / 2
        colour = "muted" if index == 0 else "c0"
        left, right, middle = frame.px(low), frame.px(high), frame.px(rate)
        tip = f"{name}: {100 * rate:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"
        parts.append(
            f'<g class="{colour}"><title>{escape(tip)}</title>'
            f'<text class="name" x="{left - 8:g}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="fill soft" x="{left:.1f}" y="{y - 8:.1f}" width="{right - left:.1f}" height="16" rx="8"/>'
            f'<circle class="fill" cx="{middle:.1f}" cy="{y:.1f}" r="8"/></g>'
        )
    return _svg("".join(parts), width, height, label)


def timeline(stages: Sequence[int], names: Sequence[str], total: int | None = None) -> str:
    """Stages of one rollout as a coloured strip over its control steps.

    Args:
        stages: ``(T,)`` stages that were complete after each control step.
        names: Name of each stage; a step in stage ``k`` works on ``names[k]``, and after the last one it is done.
        total: Control steps that the full width stands for; the rollout's own by default.
    """
    if not stages:
        return ""
    width, height = 300.0, 14.0
    scale = width / max(total or 0, len(stages))
    parts = [f'<rect class="track" width="{width:.0f}" height="{height:.0f}" rx="3"/>']
    for stage, start, end in runs(stages):
        name = stage_name(stage, names)
        parts.append(
            f'<rect class="fill s{min(stage, COLOURS - 1)}" x="{start * scale:.2f}" '
            f'width="{(end - start) * scale:.2f}" height="{height:.0f}">'
            f"<title>{escape(name)}: steps {start} to {end - 1}</title></rect>"
        )
    return _svg("".join(parts), width, height, "stages: " + ", ".join(stage_name(s, names) for s, _, _ in runs(stages)))


def runs(values: Sequence[int]) -> list[tuple[int, int, int]]:
    """Stretches of equal values as ``(value, start, end)``, the end excluded."""
    found: list[tuple[int, int, int]] = []
    for index, value in enumerate(values):
        if found and found[-1][0] == value:
            found[-1] = (value, found[-1][1], index + 1)
        else:
            found.append((value, index, index + 1))
    return found


def stage_name(stage: int, names: Sequence[str]) -> str:
    """What a rollout is working on when ``stage`` stages are complete."""
    if stage < len(names):
        return names[stage]
    return "done" if names and stage == len(names) else f"stage {stage}"


def number(value: float, percent: bool = False) -> str:
    """A short number for an axis or tooltip."""
    if percent:
        return f"{100 * value:.3g} %"
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, exponent = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def _axes(frame: _Frame, x_ticks: Sequence[float], y_ticks: Sequence[float], percent: bool) -> str:
    parts = []
    right, bottom = frame.width - frame.right, frame.height - frame.bottom
    for tick in y_ticks:
        y = frame.py(tick)
        parts.append(f'<line class="grid" x1="{frame.left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = number(tick, percent)
        parts.append(f'<text class="tick" x="{frame.left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
    for tick in x_ticks:
        x = frame.px(tick)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{tick:g}</text>')
    name = escape(frame.x_name)
    parts.append(f'<text class="tick" x="{frame.left - 6}" y="{bottom + 16:.1f}" text-anchor="end">{name}</text>')
    parts.append(f'<line class="axis" x1="{frame.left}" x2="{right}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>')
    return "".join(parts)


def _curve(series: Series, frame: _Frame, percent: bool, smoothed: bool) -> str:
    points = series.points()
    if not points:
        return ""
    colour = f"c{series.colour % COLOURS}"
    long = smoothed and len(points) >= _SMOOTH_FROM
    bold = list(zip([x for x, _ in points], smooth([y for _, y in points]), strict=True)) if long else points
    parts = [f'<g class="{colour}">']
    if long:
        parts.append(f'<polyline class="raw" points="{_path(points, frame)}"/>')
    parts.append(f'<polyline class="curve" points="{_path(bold, frame)}"/>')
    for x, y in points:
        tip = f"{series.name}, {frame.x_name} {x:g}: {number(y, percent)}"
        radius = 6 if long else 2.5
        kind = "hover" if long else "fill"
        parts.append(
            f'<circle class="{kind}" cx="{frame.px(x):.1f}" cy="{frame.py(y):.1f}" r="{radius}">'
            f"<title>{escape(tip)}</title></circle>"
        )
    return "".join(parts) + "</g>"


def _markers(series: Series, frame: _Frame, percent: bool) -> str:
    parts = [f'<g class="c{series.colour % COLOURS}">']
    for (x, y), (low, high) in zip(series.points(), series.intervals, strict=True):
        tip = f"{series.name}, {frame.x_name} {x:g}: {number(y, percent)}"
        px, py, top, bottom = frame.px(x), frame.py(y), frame.py(high), frame.py(low)
        parts.append(
            f'<line class="bar" x1="{px:.1f}" x2="{px:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
            f'<circle class="fill dot" cx="{px:.1f}" cy="{py:.1f}" r="4.5"><title>{escape(tip)}</title></circle>'
        )
    return "".join(parts) + "</g>"


def _path(points: Sequence[tuple[float, float]], frame: _Frame) -> str:
    return " ".join(f"{frame.px(x):.1f},{frame.py(y):.1f}" for x, y in points)


def _svg(content: str, width: float, height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg">{content}</svg>'
    )
