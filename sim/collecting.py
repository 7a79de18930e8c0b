"""Plays what collectors ask for: round by round, the wishes of all groups of an iteration in one batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from sim.pool import Pool, Progress
from sim.rollout import Episode, Part, Unit, UnitResult, whole
from tgrpo.algo import sampling, strategies
from tgrpo.algo.collectors import Collection, Fan, Played
from tgrpo.algo.cutting import synchronise
from tgrpo.errors import SimulationError, WorkerError
from tgrpo.types import RolloutGroup, Trajectory


@dataclass(frozen=True, eq=False)
class Collected:
    """What came of one group of a plan."""

    first: RolloutGroup
    """The rollouts from the initial state."""
    groups: list[RolloutGroup]
    """What to learn from."""
    steps: int
    """Control steps of all rollouts that were played."""


def collect(
    units: Sequence[Unit], pool: Pool, policy: Path, progress: Progress, collector: str = "flat"
) -> list[Collected]:
    """Plays one iteration's rollouts; a group that is not complete is dropped.

    Args:
        units: One for each group: where it starts, and the seeds of its rollouts.
        pool: Plays.
        policy: Checkpoint folder.
        progress: Called with the result of each unit.
        collector: Says which rollouts a group consists of.

    Raises:
        WorkerError: No group is complete.
    """
    gatherings = [_Gathering(unit, strategies.collector(collector).collect(len(unit.seeds))) for unit in units]
    going = gatherings
    while going:
        numbers = itertools.count()
        work = [[gathering.parts(fan, pool.size, next(numbers)) for fan in gathering.fans()] for gathering in going]
        results = iter(pool.play([part for fans in work for parts in fans for part in parts], policy, progress))
        for gathering, fans in zip(going, work, strict=True):
            gathering.take([[next(results) for _ in parts] for parts in fans])
        going = [gathering for gathering in going if gathering.wanted]
    collected = [gathering.collected for gathering in gatherings if gathering.collected is not None]
    if not collected:
        raise WorkerError(
            "no group is complete, as rollouts had to be left out of each; the log names them and the reasons."
        )
    return collected


def same_start(results: Sequence[UnitResult]) -> str:
    """The state hash that all rollouts of a group share.

    Raises:
        SimulationError: Two of them started from different states, so they must not be compared.
    """
    hashes = {state for result in results for state in result.state_hashes}
    if len(hashes) != 1:
        unit = results[0].unit
        raise SimulationError(
            f"{unit.suite} task {unit.task} init state {unit.start(0)}: the rollouts of a group started from "
            f"{len(hashes)} different simulator states. Check that all workers run the same package versions."
        )
    return hashes.pop()


class _Gathering:
    """One group while a collector gathers it.

    Attributes:
        wanted: What the collector waits for; nothing when it is done.
        collected: What came of it; nothing if rollouts had to be left out.
    """

    def __init__(self, unit: Unit, collection: Collection) -> None:
        self._unit, self._collection = unit, collection
        self.wanted: list[Fan] = next(collection)
        self.collected: Collected | None = None
        self._first: RolloutGroup | None = None
        self._played = self._steps = 0

    def fans(self) -> Iterator[tuple[int, Fan]]:
        """What is wanted, with the number of fans before each."""
        return enumerate(self.wanted, self._played)

    def parts(self, numbered: tuple[int, Fan], workers: int, group: int) -> list[Part]:
        """Lays a fan out, split evenly over the workers.

        Args:
            numbered: The fan, and the number of fans before it.
            workers: Processes that will play.
            group: Which of the batch's rollouts stop together, if they do.
        """
        unit, (number, fan) = self._unit, numbered
        start: Episode | None = fan.start
        limit = unit.max_steps
        if fan.decisions is not None:
            ahead = (0 if start is None else start.steps) + fan.decisions * unit.execute
            limit = ahead if limit is None else min(limit, ahead)
        seeds = sampling.fan_seeds(unit.seeds, number, fan.rollouts)
        shares = min(workers, len(seeds))
        units = [
            msgspec.structs.replace(
                unit,
                seeds=seeds[share::shares],
                max_steps=limit,
                marks=fan.marks,
                group=None if unit.group is None else group,
            )
            for share in range(shares)
        ]
        return [replace(whole(one), begun=_copies(start, len(one.seeds))) for one in units]

    def take(self, answers: Sequence[Sequence[UnitResult]]) -> None:
        """Tells the collector what came of each fan."""
        played = [self._put_together(parts) for parts in answers]
        complete = all(
            len(one.group.trajectories) == fan.rollouts for one, fan in zip(played, self.wanted, strict=True)
        )
        self._played += len(played)
        self.wanted = []
        if not complete:
            return  # advantages of a part of a group would compare with too few
        self._first = self._first or played[0].group
        self._steps += sum(trajectory.steps for one in played for trajectory in one.group.trajectories)
        try:
            self.wanted = self._collection.send(played)
        except StopIteration as end:
            groups = [replace(group, trajectories=self._stopped(group)) for group in end.value]
            self.collected = Collected(self._first, groups, self._steps)

    def _put_together(self, parts: Sequence[UnitResult]) -> Played:
        unit = self._unit
        group = RolloutGroup(
            unit.suite,
            unit.task,
            unit.start(0),
            unit.env_seed,
            same_start(parts),
            [trajectory for part in parts for trajectory in part.trajectories],
            sum(part.seconds for part in parts),
        )
        marks = [marks for part in parts for marks in part.marks]
        return Played(replace(group, trajectories=self._stopped(group)), marks)

    def _stopped(self, group: RolloutGroup) -> list[Trajectory]:
        return group.trajectories if self._unit.group is None else synchronise(group.trajectories, self._unit.grace)


def _copies(start: Episode | None, count: int) -> tuple[Episode, ...]:
    """Rollouts that are about to start from a state; none if they start from the initial one."""
    return () if start is None else tuple(start.mark(None) for _ in range(count))
