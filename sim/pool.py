"""What plays rollouts, wherever its workers are; :mod:`sim.vector`, :mod:`sim.ranks`, :mod:`sim.cluster` have some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from sim.ledger import Quarantined
from sim.rollout import Part, Spent, Unit, UnitResult
from tgrpo.errors import TgrpoError

Progress = Callable[[UnitResult], None]


class CancelledRolloutsError(TgrpoError, RuntimeError):
    """Whoever asked for rollouts does not want them any more."""


class Pool(Protocol):
    """Plays batches of units; what is lost on the way is played again, and each rollout is delivered once."""

    @property
    def size(self) -> int:
        """Number of processes that simulate."""

    @property
    def lost(self) -> int:
        """Rollouts that were lost so far, and played again or left out."""

    @property
    def quarantined(self) -> Sequence[Quarantined]:
        """Rollouts that were left out so far, because they were lost whenever they were tried."""

    def spent(self) -> Spent:
        """What was simulated and inferred so far, lost rollouts too."""

    def play(
        self,
        work: Sequence[Unit | Part],
        policy: Path,
        progress: Progress = lambda result: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[UnitResult]:
        """Plays all units and returns their results in the same order.

        Args:
            work: What to play, from initial states or from others; units with the same ``group`` stop together.
            policy: Checkpoint folder; its name must change when its content does.
            progress: Called with the result of each unit, or part of one, as it comes in.
            cancelled: Asked about once a second whether to give up.

        Rollouts that are lost again and again are missing in their unit's result and added to :attr:`quarantined`.

        Raises:
            CancelledRolloutsError: ``cancelled`` said so.
            WorkerError: Too many rollouts were lost too often.
            TgrpoError: What a worker raised on purpose, for example an unknown task.
        """
