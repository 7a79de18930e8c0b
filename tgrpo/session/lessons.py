"""What recorded episodes teach: decisions to imitate, and groups of rollouts to compare.

A human's stretch of control is a demonstration that begins where the policy went wrong (human-gated DAgger, arXiv
1810.02890). Whoever watches and does not take over approves of what the policy does, and that is taught as well, at
equal weight (arXiv 2012.06733): a policy that hears only corrections forgets what it could do. Against forgetting stand
demonstrations from before the session, too, where there are any. What follows a stretch was decided by somebody else,
so a chunk's actions behind its end carry no weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tgrpo.errors import RecordingError, SettingsError
from tgrpo.policies import bins
from tgrpo.record.demo_file import Demonstration
from tgrpo.record.episode import Episode
from tgrpo.record.steps import Pictures, Steps, proprio, stage_labels, states_at, steps, stretches
from tgrpo.record.streams import Action, Event, PolicyReply
from tgrpo.rewards import terms
from tgrpo.spec import PolicySpec
from tgrpo.types import ActionChunk, FloatArray, Observation, RolloutGroup, Trajectory
from tgrpo.view import fitted

Kind: TypeAlias = Literal["correction", "approved", "demonstration"]
"""``correction``: a human was in control. ``approved``: the policy was, and rightly so. ``demonstration``: earlier."""
DOUBT = 3.0
"""What the policy did so shortly before a human took over is not approved: they had to see that it went wrong [s].

Where stages are labelled, nothing is approved that came after the last one that was completed before, either: whoever
waits longer for a policy that stands still would otherwise teach it to.
"""
DEEDS = ("human", "policy")
STRIDE = 2
"""Control steps from one decision to the next in a demonstration."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """One decision to imitate."""

    observation: Observation
    targets: NDArray[np.int64]
    """``(K, A)`` bins of the actions that followed."""
    mask: NDArray[np.bool_]
    """``(K,)`` True where the same one was still in control."""
    episode: int
    """Number of its episode; -1 for a demonstration, which belongs to none."""
    kind: Kind


def lessons(episode: Episode, spec: PolicySpec, stride: int = STRIDE) -> list[Lesson]:
    """What an episode shows: each human stretch, and what the policy did right.

    That is what came before a human took over, but for the moment in which it must have gone wrong, and in an episode
    that succeeded also what came after the last of them.

    Args:
        episode: Closed.
        spec: Of the policy that is to learn: cameras, picture size, chunk.
        stride: Control steps from one decision to the next.

    Raises:
        RecordingError: A camera or the robot's state was not recorded, or actions have another length.
    """
    table = steps(episode)
    if len(table) == 0:
        return []
    if table.executed.shape[1] != spec.action.dims:
        raise RecordingError(
            f"{episode.folder}: actions of {table.executed.shape[1]} numbers; the policy has {spec.action.dims}."
        )
    corrected = stretches(table.intervention)
    doubt, success = math.ceil(DOUBT * episode.info.rate), episode.result.outcome == "success"
    approved = _approved(table.intervention, doubt, success, _advances(episode, table))
    cuts: list[tuple[int, int, Kind]] = [(*cut, "correction") for cut in corrected]
    cuts += [(*cut, "approved") for cut in approved]
    return [one for start, end, kind in sorted(cuts) for one in _cut(episode, table, (start, end), spec, stride, kind)]


def demonstrated(demo: Demonstration, spec: PolicySpec) -> list[Lesson]:
    """What a demonstration from before the session shows, so that what it taught is not forgotten.

    Args:
        demo: With the policy's cameras.
        spec: Of the policy that is to learn.

    Raises:
        SettingsError: It has actions of another length than the policy's.
    """
    if demo.actions.shape[1] != spec.action.dims:
        raise SettingsError(
            f"demonstrations of {demo.task_name}: actions of {demo.actions.shape[1]} numbers; the policy has "
            f"{spec.action.dims}."
        )
    targets, masks = _decisions(demo.actions, demo.frames, spec)
    size, proprio = spec.observation.size, spec.observation.proprio
    return [
        Lesson(
            Observation(
                {name: fitted(demo.images[name][place], size) for name in spec.observation.cameras},
                demo.instruction,
                demo.proprio[frame] if proprio else None,
            ),
            targets[place],
            masks[place],
            episode=-1,
            kind="demonstration",
        )
        for place, frame in enumerate(demo.frames.tolist())
    ]


def group(episodes: Sequence[Episode], spec: PolicySpec) -> RolloutGroup:
    """Consecutive episodes from one start as a group of rollouts, for an update on what a robot has played.

    A rollout ends where a human first took over: what came after is not the policy's, and it counts as no success. The
    reward of a control step is the share of stages that were labelled complete, and 1 at success. Whoever succeeds is
    paid at once what the longest rollout of the group could have earned, so that no failure gains by lasting longer. A
    fault of the safety layer costs 1, under the name that the scalariser ``gated`` looks at.

    Args:
        episodes: Counted ones of the same task and start, each with the chunks that were sampled.
        spec: Of the policy.

    Raises:
        RecordingError: An episode has no sampled chunks, or they belong to different starts.
    """
    first = episodes[0].info
    for episode in episodes:
        one = episode.info
        if (one.suite, one.task, one.group) != (first.suite, first.task, first.group):
            raise RecordingError(f"{episode.folder} is of another group than {episodes[0].folder}.")
    trajectories = [_trajectory(episode, spec) for episode in episodes]
    horizon = max(trajectory.steps for trajectory in trajectories)
    trajectories = [_repaid(trajectory, horizon) for trajectory in trajectories]
    start = first.pair if first.pair is not None else 0
    return RolloutGroup(first.suite, first.task, start, first.seed, f"group {first.group}", trajectories)


def balanced(found: Iterable[Lesson], size: int, rng: np.random.Generator) -> list[Lesson]:
    """A batch with equal shares of whatever kinds are there, drawn with replacement."""
    kinds: dict[Kind, list[Lesson]] = {}
    for lesson in found:
        kinds.setdefault(lesson.kind, []).append(lesson)
    names = sorted(kinds)
    counts = [len(share) for share in np.array_split(np.arange(size), max(len(names), 1))]
    chosen = zip(names, counts, strict=False)
    return [kinds[name][int(place)] for name, count in chosen for place in rng.integers(0, len(kinds[name]), count)]


def _approved(
    human: NDArray[np.bool_], doubt: int, success: bool, advances: NDArray[np.int64] | None
) -> list[tuple[int, int]]:
    """First step and end of each stretch in which the policy did right ``(T,)``."""
    found = []
    for start, end in stretches(~human):
        if end == len(human):
            until = end if success else start
        else:
            until = end - doubt
            if advances is not None:
                own = advances[(advances > start) & (advances <= end)]
                until = min(until, int(own.max(initial=start)))
        if until > start:
            found.append((start, until))
    return found


def _advances(episode: Episode, table: Steps) -> NDArray[np.int64] | None:
    """Control steps before each completion of a new stage; None where nobody labels stages."""
    if not episode.info.stage_names:
        return None
    reached = stage_labels(episode)
    best = np.maximum.accumulate([0, *(stage.stage for stage in reached)])
    stamps = np.array([stage.at.steady for stage in reached], np.int64)[np.diff(best) > 0]
    return np.searchsorted(table.stamps, stamps)


def _cut(
    episode: Episode, table: Steps, cut: tuple[int, int], spec: PolicySpec, stride: int, kind: Kind
) -> list[Lesson]:
    start, end = cut
    chosen = np.arange(start, end, stride)
    seen = _observations(episode, table, chosen, spec)
    targets, masks = _decisions(table.executed[:end], chosen, spec)
    return [
        Lesson(observation, targets[place], masks[place], episode=episode.number, kind=kind)
        for place, observation in enumerate(seen)
    ]


def _decisions(
    actions: NDArray[np.floating], chosen: NDArray[np.integer], spec: PolicySpec
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Bins of the chunks that begin at some steps ``(B, K, A)``, and where they are not past the end ``(B, K)``."""
    targets = bins.encode(bins.chunks(actions, chosen, spec.chunk), spec.bins)
    return targets, np.asarray(chosen)[:, None] + np.arange(spec.chunk) < len(actions)


def _observations(episode: Episode, table: Steps, chosen: NDArray[np.int64], spec: PolicySpec) -> list[Observation]:
    """What the policy would have been shown before each of some control steps."""
    at = table.stamps[chosen]
    body = proprio(states_at(episode, at), episode) if spec.observation.proprio else None
    views = {name: Pictures(episode, name, at) for name in spec.observation.cameras}
    return [
        Observation(
            {name: fitted(view[place], spec.observation.size) for name, view in views.items()},
            episode.info.instruction,
            None if body is None else body[place],
        )
        for place in range(len(chosen))
    ]


def _trajectory(episode: Episode, spec: PolicySpec) -> Trajectory:
    table = steps(episode)
    mine = table.unaided
    actions = sorted(episode.of(Action), key=lambda action: action.step)[:mine]
    replies = {reply.request: reply for reply in episode.of(PolicyReply)}
    begun: dict[int, list[int]] = {}
    for place, action in enumerate(actions):
        begun.setdefault(action.request, []).append(place)
    if not begun or any(not replies[r].tokens if r in replies else True for r in begun):
        raise RecordingError(
            f"{episode.folder}: not every action belongs to a sampled chunk; such an episode cannot be compared in a "
            "group. Let the policy sample (temperature above 0) and execute its chunks in order."
        )
    firsts = np.array([places[0] for places in begun.values()], np.int64)
    chunks = [_chunk(replies[request]) for request in begun]
    odd = next((chunk.actions.shape for chunk in chunks if chunk.actions.shape != (spec.chunk, spec.action.dims)), None)
    if odd is not None:
        raise RecordingError(
            f"{episode.folder}: the policy that was recorded decides chunks of shape {odd}, the one that is to learn "
            f"{(spec.chunk, spec.action.dims)}. Learn with the policy that played."
        )
    success = episode.result.outcome == "success" and mine == len(table)
    level = _levels(episode, table, mine, success=success)
    violation = _faults(episode, table, mine)
    return Trajectory(
        observations=_observations(episode, table, firsts, spec),
        chunks=chunks,
        executed=np.array([len(places) for places in begun.values()], np.int64),
        rewards=level + violation,
        terms={"level": level, "violation": violation},
        success=success,
    )


def _repaid(trajectory: Trajectory, horizon: int) -> Trajectory:
    """A success as if the task had been complete for ``horizon`` control steps, as in :mod:`tgrpo.rewards.terms`."""
    bonus = np.zeros(trajectory.steps)
    if trajectory.success:
        paid = float(trajectory.terms["level"].sum())
        bonus[-1] = terms.success(trajectory.steps, paid, bonus=1.0, repay=1.0, horizon=horizon)
    return replace(trajectory, rewards=trajectory.rewards + bonus, terms={**trajectory.terms, "success": bonus})


def _chunk(reply: PolicyReply) -> ActionChunk:
    return ActionChunk(
        np.array(reply.actions, np.float32), np.array(reply.tokens, np.int64), np.array(reply.log_probs, np.float32)
    )


def _levels(episode: Episode, table: Steps, mine: int, *, success: bool) -> FloatArray:
    """Share of completed stages after each control step ``(T,)``; 1 at the step that succeeded."""
    total = max(len(episode.info.stage_names), 1)
    reached = stage_labels(episode)
    stamps = np.array([stage.at.steady for stage in reached], np.int64)
    shares = np.array([0.0, *(min(stage.stage / total, 1.0) for stage in reached)])
    levels = shares[np.searchsorted(stamps, _ends(table, mine), side="right")]
    if success and mine:
        levels[-1] = 1.0
    return np.asarray(levels, np.float64)


def _faults(episode: Episode, table: Steps, mine: int) -> FloatArray:
    """-1 at each control step during which the safety layer declared a fault ``(T,)``."""
    found = np.zeros(mine)
    for event in episode.of(Event):
        place = int(np.searchsorted(_ends(table, mine), event.at.steady))
        if event.kind == "fault" and place < mine:
            found[place] = -1.0
    return found


def _ends(table: Steps, mine: int) -> NDArray[np.int64]:
    """When each of the first control steps ended [ns]: with the next one, and the last one never."""
    return np.append(table.stamps[1:], np.iinfo(np.int64).max)[:mine]
