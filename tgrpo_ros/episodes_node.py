"""ROS 2 node that lets a policy play episodes on a simulated arm, one for each initial state, and ends.

For each: reset, arm, wait for success or the step limit. It uses the arm node's own topics and services, as a person
would. The result has the format of ``tgrpo eval``, so that ``tgrpo compare`` can set the two side by side. Ends with 0
when all episodes were played, 1 if the arm stopped for another reason than the end of an episode.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rich.console import Console

from tgrpo import sim_link
from tgrpo.errors import RobotFault, SettingsError
from tgrpo.record import eval_result, files
from tgrpo.record.eval_result import EpisodeResult
from tgrpo.record.provenance import collect as provenance
from tgrpo_ros.arm_client import ArmClient
from tgrpo_ros.drivers.sim_scene import wait_for_scene
from tgrpo_ros.managed import EXIT_FAULT, run_plain
from tgrpo_ros.parameters import Option

OPTIONS = (
    Option("arm", "tgrpo_arm", "name of the arm node"),
    Option("scene", "", "address of the simulated scene, that of `tgrpo sim-robot`"),
    Option("states", "0-0", "initial states to start from, as in 0-19"),
    Option("max_steps", 0, "step limit of an episode; 0: the suite's own"),
    Option("seed", 0, "seed of fixture poses"),
    Option("policy", "tiny-libero", "name of the policy, for the result"),
    Option("mode", "exact", "simulator that the scene runs, for the result"),
    Option("json", "", "file for the result; empty: none"),
    Option("patience", 300.0, "how long nodes may take to be ready, and an episode to end [s]", low=1.0, high=86400.0),
)


class EpisodesNode(Node):
    """A client of the arm node."""

    def __init__(self) -> None:
        super().__init__("tgrpo_episodes")
        for option in OPTIONS:
            self.declare_parameter(option.name, option.default, option.descriptor())
        self._client = ArmClient(self, self.value("arm"), self.value("patience"))

    def value(self, name: str) -> Any:
        """A parameter's value."""
        return self.get_parameter(name).value

    def play(self, state: int, max_steps: int) -> EpisodeResult:
        """Plays one episode.

        Raises:
            RobotFault: A service refuses, or the arm stops before the episode is over.
        """
        client = self._client
        client.begin(init_state=state, seed=self.value("seed"), max_steps=max_steps)
        begun = time.monotonic()
        client.run()
        client.until(lambda: client.status.level in ("DECELERATE", "FAULT"), "the episode did not end")
        end = client.status
        if not end.success and end.steps < max_steps:
            raise RobotFault(f"the arm stopped after {end.steps} steps: {end.level} {end.reason}: {end.detail}")
        return EpisodeResult(
            task=self._scene.task,
            init_state=state,
            success=end.success,
            steps=end.steps,
            seconds=round(time.monotonic() - begun, 3),
        )

    def play_all(self) -> None:
        """Plays all episodes and shows the result.

        Raises:
            SettingsError: The initial states are none.
        """
        states = _states(self.value("states"))
        self._scene = wait_for_scene(self.value("scene"), self.value("patience"), lambda: self._client.look(0.0))
        limit = self.value("max_steps") or self._scene.max_steps
        self.get_logger().info(f"{len(states)} episodes: {self._scene.instruction}")
        self._client.until(lambda: self._client.reports, "the arm node does not report; is it running?")
        episodes = []
        for state in states:
            episode = self.play(state, limit)
            outcome = "success" if episode.success else "failure"
            self.get_logger().info(
                f"initial state {state}: {outcome} after {episode.steps} steps, {episode.seconds:.1f} s"
            )
            episodes.append(episode)
        result = self._summary(self._scene, episodes)
        eval_result.print_table(result, Console(width=110))
        if self.value("json"):
            files.write_json(Path(self.value("json")).expanduser(), result)

    def _summary(self, scene: sim_link.Description, episodes: list[EpisodeResult]) -> dict[str, Any]:
        seed = self.value("seed")
        return eval_result.summarise(
            episodes,
            policy=self.value("policy"),
            suite=scene.suite,
            mode=self.value("mode"),
            seed=seed,
            names={scene.task: scene.name},
            provenance=provenance(seeds={"seed": seed}),
        )


def _states(text: str) -> list[int]:
    """Initial states that a text such as ``0-19`` or ``3`` names.

    Raises:
        SettingsError: It names none.
    """
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise SettingsError(f"states {text!r} must be a number or a range, as in 0-19.")
    found = list(range(int(first), int(last if dash else first) + 1))
    if not found:
        raise SettingsError(f"states {text!r} are none; the first number must not be greater than the second.")
    return found


def main(args: list[str] | None = None) -> int:
    """Entry point of ``tgrpo_episodes_node``."""
    return run_plain("tgrpo_episodes", EpisodesNode, EpisodesNode.play_all, args, interrupted=EXIT_FAULT)


if __name__ == "__main__":
    sys.exit(main())
