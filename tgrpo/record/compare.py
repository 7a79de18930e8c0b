"""``tgrpo compare``: two evaluations, paired on the same initial states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from tgrpo.errors import SettingsError
from tgrpo.record import eval_result, files
from tgrpo.record.stats import Outcomes, Paired, episodes_to_decide, paired

SCHEMA = "tgrpo/compare/1"
SIGNIFICANT = 0.05
"""A difference is claimed for a p below this."""
_MUST_AGREE = {"suite": None, "mode": None, "seed": None, "temperature": None, "mean_temperature": 0.0}
"""Conditions, with what holds where an older file does not say."""


@dataclass(frozen=True)
class Arguments:
    """Compares two evaluations on the initial states that both have."""

    a: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="A")]
    """Evaluation JSON or run folder. A run folder alone compares its evaluation before with the one after."""
    b: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[B]")] = None
    """Evaluation JSON or run folder; of run folders the evaluation after the training is taken."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write the comparison to this file."""


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Compares two evaluations.

    Args:
        a: Evaluation JSON of the first policy.
        b: Evaluation JSON of the second policy.

    Returns:
        The comparison JSON; its rates count only the initial states that both evaluations have.

    Raises:
        SettingsError: The two have no initial state in common, or are of different suites.
    """
    first, second = eval_result.outcomes(a, source="A"), eval_result.outcomes(b, source="B")
    if a.get("suite") != b.get("suite"):
        raise SettingsError(f"A is of suite {a.get('suite')!r} and B of {b.get('suite')!r}: nothing can be paired.")
    common = first.keys() & second.keys()
    result = paired(first, second)
    names = {task["task"]: task["name"] for task in [*a.get("tasks", []), *b.get("tasks", [])]}
    tasks = [
        {"task": task, "name": names.get(task, f"task {task}"), **_figures(paired(_only(first, task), second))}
        for task in sorted({task for task, _ in common})
    ]
    return {
        "schema": SCHEMA,
        "policies": [a.get("policy"), b.get("policy")],
        "suite": a.get("suite"),
        **_figures(result),
        "episodes_to_decide": episodes_to_decide(result),
        "verdict": verdict(result),
        "warnings": _warnings(a, b, len(first) - len(common), len(second) - len(common)),
        "tasks": tasks,
    }


def verdict(result: Paired) -> str:
    """What a comparison of A and B says, in plain words."""
    states = f"of {result.pairs} initial states, {result.gained} are solved only by B and {result.lost} only by A"
    if result.p >= SIGNIFICANT:
        return f"No difference between A and B can be claimed: {states} ({figures_text(result)}).{_hint(result)}"
    better, worse = ("B", "A") if result.difference > 0 else ("A", "B")
    points = f"{100 * abs(result.difference):.1f} points"
    return f"{better} is better than {worse} by {points}: {states} ({figures_text(result)})."


def training_verdict(result: Paired) -> str:
    """What a comparison of one policy before and after its training says, in plain words."""
    states = (
        f"of {result.pairs} initial states, {result.gained} are solved only after the training "
        f"and {result.lost} only before it"
    )
    if result.p >= SIGNIFICANT:
        return f"No change can be claimed: {states} ({figures_text(result)}).{_hint(result)}"
    change = "improved" if result.difference > 0 else "got worse"
    return f"The policy {change} by {100 * abs(result.difference):.1f} points: {states} ({figures_text(result)})."


def figures_text(result: Paired) -> str:
    """The test and the interval behind a verdict."""
    low, high = (100 * bound for bound in result.interval())
    p = "< 0.001" if result.p < 0.001 else f"= {result.p:.3f}"
    return f"exact McNemar p {p}, 95 % interval {low:+.1f} to {high:+.1f} points"


def load(path: Path, *, when: str = "after") -> dict[str, Any]:
    """Reads an evaluation from a JSON file or a run folder.

    Args:
        path: The file or folder.
        when: Which evaluation of a run folder, ``before`` or ``after``.

    Raises:
        SettingsError: There is none.
    """
    file = path / f"eval_{when}.json" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise SettingsError(f"{path}: no {file.name} in this folder; it is written when a run has evaluated itself.")
    return eval_result.read(file)


def print_comparison(result: Mapping[str, Any], console: Console) -> None:
    """Prints the table, the verdict and the warnings."""
    table = Table(
        title=f"A {result['policies'][0]}\nB {result['policies'][1]}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("task", ratio=1)
    for name in ("A", "B", "gained", "lost", "points (95 %)", "p"):
        table.add_column(f"  {name}", justify="right", no_wrap=True)
    for task in result["tasks"]:
        table.add_row(eval_result.task_text(task), *_cells(task))
    table.add_section()
    table.add_row("all pairs", *_cells(result), style="bold")
    console.print(table)
    console.print(result["verdict"])
    for warning in result["warnings"]:
        console.print(f"warning: {warning}", style="yellow")


def main(argv: list[str]) -> int:
    """Runs ``tgrpo compare``.

    Args:
        argv: Arguments after ``compare``.

    Returns:
        0; the verdict is in the output, not in the exit code.

    Raises:
        SettingsError: An evaluation is missing or nothing can be paired.
        CheckpointError: The JSON file cannot be written because the disk is full.
    """
    arguments = tyro.cli(Arguments, args=argv, prog="tgrpo compare")
    if arguments.b is None:
        result = compare(load(arguments.a, when="before"), load(arguments.a, when="after"))
    else:
        result = compare(load(arguments.a), load(arguments.b))
    print_comparison(result, Console(highlight=False, soft_wrap=True))
    if arguments.json is not None:
        files.write_json(arguments.json, result)
    return 0


def _figures(result: Paired) -> dict[str, Any]:
    return {
        "a": eval_result.rate(result.both + result.lost, result.pairs),
        "b": eval_result.rate(result.both + result.gained, result.pairs),
        "pairs": result.pairs,
        "gained": result.gained,
        "lost": result.lost,
        "mcnemar_p": result.p,
        "difference": result.difference,
        "difference_interval": list(result.interval()),
    }


def _only(found: Outcomes, task: int) -> Outcomes:
    return {key: success for key, success in found.items() if key[0] == task}


def _warnings(a: Mapping[str, Any], b: Mapping[str, Any], only_a: int, only_b: int) -> list[str]:
    warnings = [
        f"{name} differs: {in_a!r} in A, {in_b!r} in B, so the pairs are not under the same conditions."
        for name, usual in _MUST_AGREE.items()
        if (in_a := a.get(name, usual)) != (in_b := b.get(name, usual))
    ]
    if only_a or only_b:
        warnings.append(f"{only_a} episodes of A and {only_b} of B have no partner and are left out.")
    return warnings


def _cells(row: Mapping[str, Any]) -> list[str]:
    low, high = (100 * bound for bound in row["difference_interval"])
    return [
        f"{row['a']['successes']}/{row['pairs']}",
        f"{row['b']['successes']}/{row['pairs']}",
        str(row["gained"]),
        str(row["lost"]),
        f"  {100 * row['difference']:+.1f} ({low:+.0f} to {high:+.0f})",
        f"  {row['mcnemar_p']:.2g}",
    ]


def _hint(result: Paired) -> str:
    more = episodes_to_decide(result)
    return f" About {more} more paired episodes would decide, should the rates stay as they are." if more else ""
