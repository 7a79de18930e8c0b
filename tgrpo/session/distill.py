"""`tgrpo distill`: what several specialists have shown in their sessions, imitated by one policy.

Source: RLDG (arXiv 2412.09858): a generalist imitates the successes of policies that were each trained for one task.
Which successes, and how many of each task, says :mod:`tgrpo.algo.distillation`. A specialist's session is one that it
was evaluated in, at an arm or in simulation.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import tyro
from rich.console import Console

from tgrpo.algo import curation, distillation
from tgrpo.apprentice import Apprentice, ImitationSettings
from tgrpo.errors import RecordingError, SettingsError
from tgrpo.policies import shipped
from tgrpo.policies.trainable import load_trainable
from tgrpo.record import files
from tgrpo.record.episode import load
from tgrpo.record.session import closed_episodes, require_session
from tgrpo.record.steps import stage_labels, steps
from tgrpo.session.lessons import STRIDE, Lesson, lessons
from tgrpo.settings import Strict, validated
from tgrpo.spec import PolicySpec

HELD_OUT = 5
"""Every so many episodes of a task, one is held out to judge the new policy by."""
RECORD = "distillation.json"
_log = logging.getLogger(__name__)


class DistillSettings(Strict, frozen=True):
    """Teaches one policy what the policies of several sessions can do."""

    sessions: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Session folders, one or more of each specialist."""
    out: Path
    """Checkpoint folder to write; it must not exist."""
    policy: str = "tiny-libero"
    """The policy that learns: a checkpoint folder, or the name of one that ships with the package."""
    too_long: Annotated[float, msgspec.Meta(ge=1.0)] = distillation.TOO_LONG
    """Successes longer than this multiple of their task's median are left out: they wandered."""
    curate: bool = False
    """Of a task with more successes than others, takes those that recover, are short and differ, instead of any."""
    tolerance: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    """How much the loss on the held-out decisions may grow [nat]."""
    imitation: ImitationSettings = ImitationSettings(steps=600)


@dataclass(frozen=True)
class Shown:
    """An episode that a specialist has played by itself."""

    folder: Path
    task: str
    success: bool
    length: int
    """Control steps."""
    stages: tuple[str, ...] = ()
    """The stages that it went through, as they were labelled."""


def shown(sessions: Sequence[Path]) -> Iterator[Shown]:
    """Counted episodes in which nobody took over; damaged ones are named and left out.

    Raises:
        SettingsError: A folder is no session.
    """
    for session in sessions:
        require_session(session)
        for folder in closed_episodes(session):
            try:
                episode = load(folder, cameras=())
            except RecordingError as error:
                _log.warning("nothing is learned from it: %s", error)
                continue
            table = steps(episode)
            if episode.result.counted and not table.intervention.any():
                name = f"{episode.info.suite} {episode.info.task}: {episode.info.instruction}"
                labels = stage_labels(episode)
                stages = tuple(f"stage {label.stage}" for label in labels)
                yield Shown(folder, name, episode.result.outcome == "success", len(table), stages)


def chosen(
    found: Sequence[Shown], too_long: float, rng: np.random.Generator, *, curate: bool = False
) -> dict[str, list[Path]]:
    """Episodes to learn from by task: successes that did not wander, as many of each task.

    Args:
        found: All episodes.
        too_long: Longest success to keep, as a multiple of its task's median.
        rng: Draws those that are kept.
        curate: Whether they are chosen by the stages that they went through instead.

    Raises:
        SettingsError: A task has no success.
    """
    tasks: dict[str, list[Shown]] = {}
    for one in found:
        tasks.setdefault(one.task, []).append(one)
    kept: dict[str, list[Shown]] = {}
    for name, own in tasks.items():
        places = distillation.select([one.success for one in own], [one.length for one in own], too_long)
        if not places:
            raise SettingsError(f"nobody has succeeded by itself in {name!r}; leave its sessions out.")
        kept[name] = [own[place] for place in (_best_first(own, places) if curate else places)]
    if not kept:
        raise SettingsError("no episode was played by a policy alone; record some with 'tgrpo session eval'.")
    if curate:
        fewest = min(len(own) for own in kept.values())
        return {name: [one.folder for one in own[:fewest]] for name, own in kept.items()}
    every = [one for own in kept.values() for one in own]
    even = [every[place] for place in distillation.balanced([one.task for one in every], rng)]
    return {name: [one.folder for one in even if one.task == name] for name in tasks}


def _best_first(own: Sequence[Shown], places: Sequence[int]) -> list[int]:
    """Some episodes of a task by what their stages show beside all others of it."""
    paths = [curation.Path(("start", *one.stages), one.success) for one in own]
    return [place for place in curation.choose(paths, len(paths)) if place in places]


def decisions(folder: Path, spec: PolicySpec) -> list[Lesson]:
    """What an episode shows, without the moments in which nothing moves.

    Raises:
        RecordingError: A camera or the robot's state was not recorded, or actions have another length.
    """
    episode = load(folder)
    moving = distillation.moving(steps(episode).executed.astype(np.float32))[::STRIDE]
    return [lesson for lesson, moves in zip(lessons(episode, spec), moving.tolist(), strict=True) if moves]


def distil(settings: DistillSettings, console: Console) -> bool:
    """Learns and writes the checkpoint; returns whether the new policy passed.

    Raises:
        SettingsError: There is nothing to learn from, or the target exists.
        RecordingError: An episode lacks what the policy needs.
    """
    if settings.out.exists():
        raise SettingsError(f"{settings.out} exists; choose another folder for the checkpoint.")
    policy = load_trainable(shipped(settings.policy))
    rng = np.random.default_rng(settings.imitation.seed)
    kept = chosen(list(shown(settings.sessions)), settings.too_long, rng, curate=settings.curate)
    taught: list[Lesson] = []
    held_out: dict[str, list[Lesson]] = {}
    for name, folders in kept.items():
        parts = [decisions(folder, policy.spec) for folder in folders]
        taught += [lesson for place, part in enumerate(parts, 1) if place % HELD_OUT for lesson in part]
        held_out[name] = [lesson for part in parts[HELD_OUT - 1 :: HELD_OUT] for lesson in part]
    apprentice = Apprentice(policy, settings.imitation)
    before = {name: apprentice.score(own) for name, own in held_out.items()}
    judges = [lesson for own in held_out.values() for lesson in own]
    verdict = apprentice.try_out(taught, judges, settings.tolerance)
    console.print(f"{len(taught)} decisions of {len(kept)} tasks; {verdict}")
    for name, own in held_out.items():
        if own:
            console.print(f"  {name}: {before[name]:.3f} -> {apprentice.score(own):.3f}", markup=False)
    if verdict.accepted:
        record = {
            "sessions": [str(session) for session in settings.sessions],
            "policy": settings.policy,
            "episodes": {name: len(folders) for name, folders in kept.items()},
            "verdict": str(verdict),
        }
        files.write_folder(settings.out, lambda folder: _write(folder, apprentice, record))
        console.print(f"Wrote {settings.out}. Next: tgrpo eval {settings.out}", highlight=False)
    return verdict.accepted


def _write(folder: Path, apprentice: Apprentice, record: dict[str, Any]) -> None:
    apprentice.export(folder)
    (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def main(argv: Sequence[str]) -> int:
    """``tgrpo distill``; 1 if the new policy is worse on what was held out, and then nothing is written."""
    settings = validated(tyro.cli(DistillSettings, prog="tgrpo distill", args=list(argv)))
    return 0 if distil(settings, Console(highlight=False, soft_wrap=True)) else 1
