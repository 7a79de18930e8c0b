"""ROS 2 node that lets a policy play episodes on a simulated arm, one for each initial state, and ends.

For each: reset, arm, wait for success or the step limit. It uses the arm node's own topics and services, as a person
would. The result has the format of ``tgrpo eval``, so that ``tgrpo compare`` can set the two side by side. Ends with 0
when all episodes were played, 1 if the arm stopped for another reason than the end of an episode.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from std_msgs.msg import String
from std_srvs.srv import Trigger

from tgrpo import sim_link
from tgrpo.errors import RobotFault, SettingsError, TgrpoError
from tgrpo.record import eval_result, files
from tgrpo.record.eval_result import EpisodeResult
from tgrpo.record.provenance import collect as provenance
from tgrpo_ros import status
from tgrpo_ros.drivers.sim_scene import wait_for_scene
from tgrpo_ros.managed import EXIT_FAULT, EXIT_USAGE, LATCHED, Interrupted, interruptible
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
        self._status: status.ArmStatus | None = None
        arm = self.value("arm")
        self.create_subscription(String, f"{arm}/status", self._hear, LATCHED)
        self._set: Any = self.create_client(SetParameters, f"{arm}/set_parameters")
        self._triggers: dict[str, Any] = {
            name: self.create_client(Trigger, f"{arm}/{name}") for name in ("reset", "arm", "stop")
        }

    def value(self, name: str) -> Any:
        """A parameter's value."""
        return self.get_parameter(name).value

    def play(self, state: int, max_steps: int) -> EpisodeResult:
        """Plays one episode.

        Raises:
            RobotFault: A service refuses, or the arm stops before the episode is over.
        """
        wanted = {"init_state": state, "seed": self.value("seed"), "max_steps": max_steps}
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in wanted.items()]
        refused = [
            r.reason for r in self._call(self._set, SetParameters.Request(parameters=parameters)).results if r.reason
        ]
        if refused:
            raise RobotFault(f"the arm node refuses: {'; '.join(refused)}")
        before = self._present().episode
        self._trigger("reset")
        self._until(lambda: self._present().episode > before, "the scene did not begin an episode")
        self._until(
            lambda: "policy" in self._present().leases, "no policy node has asked for the lease; see its messages"
        )
        begun = time.monotonic()
        self._trigger("arm")
        self._until(self._is_over, "the episode did not end")
        end = self._present()
        if not end.success and end.steps < max_steps:
            raise RobotFault(f"the arm stopped after {end.steps} steps: {end.level} {end.reason}: {end.detail}")
        return EpisodeResult(
            task=self._scene.task,
            init_state=state,
            success=end.success,
            steps=end.steps,
            seconds=round(time.monotonic() - begun, 3),
        )

    def play_all(self) -> dict[str, Any]:
        """Plays all episodes and returns the evaluation JSON.

        Raises:
            SettingsError: The initial states are none.
        """
        states = _states(self.value("states"))
        self._scene = wait_for_scene(self.value("scene"), self.value("patience"), lambda: self._look(0.0))
        limit = self.value("max_steps") or self._scene.max_steps
        self.get_logger().info(f"{len(states)} episodes: {self._scene.instruction}")
        self._until(lambda: self._status is not None, "the arm node does not report; is it running?")
        episodes = []
        for state in states:
            episode = self.play(state, limit)
            outcome = "success" if episode.success else "failure"
            self.get_logger().info(
                f"initial state {state}: {outcome} after {episode.steps} steps, {episode.seconds:.1f} s"
            )
            episodes.append(episode)
        return self._summary(self._scene, episodes)

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

    def _is_over(self) -> bool:
        now = self._present()
        return now.level in ("DECELERATE", "FAULT")

    def _present(self) -> status.ArmStatus:
        if self._status is None:
            raise RobotFault("the arm node has not reported yet")
        return self._status

    def _trigger(self, name: str) -> None:
        answer = self._call(self._triggers[name], Trigger.Request())
        if not answer.success:
            raise RobotFault(f"the arm node refuses to {name}: {answer.message}")
        if name == "arm":  # what is heard from now on is about this episode
            self._until(lambda: self._present().level == "RUN" or self._present().steps > 0, "the arm does not run")

    def _call(self, client: Any, request: Any) -> Any:
        self._until(client.service_is_ready, f"service {client.srv_name} is not there; is the arm node running?")
        future = client.call_async(request)
        self._until(future.done, f"service {client.srv_name} does not answer")
        return future.result()

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + self.value("patience")
        while not condition():
            if time.monotonic() > until:
                raise RobotFault(f"{otherwise} (waited {self.value('patience'):g} s).")
            self._look(0.05)

    def _look(self, seconds: float) -> None:
        rclpy.spin_once(self, timeout_sec=seconds)

    def _hear(self, message: String) -> None:
        self._status = status.decode(message.data)


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
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node, code = None, 0
    try:
        with interruptible():
            node = EpisodesNode()
            result = node.play_all()
        eval_result.print_table(result, Console(width=110))
        if node.value("json"):
            files.write_json(Path(node.value("json")).expanduser(), result)
    except Interrupted:
        code = EXIT_FAULT
    except (SettingsError, ParameterException) as error:
        rclpy.logging.get_logger("tgrpo_episodes").fatal(str(error))
        code = EXIT_USAGE
    except TgrpoError as error:
        rclpy.logging.get_logger("tgrpo_episodes").error(str(error))
        code = EXIT_FAULT
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
