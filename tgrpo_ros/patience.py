"""When somebody who watches a policy takes over, and when they hand back. No ROS here."""

from __future__ import annotations

from typing import Literal, TypeAlias

Decision: TypeAlias = Literal["watch", "take", "act", "let_go"]


class Patience:
    """Takes over from a policy that makes no progress, until a stage or more is completed.

    Attributes:
        engaged: Whether it has the arm.
    """

    def __init__(self, steps: int, stages: int) -> None:
        """Watches.

        Args:
            steps: Control steps without a new stage after which it takes over.
            stages: Stages that it completes before it hands back; 0: it keeps the arm to the end.
        """
        self._steps, self._stages = steps, stages
        self._episode = -1
        self._best = self._since = self._target = 0
        self.engaged = False

    def see(self, episode: int, step: int, stage: int, *, running: bool) -> Decision:
        """What to do now.

        Args:
            episode: Number of the episode.
            step: Control steps in it.
            stage: Stages that are complete.
            running: Whether the arm runs and there is still something to do.
        """
        if episode != self._episode:
            self._episode, self._best, self._since = episode, stage, step
            if self.engaged:
                self.engaged = False
                return "let_go"
        if not running:
            return self._release(step) if self.engaged else "watch"
        if stage > self._best:
            self._best, self._since = stage, step
        if self.engaged:
            return self._release(step) if self._stages and stage >= self._target else "act"
        if step - self._since < self._steps:
            return "watch"
        self.engaged, self._target = True, stage + self._stages
        return "take"

    def give_up(self, step: int) -> None:
        """Lets go without success, and watches again from here."""
        self._release(step)

    def _release(self, step: int) -> Decision:
        self.engaged, self._since = False, step
        return "let_go"
