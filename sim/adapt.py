"""A short fine-tuning before each episode, forgotten after it: `tgrpo eval --adapt DEMOS`.

GC-TTT (:mod:`tgrpo.algo.adaptation`) between episodes: of the demonstrations of the task, those that begin like the
episode are relevant, and the quickest of those are imitated. The policy's folder stays as it is; each episode starts
from it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from sim.pool import Pool, Progress
from sim.rollout import Unit, UnitResult
from tgrpo.algo import adaptation
from tgrpo.apprentice import Apprentice, ImitationSettings
from tgrpo.errors import SettingsError
from tgrpo.policies.trainable import Trainable, load_trainable
from tgrpo.record import demo_file
from tgrpo.session.lessons import Lesson, demonstrated
from tgrpo.types import Observation

GAMMA = 0.99
"""Discount for each control step: of two successes the quicker one is worth more."""


@dataclass(frozen=True, eq=False)
class Example:
    """A successful demonstration."""

    lessons: list[Lesson]
    """Its decisions; the first shows its start."""
    value: float
    """Discounted success, seen from its start."""


def examples(patterns: Sequence[str], policy: Trainable) -> list[Example]:
    """Reads successful demonstrations.

    Args:
        patterns: Files, folders or patterns.
        policy: Of which they need the cameras.

    Raises:
        SettingsError: A pattern matches nothing, or actions have another length than the policy's.
        UnknownNameError: A demonstration lacks one of the policy's cameras.
    """
    found = []
    for demo in demo_file.successes(patterns, policy.spec.observation.cameras):
        value = adaptation.values(np.zeros((1, len(demo.actions))), np.ones(1), GAMMA)
        found.append(Example(demonstrated(demo, policy.spec), float(value[0])))
    return found


def chosen(start: Observation, known: Sequence[Example]) -> list[Lesson]:
    """What is imitated before an episode.

    The nearer half of the task's demonstrations is relevant, by how their first pictures differ from the episode's; of
    those the quickest fifth is taken, at least one.

    Args:
        start: What the policy sees first.
        known: Demonstrations, of any task.

    Raises:
        SettingsError: None of them is of the episode's task.
    """
    same = [example for example in known if example.lessons[0].observation.instruction == start.instruction]
    if not same:
        raise SettingsError(
            f"no demonstration of {start.instruction!r} to adapt to; make some with 'tgrpo demos' or leave out --adapt."
        )
    distances = np.array([difference(start, example.lessons[0].observation) for example in same])
    near = float(np.nextafter(np.median(distances), np.inf))
    places = adaptation.select(np.array([example.value for example in same]), distances, near)
    return [lesson for place in places for lesson in same[place].lessons]


def difference(first: Observation, second: Observation) -> float:
    """Root mean square difference of the pictures of all cameras, 0 to 1."""
    squares = [np.square((first.images[name] / 255.0) - (second.images[name] / 255.0)).mean() for name in first.images]
    return float(np.sqrt(np.mean(squares)))


def play(
    units: Sequence[Unit], folder: Path, patterns: Sequence[str], steps: int, pool: Pool, progress: Progress
) -> list[UnitResult]:
    """Plays episodes one after another, each by a policy that has been adapted to its start.

    Args:
        units: What to play.
        folder: The policy.
        patterns: Demonstration files, folders or patterns.
        steps: Optimiser steps before each episode.
        pool: Plays.
        progress: Called with each result.

    Raises:
        SettingsError: There is no demonstration of a task, or the policy is too large to be copied for each episode.
    """
    policy = load_trainable(folder)
    if not policy.merges:
        raise SettingsError(f"{folder} is too large to be adapted anew for each episode: leave out --adapt.")
    known, settings = examples(patterns, policy), ImitationSettings(steps=steps)
    episodes = [one for unit in units for one in _singles(unit)]
    looks = [msgspec.structs.replace(one, max_steps=1, keep=True, rewards=False, film=False) for one in episodes]
    seen = [result.trajectories for result in pool.play(looks, folder)]
    results = []
    with tempfile.TemporaryDirectory(prefix="tgrpo-adapt-") as scratch:
        for number, (episode, look) in enumerate(zip(episodes, seen, strict=True)):
            if not look:  # the simulator dies of this initial state: it has been left out
                continue
            apprentice = Apprentice(load_trainable(folder), settings)
            apprentice.learn(chosen(look[0].observations[0], known))
            adapted = Path(scratch) / f"{number:06d}"
            adapted.mkdir()
            apprentice.export(adapted)
            results += pool.play([episode], adapted, progress)
            shutil.rmtree(adapted)
    return results


def _singles(unit: Unit) -> list[Unit]:
    """Its episodes one by one; only the first may be filmed."""
    return [
        msgspec.structs.replace(
            unit,
            init_states=(unit.start(row),),
            seeds=(seed,),
            film=unit.film and row == 0,
            rewards=unit.rewards and row == 0,
        )
        for row, seed in enumerate(unit.seeds)
    ]
