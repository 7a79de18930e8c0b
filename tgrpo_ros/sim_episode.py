"""Episodes of a simulated arm: where they begin and when they are over."""

from __future__ import annotations

from tgrpo_ros.drivers.sim_arm import SimArm


class SimEpisode:
    """The episode that a scene is in; it begins when the arm is first armed, as a scene in real time never rests.

    Attributes:
        max_steps: Control steps after which it is over; 0 for no limit.
    """

    def __init__(self, arm: SimArm) -> None:
        """Begins with the scene as it is.

        Args:
            arm: Of the scene.
        """
        self._arm, self._first = arm, -1
        self.max_steps = 0

    @property
    def waits(self) -> bool:
        """Whether the scene advances only with commands."""
        return self._arm.description.pace == "fast"

    @property
    def number(self) -> int:
        """Resets of the scene so far."""
        return self._arm.episode

    @property
    def steps(self) -> int:
        """Control steps of the episode; 0 before it begins."""
        return self._arm.steps - self._first if self._first >= 0 else 0

    @property
    def step(self) -> int:
        """Control steps since the start of the scene, as pictures are numbered."""
        return self._arm.steps

    @property
    def success(self) -> bool:
        """Whether the task is completed."""
        return self._arm.success

    @property
    def stage(self) -> int:
        """Stages of the task that are complete."""
        return self._arm.stage

    def begin(self) -> None:
        """The arm was armed."""
        if self._first < 0:
            self._first = self._arm.steps

    def reset(self, init_state: int, seed: int) -> None:
        """Goes to a recorded initial state.

        Raises:
            RobotFault: There is no such state.
        """
        self._arm.reset(init_state, seed)
        self._first = -1

    def over(self) -> str:
        """Why the episode has ended; empty while it goes on."""
        if self._arm.success:
            return "the task is completed"
        if self.max_steps and self.steps >= self.max_steps:
            return f"the episode has reached its {self.max_steps} steps"
        return ""
