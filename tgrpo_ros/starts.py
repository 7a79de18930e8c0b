"""How an episode's start is made and checked."""

from __future__ import annotations

from tgrpo_ros.arm_client import ArmClient


class SimStart:
    """A recorded initial state of a simulated scene, which is exact, so that nothing is left to check."""

    def __init__(self, client: ArmClient, state: int, seed: int, max_steps: int) -> None:
        """Prepares.

        Args:
            client: Of the arm node.
            state: Which recorded initial state.
            seed: Of fixture poses.
            max_steps: Control steps after which the episode is over.
        """
        self._client = client
        self._wanted = {"init_state": state, "seed": seed, "max_steps": max_steps}

    def reset(self) -> None:
        """Resets the scene.

        Raises:
            RobotFault: There is no such state, or the arm node does not answer.
        """
        self._client.begin(**self._wanted)

    def check(self) -> str:
        """Nothing is wrong with it."""
        return ""
