"""Progress for people: a bar with rates and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sim.rollout import UnitResult

LINE_EVERY = 10.0
"""Seconds between two plain lines."""


class Bar:
    """Counts episodes, their successes and their control steps.

    Example:
        >>> with Bar(console, "evaluating", 50) as bar:  # doctest: +SKIP
        ...     pool.play(units, policy, bar.episode)
    """

    def __init__(self, console: Console, what: str, total: int | None) -> None:
        """Shows nothing yet.

        Args:
            console: Where to print.
            what: Is counted.
            total: Episodes in all; None if nobody knows yet.
        """
        self._console, self._what, self._total = console, what, total
        self._episodes = self._successes = self._steps = 0
        self._started = self._spoke = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(what, total=total, rates="")

    def episode(self, result: UnitResult) -> None:
        """Counts the episodes of one finished unit."""
        self._episodes += len(result.trajectories)
        self._successes += sum(t.success for t in result.trajectories)
        self._steps += sum(t.steps for t in result.trajectories)
        rates = f"{self._successes}/{self._episodes} succeeded, {self._rate():.0f} steps/s"
        self._progress.update(self._task, completed=self._episodes, rates=rates)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._spoke > LINE_EVERY:
            self._spoke = now
            done, left = f"{self._episodes}", ""
            if self._total is not None:
                seconds = (now - self._started) / self._episodes * (self._total - self._episodes)
                done, left = f"{done}/{self._total}", f", {seconds:.0f} s left"
            self._console.print(f"{self._what}: {done}, {rates}{left}")

    def __enter__(self) -> Bar:
        """Shows the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the bar."""
        self._progress.stop()

    def _rate(self) -> float:
        return self._steps / max(time.monotonic() - self._started, 1e-9)
