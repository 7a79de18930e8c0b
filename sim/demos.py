"""``tgrpo demos``: demonstrations of LIBERO tasks by the scripted expert."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sim.evaluate import select_tasks
from sim.expert.batch import Recipe, Unit, make_all
from sim.expert.noise import NoiseSettings
from sim.libero import Mode, task_names
from sim.settings import Index, state_range, worker_count
from tgrpo.errors import SettingsError
from tgrpo.record import files
from tgrpo.record.demo_file import DemoWriter, key
from tgrpo.record.provenance import collect as provenance
from tgrpo.record.streams import Encoding
from tgrpo.settings import Strict, validated

INDEX_SCHEMA = "tgrpo/demo-index/1"
Count = Annotated[int, msgspec.Meta(ge=1)]


class DemoSettings(Strict, frozen=True):
    """Demonstrations by the scripted expert, for `tgrpo sft`.

    A command that was interrupted continues when it is run again.
    """

    suite: str = "libero_spatial"
    """LIBERO suite."""
    tasks: str = "all"
    """Indices or names separated by commas, a range such as `0-4`, or `all`."""
    init_states: Annotated[str, msgspec.Meta(pattern=r"^\d+-\d+$")] = "0-24"
    """Initial states of each task; leave those that you evaluate on out."""
    repeats: Count = 1
    """Demonstrations of each initial state, with different noise."""
    noise: NoiseSettings = NoiseSettings()
    """Perturbation of what is executed; the labels stay clean. A sigma of 0.1 to 0.3 teaches corrections."""
    seed: Index = 0
    """First seed of the noise; repeats count up from it."""
    fixtures: Index = 0
    """Seed of the poses of fixtures; 0 is the standard protocol."""
    cameras: tuple[str, ...] = ("agentview",)
    """Views to draw; `wrist` is the camera on the hand."""
    size: Count = 224
    """Height and width of the pictures [px]."""
    every: Index = 1
    """Control steps between pictures; 0 draws none."""
    mode: Mode = "fast"
    """Simulator: `exact` equals stock LIBERO in pixels and states, `fast` simplifies pictures."""
    encoding: Encoding = "png"
    """Compression of the pictures: `png` loses nothing, `jpeg` takes about a third of the space."""
    workers: Index = 0
    """Processes; 0 takes one for each core."""
    out: str = "demos"
    """Folder of the files, one for each task."""


def recipe_of(settings: DemoSettings) -> Recipe:
    """What all demonstrations of one command share."""
    return Recipe(
        suite=settings.suite,
        mode=settings.mode,
        cameras=settings.cameras,
        size=settings.size,
        every=settings.every,
        noise=settings.noise,
        fixtures=settings.fixtures,
    )


def make_demos(settings: DemoSettings, console: Console) -> dict[str, Any]:
    """Makes all missing demonstrations and writes the index.

    Args:
        settings: What to make and where.
        console: Shows the progress.

    Returns:
        The index, as written to ``index.json``.

    Raises:
        SettingsError: A setting is wrong, or the folder holds demonstrations made with other ones.
        WorkerError: A worker process died.
    """
    out, recipe = Path(settings.out), recipe_of(settings)
    origin = provenance(seeds={"seed": settings.seed, "fixtures": settings.fixtures})
    tasks = select_tasks(settings.suite, settings.tasks)
    seeds = range(settings.seed, settings.seed + settings.repeats)
    wanted = [(state, seed) for state in state_range(settings.init_states) for seed in seeds]
    with ExitStack() as stack:
        writers = {
            task: stack.enter_context(DemoWriter(out / file_name(settings.suite, task), origin, settings.encoding))
            for task in tasks
        }
        for writer in writers.values():
            writer.require_recipe(msgspec.to_builtins(recipe._asdict() | {"encoding": settings.encoding}))
        done = {task: writer.done() for task, writer in writers.items()}
        units = [Unit(task, *which) for task in tasks for which in wanted if key(*which) not in done[task]]
        _fill(writers, units, recipe, min(worker_count(settings), max(len(units), 1)), console)
        index = {
            "schema": INDEX_SCHEMA,
            "suite": settings.suite,
            "settings": msgspec.to_builtins(settings),
            "tasks": [_entry(settings.suite, task, writer) for task, writer in writers.items()],
            "provenance": origin,
        }
    files.write_json(out / f"{settings.suite}.json", index)
    return index


def file_name(suite: str, task: int) -> str:
    """Name of the file that holds one task's demonstrations."""
    return f"{suite}_{task}.hdf5"


def _entry(suite: str, task: int, writer: DemoWriter) -> dict[str, Any]:
    return {
        "task": task,
        "name": task_names(suite)[task],
        "file": file_name(suite, task),
        "successes": writer.successes(),
        "n": len(writer.done()),
        "failures": writer.failures(),
        "steps": writer.steps(),
    }


def _fill(writers: dict[int, DemoWriter], units: list[Unit], recipe: Recipe, workers: int, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tallies: defaultdict[bool, int] = defaultdict(int)
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("demonstrations", total=len(units))
        for unit, demo in make_all(recipe, units, workers):
            if demo is None:
                writers[unit.task].fail(key(unit.init_state, unit.seed))
            else:
                writers[unit.task].add(demo)
            tallies[demo is not None] += 1
            progress.update(
                bar, advance=1, description=f"demonstrations: {tallies[True]} made, {tallies[False]} failed"
            )


def print_table(index: dict[str, Any], console: Console) -> None:
    """Prints how many demonstrations of each task there are."""
    table = Table(title=f"{index['suite']}: demonstrations")
    for heading in ("task", "name", "made", "mean steps", "file"):
        table.add_column(heading, justify="left" if heading in ("name", "file") else "right")
    for task in index["tasks"]:
        mean = f"{task['steps'] / task['successes']:.0f}" if task["successes"] else "-"
        table.add_row(str(task["task"]), task["name"], f"{task['successes']}/{task['n']}", mean, task["file"])
    total = sum(task["successes"] for task in index["tasks"])
    table.add_section()
    table.add_row("", "all", f"{total}/{sum(task['n'] for task in index['tasks'])}", "", "")
    console.print(table)


def main(argv: list[str]) -> int:
    """``tgrpo demos``: makes demonstrations and prints a table; exit code 1 where there are none."""
    settings = validated(tyro.cli(DemoSettings, prog="tgrpo demos", args=argv))
    if not settings.cameras and settings.every:
        raise SettingsError("no cameras: name one with --cameras, or draw nothing with --every 0.")
    console = Console()
    index = make_demos(settings, console)
    print_table(index, console)
    return 0 if any(task["successes"] for task in index["tasks"]) else 1
