"""Recovery from a reflex of the robot: on a person's command, bounded, refused without a fault."""

from __future__ import annotations

from collections import deque

from tgrpo.errors import RobotFault
from tgrpo_ros.motion import ArmState
from tgrpo_ros.safety.settings import Recovery


class RecoveryBudget:
    """Counts recoveries; when they are used up, somebody has to look at the arm."""

    def __init__(self, settings: Recovery) -> None:
        """Starts with the whole budget.

        Args:
            settings: How many within what time.
        """
        self._settings = settings
        self._done: deque[float] = deque(maxlen=settings.count)
        self._latched = False

    @property
    def latched(self) -> bool:
        """Whether the budget was exceeded once; only a restart of the arm's node ends that."""
        return self._latched

    def spend(self, now: float, state: ArmState) -> None:
        """Counts one recovery, which the caller then asks the robot for.

        Args:
            now: Steady time [s].
            state: Of the arm.

        Raises:
            RobotFault: There is nothing to recover from, or the budget is used up.
        """
        if state.mode != "reflex":
            raise RobotFault(
                f"recovery refused: the robot reports mode {state.mode!r}, not a reflex. A recovery without a fault "
                "would clear one that nobody has seen."
            )
        full = len(self._done) == self._settings.count and now - self._done[0] < self._settings.window
        if full or self._latched:
            self._latched = True
            raise RobotFault(
                f"recovery refused: more than {self._settings.count} within {self._settings.window:g} s. "
                f"The robot says: {state.error or 'nothing'}. Look at the arm, remove the cause and restart its node."
            )
        self._done.append(now)
