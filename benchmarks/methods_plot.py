"""The learning curves of :mod:`benchmarks.methods` as a picture: a panel a task, the mean of each method's seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

COLOURS = ("#3b6ea5", "#c8553d", "#4a8c4a", "#8a5fb0", "#c8a24a", "#3f9c9c", "#777777", "#b04a7a", "#222222", "#e09fc0")
WIDTH, HEIGHT, LEFT, TOP, PITCH = 250, 180, 44, 30, 300


class Run(Protocol):
    """What is drawn of a run."""

    @property
    def curve(self) -> Sequence[Sequence[int]]:
        """Environment steps, successes, and out of how many."""

    def at(self, steps: float) -> float:
        """Successes when so many environment steps were spent."""


def picture(tasks: Mapping[str, Mapping[str, Sequence[Run]]]) -> str:
    """An SVG with the success rates on held-out initial states over the environment steps of training.

    Thin dots are single seeds, lines their mean as far as all of them go.
    """
    names = list(dict.fromkeys(name for methods in tasks.values() for name in methods))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    columns = 2 * len(tasks)
    width, height = PITCH * len(tasks) + 10, TOP + HEIGHT + 44 + 16 * -(-len(names) // columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for place, (title, methods) in enumerate(tasks.items()):
        parts += [f'<g transform="translate({PITCH * place + LEFT} {TOP})">', *_panel(title, methods, colours), "</g>"]
    for place, (name, colour) in enumerate(colours.items()):
        x, y = LEFT + 150 * (place % columns), TOP + HEIGHT + 44 + 16 * (place // columns)
        parts.append(f'<rect x="{x}" y="{y - 8}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 19}" y="{y - 2}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(title: str, methods: Mapping[str, Sequence[Run]], colours: Mapping[str, str]) -> list[str]:
    last = max(point[0] for runs in methods.values() for run in runs for point in run.curve)
    scale = WIDTH / (np.ceil(last / 20_000) * 20_000)

    def y(share: float) -> float:
        return HEIGHT * (1.0 - share)

    parts = [f'<text x="0" y="-10" font-size="12" font-weight="bold">{title}</text>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<line x1="0" x2="{WIDTH}" y1="{y(share):.1f}" y2="{y(share):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="-6" y="{y(share) + 4:.1f}" text-anchor="end" fill="#555">{share:.0%}</text>')
    parts += [
        f'<text x="{steps * scale:.1f}" y="{HEIGHT + 15}" text-anchor="middle" fill="#555">{steps // 1000}k</text>'
        for steps in range(0, int(last) + 20_000, 20_000)
    ]
    for name, runs in methods.items():
        colour, n = colours[name], runs[0].curve[0][2]
        grid = np.linspace(0, min(run.curve[-1][0] for run in runs), 60)
        mean = np.mean([[run.at(steps) for steps in grid] for run in runs], axis=0) / n
        line = " ".join(f"{steps * scale:.1f},{y(share):.1f}" for steps, share in zip(grid, mean, strict=True))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{steps * scale:.1f}" cy="{y(successes / n):.1f}" r="1.8" fill="{colour}" opacity="0.45"/>'
            for steps, successes, _ in (point for run in runs for point in run.curve[1:])
        ]
    return parts
