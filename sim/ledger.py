"""Which rollouts of a batch are to be played, and what came of them: each is delivered once, or left out and named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sim.rollout import Part, Unit, UnitResult, join
from sim.worker import Job
from tgrpo.errors import WorkerError


@dataclass
class Task:
    """Rollouts that are to be played, or are being played."""

    index: int
    """Of their unit."""
    job: Job
    lost: int = 0
    """How often they were lost since they could not be divided any more."""

    @property
    def unit(self) -> Unit:
        """What they are rollouts of."""
        return self.job.part.unit

    def take(self, part: Part) -> Task:
        """Moves some of its rollouts into a task of their own."""
        self.job = replace(self.job, part=self.job.part.without(part.rows))
        return Task(self.index, replace(self.job, part=part), self.lost)

    def advance(self, part: Part) -> None:
        """Its rollouts are further; if they are lost, they go on from there."""
        self.job = replace(self.job, part=part)


@dataclass(frozen=True)
class Quarantined:
    """A rollout that was lost whenever it was tried, so that it was left out."""

    suite: str
    task: int
    init_state: int
    seed: int
    cause: str
    """Of the last loss."""

    def __str__(self) -> str:
        """Names it."""
        return f"{self.suite} task {self.task} init state {self.init_state} seed {self.seed}: {self.cause}"


class Ledger:
    """Keeps the books of one batch.

    Attributes:
        waiting: What is to be played; the next one is the last.
        quarantined: What was left out.
    """

    def __init__(self, jobs: Sequence[Job], retries: int, most: int) -> None:
        """Nothing is played yet.

        Args:
            jobs: One for each unit.
            retries: How often a rollout that was lost alone is tried again.
            most: Most rollouts that may be left out.
        """
        self._units = [job.part.unit for job in jobs]
        self._open = [set(job.part.rows) for job in jobs]
        self._parts: list[list[UnitResult]] = [[] for _ in jobs]
        self._retries, self._most = retries, most
        self._bad: set[tuple[str, int, int]] = set()
        self.waiting = [Task(index, job) for index, job in enumerate(jobs)][::-1]
        self.quarantined: list[Quarantined] = []

    @property
    def done(self) -> bool:
        """Whether nothing is open any more."""
        return not any(self._open)

    def deliver(self, task: Task, result: UnitResult) -> None:
        """Takes a result.

        Raises:
            WorkerError: One of its rollouts was delivered before.
        """
        left = self._open[task.index]
        if not left.issuperset(result.rows):
            twice = sorted(set(result.rows) - left)
            raise WorkerError(f"rollouts {twice} of unit {task.index} came twice; this is a defect of the pool.")
        left.difference_update(result.rows)
        self._parts[task.index].append(result)

    def lose(self, task: Task, cause: str) -> list[Quarantined]:
        """Rollouts were lost: half of them are tried apart from the others, one that was alone is tried again.

        Returns:
            Those that are not tried again.

        Raises:
            WorkerError: More rollouts than are allowed would be left out.
        """
        part = task.job.part
        if len(part.rows) > 1 and not self._known_bad(part):
            self.waiting.append(task)
            self.waiting.append(task.take(part.without(part.rows[: len(part.rows) // 2])))
            return []
        task.lost += 1
        if task.lost <= self._retries and not self._known_bad(part):
            self.waiting.append(task)
            return []
        return self.leave_out(task, cause)

    def results(self) -> list[UnitResult]:
        """What came of each unit."""
        return [join(unit, parts) for unit, parts in zip(self._units, self._parts, strict=True)]

    def leave_out(self, task: Task, cause: str) -> list[Quarantined]:
        """Rollouts are not tried again.

        Returns:
            They.

        Raises:
            WorkerError: They are more than are allowed.
        """
        unit, rows = task.unit, task.job.part.rows
        out = [Quarantined(unit.suite, unit.task, unit.start(row), unit.seeds[row], cause) for row in rows]
        self.quarantined += out
        self._bad |= {_state(unit, row) for row in rows}
        if len(self.quarantined) > self._most:
            raise WorkerError(
                f"{out[-1]}, {task.lost} times, and {len(self.quarantined) - 1} other rollouts as often; at most "
                f"{self._most} of a batch are left out. Out of memory? Try fewer workers; what is saved can be "
                "continued with --resume."
            )
        self._open[task.index].difference_update(rows)
        return out

    def _known_bad(self, part: Part) -> bool:
        """Whether all of its initial states have lost a rollout for good already."""
        return all(_state(part.unit, row) in self._bad for row in part.rows)


def _state(unit: Unit, row: int) -> tuple[str, int, int]:
    return unit.suite, unit.task, unit.start(row)
