"""Evaluation: greedy episodes from recorded initial states, and `tgrpo eval`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tyro
from rich.console import Console

from sim import adapt, film
from sim.console import Bar
from sim.libero import Mode, resolve_task, task_names
from sim.pool import Pool
from sim.rollout import Unit, UnitResult
from sim.settings import Index, check_states, state_range, step_limit, worker_count
from sim.vector import WorkerPool, WorkerSettings
from tgrpo.errors import SettingsError
from tgrpo.policies import mean_temperature_of, shipped
from tgrpo.policies.base import MeanTemperature
from tgrpo.record import eval_result, files
from tgrpo.record.eval_result import EpisodeResult
from tgrpo.record.provenance import collect as provenance
from tgrpo.settings import Strict, validated

SIDE_BY_SIDE = 8
"""Episodes of one unit; a worker without work takes half of what another one still plays."""


class EvalSettings(Strict, frozen=True):
    """One evaluation."""

    policy: Annotated[str, tyro.conf.Positional] = "tiny-libero"
    """Checkpoint: a folder, or the name of one that ships with the package."""
    suite: str = "libero_spatial"
    """LIBERO suite."""
    tasks: str = "all"
    """Indices or names separated by commas, a range such as `0-4`, or `all`."""
    states: Annotated[str, msgspec.Meta(pattern=r"^\d+-\d+$")] = "0-49"
    """Initial states of each task."""
    mode: Mode = "exact"
    """Simulator: `exact` equals stock LIBERO in pixels and states, `fast` simplifies pictures."""
    execute: Annotated[int, msgspec.Meta(ge=1)] = 8
    """Actions of each chunk that are executed before the policy is asked again."""
    temperature: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """0 does not sample; above, actions are sampled."""
    mean_temperature: MeanTemperature | None = None
    """What the policy does if it does not sample: the mean of its bins at this temperature, or, at 0, its most likely
    bins; as its checkpoint says if not given."""
    lookahead: Index = 0
    """Sampled chunks that are tried in the simulator before each decision, of which the best is executed; 0: none."""
    planner: bool = False
    """Whether a planner moves the hand where nothing is near, and the policy acts near things only."""
    adapt: tuple[str, ...] = ()
    """Demonstration files or folders; before each episode the policy imitates some that begin like it, for it alone."""
    adapt_steps: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Optimiser steps of that imitation."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Step limit of an episode; the suite's own if not given."""
    seed: Index = 0
    """Seed of fixture poses and of sampling."""
    workers: Index = 0
    """Processes; 0 takes one for each core."""
    videos: Path | None = None
    """Folder for one video of each task's first episode."""
    json: Path | None = None
    """File for the result."""


def select_tasks(suite: str, text: str) -> list[int]:
    """Task indices that a text names: `all`, `0-4`, `3,7` or names.

    Raises:
        UnknownNameError: The suite has no such task.
    """
    if text == "all":
        return list(range(len(task_names(suite))))
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if dash and first.isdecimal() and last.isdecimal():
            chosen += range(resolve_task(suite, first), resolve_task(suite, last) + 1)
        else:
            chosen.append(resolve_task(suite, part.strip()))
    return list(dict.fromkeys(chosen))


def outcomes(results: Sequence[UnitResult]) -> list[EpisodeResult]:
    """What an evaluation file keeps of each episode."""
    return [
        EpisodeResult(
            task=result.unit.task,
            init_state=result.unit.start(row),
            success=trajectory.success,
            steps=trajectory.steps,
            seconds=round(result.seconds / len(result.rows), 3),
            planned=result.planned[place] if result.planned else 0,
        )
        for result in results
        for place, (row, trajectory) in enumerate(zip(result.rows, result.trajectories, strict=True))
    ]


def side_by_side(states: Sequence[int], seeds: Sequence[int], filmed: int, episode: Unit) -> list[Unit]:
    """Episodes in units of a few that are decided in one batch; filmed ones are on their own.

    Args:
        states: Initial state of each episode.
        seeds: Seed of each episode.
        filmed: How many of them, from the first, are filmed.
        episode: All else that holds for them; its rewards are for films only.
    """
    filmed = min(filmed, len(states))
    firsts = [*range(filmed), *range(filmed, len(states), SIDE_BY_SIDE)]
    pieces = zip(firsts, [*firsts[1:], len(states)], strict=True)
    return [
        msgspec.structs.replace(
            episode,
            init_states=tuple(states[first:last]),
            seeds=tuple(seeds[first:last]),
            film=first < filmed,
            rewards=episode.rewards and first < filmed,
        )
        for first, last in pieces
    ]


def main(argv: list[str]) -> int:
    """``tgrpo eval``: success rates with intervals, per task and in total."""
    settings = validated(tyro.cli(EvalSettings, prog="tgrpo eval", args=argv))
    console = Console()
    result = evaluate(settings, console)
    eval_result.print_table(result, console)
    if settings.planner:
        planned, steps = (sum(episode[name] for episode in result["episodes"]) for name in ("planned", "steps"))
        console.print(f"The planner decided {planned / max(steps, 1):.0%} of {steps} control steps.", highlight=False)
    if settings.json is not None:
        files.write_json(settings.json, result)
    return 0


def evaluate(settings: EvalSettings, console: Console, pool: Pool | None = None) -> dict[str, Any]:
    """Plays all episodes, films the first of each task if asked to, and returns the evaluation JSON.

    Args:
        settings: What to evaluate.
        console: Where a person watches.
        pool: Workers to use; its own by default.
    """
    units, policy = plan(settings), shipped(settings.policy)
    with contextlib.ExitStack() as stack:
        if pool is None:
            workers = min(worker_count(settings), sum(len(unit.seeds) for unit in units))
            worker_settings = WorkerSettings(mode=settings.mode, scene=(units[0].suite, units[0].task))
            pool = stack.enter_context(WorkerPool(workers, worker_settings))
        bar = stack.enter_context(Bar(console, "evaluating", sum(len(unit.seeds) for unit in units)))
        known = len(pool.quarantined)
        results = (
            adapt.play(units, policy, settings.adapt, settings.adapt_steps, pool, bar.episode)
            if settings.adapt
            else pool.play(units, policy, bar.episode)
        )
        left_out = [str(rollout) for rollout in pool.quarantined[known:]]
    for result in results:
        if settings.videos is not None and result.frames:
            outcome = "success" if result.trajectories[0].success else "failure"
            name = f"task{result.unit.task}_init{result.unit.start(0):02d}_{outcome}.mp4"
            film.write(settings.videos / name, result)
    if left_out:
        console.print(f"Left out: {'; '.join(left_out)}", highlight=False, soft_wrap=True)
    mean = mean_temperature_of(policy) if settings.mean_temperature is None else settings.mean_temperature
    return {"left_out": left_out, "mean_temperature": mean} | eval_result.summarise(
        outcomes(results),
        policy=str(settings.policy),
        suite=settings.suite,
        mode=settings.mode,
        seed=settings.seed,
        temperature=settings.temperature,
        names=dict(enumerate(task_names(settings.suite))),
        provenance=provenance(seeds={"seed": settings.seed}),
    )


def plan(settings: EvalSettings) -> list[Unit]:
    """The episodes of an evaluation, some of a task side by side.

    Raises:
        SettingsError: A task or an initial state does not exist, or there is nothing to look ahead with.
    """
    if settings.lookahead and (settings.temperature == 0.0 or settings.lookahead == 1):
        raise SettingsError(
            f"--lookahead {settings.lookahead} at --temperature {settings.temperature:g} has one chunk to choose from; "
            "try several at a temperature above 0, as in --lookahead 4 --temperature 0.5."
        )
    if settings.lookahead and settings.planner:
        raise SettingsError("--lookahead and --planner both say what comes next; choose one of them.")
    tasks = select_tasks(settings.suite, settings.tasks)
    for task in tasks:
        check_states(settings.suite, task, settings.states)
    states = state_range(settings.states)
    units: list[Unit] = []
    for task in tasks:
        filmed = int(settings.videos is not None)
        episode = Unit(
            suite=settings.suite,
            task=task,
            init_states=(0,),
            env_seed=settings.seed,
            temperature=settings.temperature,
            mean_temperature=settings.mean_temperature,
            execute=settings.execute,
            max_steps=step_limit(settings),
            keep=False,
            lookahead=settings.lookahead,
            planner=settings.planner,
            rewards=bool(filmed) and film.has_stages(settings.suite, task),
        )
        units += side_by_side(states, [settings.seed * 100_003 + state for state in states], filmed, episode)
    return units
