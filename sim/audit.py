"""Rollouts to judge a stage file by: the expert's, random ones and a policy's; and their timeline as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from sim.expert.search import search
from sim.libero import LiberoEnv
from sim.rollout import Unit, play
from tgrpo.policies.base import Policy
from tgrpo.policies.simple import RandomPolicy, ReplayPolicy
from tgrpo.record.charts import Series, line_chart
from tgrpo.rewards import StageFile, StageMachine
from tgrpo.rewards.audit import Rollout
from tgrpo.types import Trajectory

CHUNK = 8
"""Actions between two decisions."""


def rollouts(
    env: LiberoEnv, stages: StageFile, states: Iterable[int], policy: Policy | None = None, max_steps: int | None = None
) -> list[Rollout]:
    """Plays expert, random and policy rollouts from each initial state, without pictures unless the policy wants them.

    Args:
        env: Environment of the stage file's task.
        stages: What is judged.
        states: Initial states.
        policy: Plays greedily; left out if not given.
        max_steps: Step limit of an episode; the suite's own if not given.
    """
    found = []
    for state in states:
        env.reset(state)
        *_, attempt = search(env)
        players: list[tuple[str, Policy, float]] = [
            ("expert", ReplayPolicy(attempt.executed), 0.0),
            ("random", RandomPolicy(), 1.0),
        ]
        if policy is not None:
            players.append(("policy", policy, 0.0))
        for kind, player, temperature in players:
            unit = Unit(
                suite=env.suite,
                task=env.task,
                init_states=(state,),
                seeds=(state,),
                temperature=temperature,
                execute=min(CHUNK, player.spec.chunk),
                max_steps=max_steps or env.max_steps,
                keep=False,
            )
            (trajectory,) = play(env, player, unit, stages=stages).trajectories
            found.append(Rollout(kind, start_score(env, stages, state), progress(trajectory), trajectory.success))
    return found


def start_score(env: LiberoEnv, stages: StageFile, state: int) -> float:
    """Score of an initial state, 0 to 1."""
    env.reset(state)
    machine, quantities = StageMachine(stages), env.quantities()
    machine.reset(quantities)
    return machine.step(quantities).progress


def progress(trajectory: Trajectory) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Score after each control step ``(T,)``."""
    return np.asarray(trajectory.terms["level"] + trajectory.terms["shaping"], np.float64)


def timeline(task: str, found: Sequence[Rollout]) -> str:
    """Progress over control steps as a page: blue the expert, the next colours random and policy."""
    kinds = ["expert", "random", "policy"]
    series = [
        Series(f"{rollout.kind}, {'success' if rollout.success else 'failure'}", range(len(rollout.progress) + 1),
               [rollout.start, *map(float, rollout.progress)], colour=kinds.index(rollout.kind))
        for rollout in found
    ]  # fmt: skip
    style = resources.files("tgrpo.record").joinpath("templates/report.css").read_text(encoding="utf-8")
    chart = line_chart(series, percent=True, label=f"progress of {task}", width=720, height=320)
    legend = " ".join(f'<span class="c{place}">{kind}</span>' for place, kind in enumerate(kinds))
    return (
        f'<!doctype html><meta charset="utf-8"><title>{task}</title><style>{style}</style>'
        f'<body><div class="card"><h3>{task}</h3><p class="note">progress over control steps: {legend}</p>{chart}</div>'
    )


def write_timeline(path: Path, task: str, found: Sequence[Rollout]) -> None:
    """Writes :func:`timeline` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(timeline(task, found), encoding="utf-8")


def poses(env: LiberoEnv, state: int) -> str:
    """Where things are at the start and where the hand is when the expert opens or closes it, as text [m].

    Args:
        env: Environment of the task.
        state: Initial state of the demonstration.
    """
    env.reset(state)
    lines = ["start:", *_positions(env)]
    *_, attempt = search(env)
    env.reset(state)
    before = -1.0
    for step, action in enumerate(attempt.executed):
        if np.sign(action[6]) != np.sign(before):
            lines += [f"step {step}, gripper {'closes' if action[6] > 0 else 'opens'}:", *_positions(env)]
        before = float(action[6])
        env.step(action)
    return "\n".join([*lines, f"end, task {'completed' if attempt.success else 'not completed'}:", *_positions(env)])


def _positions(env: LiberoEnv) -> list[str]:
    return [
        f"  {name} {' '.join(f'{number:.3f}' for number in value)}"
        for name, value in env.quantities().items()
        if name.endswith("/position")
    ]
