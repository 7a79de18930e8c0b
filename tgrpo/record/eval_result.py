"""The result of an evaluation: one JSON format for every policy, suite and robot, and its table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from tgrpo.errors import SettingsError
from tgrpo.record.stats import Interval, Outcomes, macro, wilson

SCHEMA = "tgrpo/eval/1"


class EpisodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation episode."""

    task: int
    """Index of the task in its suite."""
    init_state: int
    """Index of LIBERO's initial state."""
    success: bool
    """Whether the task was completed within the step limit."""
    steps: int = 0
    """Control steps that were executed."""
    planned: int = 0
    """Those of them that a planner decided, see `tgrpo eval --planner`."""
    seconds: float = 0.0
    """Wall time [s]."""


def summarise(
    episodes: Sequence[EpisodeResult],
    *,
    policy: str,
    suite: str,
    names: Mapping[int, str],
    mode: str = "exact",
    seed: int = 0,
    temperature: float = 0.0,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Builds the evaluation JSON.

    Args:
        episodes: All episodes, in any order.
        policy: Name or folder of the policy.
        suite: Name of the suite.
        names: Task index to task name.
        mode: How the simulator rendered, ``exact`` or ``fast``.
        seed: Seed of the environments and the policy.
        temperature: Sampling temperature; 0 is greedy.
        provenance: See :func:`tgrpo.record.provenance.collect`.

    Returns:
        A JSON-ready dict with the episodes sorted by task and initial state.

    Raises:
        SettingsError: There is no episode, or one (task, init_state) appears twice.
    """
    if not episodes:
        raise SettingsError("an evaluation needs at least one episode. Check the tasks and initial states asked for.")
    ordered = sorted(episodes, key=lambda episode: (episode.task, episode.init_state))
    _outcomes(ordered, "evaluation")
    tasks = [_task(task, names.get(task, f"task {task}"), ordered) for task in sorted({e.task for e in ordered})]
    mean, interval = macro([(task["successes"], task["n"]) for task in tasks])
    return {
        "schema": SCHEMA,
        "policy": policy,
        "suite": suite,
        "mode": mode,
        "seed": seed,
        "temperature": temperature,
        **rate(sum(episode.success for episode in ordered), len(ordered)),
        "macro": mean,
        "macro_interval": list(interval),
        "tasks": tasks,
        "episodes": [msgspec.to_builtins(episode) for episode in ordered],
        "provenance": dict(provenance or {}),
    }


def rate(successes: int, n: int) -> dict[str, Any]:
    """Counts with their success rate and Wilson interval, as every JSON of ours has them."""
    return {
        "successes": successes,
        "n": n,
        "rate": successes / n if n else None,
        "wilson": list(wilson(successes, n)),
    }


def read(path: Path) -> dict[str, Any]:
    """Reads an evaluation JSON.

    Raises:
        SettingsError: The file is missing or is not an evaluation.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file. Write one with 'tgrpo eval --json {path.name}'.") from error
    except (ValueError, IsADirectoryError) as error:
        raise SettingsError(f"{path}: not a JSON file.") from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise SettingsError(f"{path}: schema {schema!r} is not an evaluation; expected {SCHEMA!r}.")
    outcomes(data, source=str(path))
    return dict(data)


def outcomes(result: Mapping[str, Any], *, source: str = "evaluation") -> Outcomes:
    """Success of each (task, initial state) of an evaluation JSON.

    Args:
        result: The JSON as a dict.
        source: Where it came from; it leads the error message.

    Raises:
        SettingsError: An episode is malformed, or one (task, init_state) appears twice.
    """
    try:
        episodes = msgspec.convert(result.get("episodes", []), list[EpisodeResult])
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: {error}.") from error
    return _outcomes(episodes, source)


def print_table(result: Mapping[str, Any], console: Console) -> None:
    """Prints one row for each task, and the pooled and mean rates below."""
    table = Table(title=f"{result['policy']} on {result['suite']}", title_justify="left")
    table.add_column("task")
    table.add_column("successes", justify="right")
    table.add_column("rate", justify="right")
    table.add_column("95 % interval", justify="right")
    for task in result["tasks"]:
        table.add_row(
            task_text(task), f"{task['successes']}/{task['n']}", percent(task["rate"]), interval_text(task["wilson"])
        )
    table.add_section()
    counts = f"{result['successes']}/{result['n']}"
    table.add_row("all episodes", counts, percent(result["rate"]), interval_text(result["wilson"]), style="bold")
    if len(result["tasks"]) > 1:
        table.add_row("mean of the tasks", "", percent(result["macro"]), interval_text(result["macro_interval"]))
    console.print(table)


def task_text(task: Mapping[str, Any]) -> str:
    """Index and name of a task for a table; spaces let a long name wrap."""
    return f"{task['task']} {task['name'].replace('_', ' ')}"


def percent(value: float) -> str:
    """A rate for people, ``0.865 -> '86.5 %'``."""
    return f"{100 * value:.1f} %"


def interval_text(interval: Interval | Sequence[float]) -> str:
    """An interval for people, ``(0.786, 0.957) -> '78.6 to 95.7 %'``."""
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def _task(task: int, name: str, episodes: Sequence[EpisodeResult]) -> dict[str, Any]:
    mine = [episode for episode in episodes if episode.task == task]
    return {"task": task, "name": name, **rate(sum(episode.success for episode in mine), len(mine))}


def _outcomes(episodes: Sequence[EpisodeResult], source: str) -> dict[tuple[int, int], bool]:
    found: dict[tuple[int, int], bool] = {}
    for episode in episodes:
        key = episode.task, episode.init_state
        if key in found:
            raise SettingsError(f"{source}: task {key[0]} has initial state {key[1]} twice, so it cannot be paired.")
        found[key] = episode.success
    return found
