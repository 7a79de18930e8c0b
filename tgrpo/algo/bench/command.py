"""`tgrpo bench estimators`: a table and a picture of how well advantages are estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import tyro
from rich.console import Console

from tgrpo.algo.bench.chain import Chain
from tgrpo.algo.bench.estimators import Result, measure
from tgrpo.settings import Strict, validated

PUBLISHED = {
    "GRPO, whole rollouts": (0.273, 0.299),
    "TGRPO 0.3 / 0.7": (0.425, 0.341),
    "TGRPO 0.5 / 0.5": (0.520, 0.371),
    "GTPO, pooled return-to-go": (0.395, 0.349),
    "return-to-go, same step": (0.413, 0.320),
    "return-to-go, same stage": (0.505, 0.367),
    "branching, 4 at every step": (0.454, 0.369),
    "tree, 25 x 4": (0.296, 0.312),
}
"""Correlations with dense and with sparse rewards that an earlier study found on its own four-stage chain."""


class BenchCommand(Strict, frozen=True):
    """Compares estimators of advantages at equal seeds, on a chain whose advantages are known exactly."""

    bench: Annotated[Literal["estimators"], tyro.conf.Positional] = "estimators"
    """What to compare."""
    groups: Annotated[int, msgspec.Meta(ge=2)] = 300
    """Groups of each estimator."""
    size: Annotated[int, msgspec.Meta(ge=2)] = 8
    """Rollouts of a group."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Seed of everything that is drawn."""
    out: Path | None = None
    """Folder for `estimators.md` and `estimators.svg`; nothing is written if not given."""


def main(argv: list[str]) -> int:
    """Runs `tgrpo bench`."""
    command = validated(tyro.cli(BenchCommand, args=argv, prog="tgrpo bench"))
    dense, sparse = (
        measure(replace(Chain(), dense=kind), command.groups, command.size, command.seed) for kind in (True, False)
    )
    text = table(dense, sparse)
    Console(highlight=False, soft_wrap=True).print(text, markup=False)
    if command.out is not None:
        command.out.mkdir(parents=True, exist_ok=True)
        (command.out / "estimators.md").write_text(text + "\n", encoding="utf-8")
        (command.out / "estimators.svg").write_text(picture(dense, sparse), encoding="utf-8")
    return 0


def table(dense: Sequence[Result], sparse: Sequence[Result]) -> str:
    """Markdown table of both kinds of reward, with 95 % intervals."""
    lines = ["| estimator | dense reward | earlier | sparse reward | earlier | steps |", "|---|---|---|---|---|---|"]
    for one, other in zip(dense, sparse, strict=True):
        known = PUBLISHED[one.name]
        lines.append(
            f"| {one.name} | {_cell(one)} | {known[0]:.3f} | {_cell(other)} | {known[1]:.3f} | {one.steps:.0f} |"
        )
    return "\n".join(lines)


def picture(dense: Sequence[Result], sparse: Sequence[Result]) -> str:
    """The table as bars with their intervals, as SVG text."""
    left, scale, pitch = 240, 600, 44
    height = pitch * len(dense) + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="640" height="{height}" fill="white"/>',
    ]
    for tick in (0.0, 0.2, 0.4, 0.6):
        x = left + scale * tick
        parts.append(f'<line x1="{x}" x2="{x}" y1="6" y2="{height - 40}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{height - 26}" text-anchor="middle" fill="#555">{tick:.1f}</text>')
    for row, (one, other) in enumerate(zip(dense, sparse, strict=True)):
        y = 10 + pitch * row
        label = f"{escape(one.name)}, {one.steps:.0f} steps"
        parts.append(f'<text x="{left - 8}" y="{y + 20}" text-anchor="end" font-size="11">{label}</text>')
        for place, (result, colour) in enumerate(((one, "#3b6ea5"), (other, "#c8a24a"))):
            top = y + 2 + 15 * place
            x_low, x_high = left + scale * result.low, left + scale * result.high
            parts.append(
                f'<rect x="{left}" y="{top}" width="{max(0.0, scale * result.correlation):.1f}" height="13" '
                f'fill="{colour}"/><line x1="{x_low:.1f}" x2="{x_high:.1f}" y1="{top + 6.5}" y2="{top + 6.5}" '
                f'stroke="#222" stroke-width="1.5"/>'
            )
    legend = "correlation with the exact advantage; blue: dense reward, yellow: sparse reward; lines: 95 % intervals"
    parts.append(f'<text x="320" y="{height - 8}" text-anchor="middle" font-size="11">{legend}</text></svg>')
    return "\n".join(parts) + "\n"


def _cell(result: Result) -> str:
    return f"{result.correlation:.3f} ({result.low:.3f} to {result.high:.3f})"
