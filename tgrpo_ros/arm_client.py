"""A client of the arm node and the policy node, for nodes that run episodes: it asks as a person would."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from tgrpo.errors import RobotFault, WireError
from tgrpo_ros import status
from tgrpo_ros.managed import LATCHED

SILENCE = 5.0
"""An arm node that has not been heard for so long is gone [s]; it reports ten times a second."""
SILENCE_OF_SCENE = 30.0
"""The same for a scene that waits [s]: nothing moves while it thinks, for example about advice."""
ANSWER = 40.0
"""How long a call may take [s]: longer than the slowest answer of an arm node."""

PROMPT = 10.0
"""The same for a policy node [s], which answers at once or not at all."""


class ArmClient:
    """Status and services of one arm node.

    Attributes:
        heard: Steady time of the newest status [s].
    """

    def __init__(self, node: Node, arm: str, patience: float) -> None:
        """Subscribes.

        Args:
            node: Whose; it is spun by this client while it waits.
            arm: Name of the arm node.
            patience: How long anything may take [s].
        """
        self._node, self._patience = node, patience
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._status: status.ArmStatus | None = None
        self.heard = float("-inf")
        self.listeners: list[Callable[[status.ArmStatus], None]] = []
        node.create_subscription(String, f"{arm}/status", self._hear, LATCHED)
        self._set: Any = node.create_client(SetParameters, f"{arm}/set_parameters")
        names = ("reset", "arm", "stop")
        self._triggers: dict[str, Any] = {name: node.create_client(Trigger, f"{arm}/{name}") for name in names}

    @property
    def silent(self) -> bool:
        """Whether nothing has been heard for so long that the arm node must be gone."""
        waits = self._status is not None and self._status.waits
        return time.monotonic() - self.heard > (SILENCE_OF_SCENE if waits else SILENCE)

    @property
    def reports(self) -> bool:
        """Whether a status has been heard."""
        return self._status is not None

    @property
    def status(self) -> status.ArmStatus:
        """The newest one.

        Raises:
            RobotFault: There has not been any.
        """
        if self._status is None:
            raise RobotFault("the arm node has not reported yet; is it running?")
        return self._status

    def begin(self, **wanted: int) -> None:
        """Begins an episode of a simulated arm: sets the arm node's parameters and resets the scene.

        Raises:
            RobotFault: It refuses, or does not answer.
        """
        self.configure(self._set, wanted)
        before = self.status.episode
        self.trigger("reset")
        # A scene that was started again counts from the beginning.
        self.until(lambda: self.status.episode != before, "the scene did not begin an episode", ANSWER)

    def run(self) -> None:
        """Arms the arm once the policy has its lease.

        Raises:
            RobotFault: It refuses, or nobody asks for the lease.
        """
        self.until(lambda: "policy" in self.status.leases, "no policy node has asked for the lease; see its messages")
        self.trigger("arm")
        # What is heard from now on is about this episode.
        self.until(lambda: self.status.level == "RUN" or self.status.steps > 0, "the arm does not run")

    def arm(self) -> None:
        """Arms the arm for whoever is to move it.

        Raises:
            RobotFault: It refuses.
        """
        self.trigger("arm")
        self.until(lambda: self.status.level == "RUN", "the arm does not run")

    def stop(self) -> None:
        """Brakes to a stop.

        Raises:
            RobotFault: The arm node does not answer.
        """
        self.trigger("stop")

    def trigger(self, name: str) -> None:
        """Calls one of the arm node's services.

        Raises:
            RobotFault: It refuses, or does not answer.
        """
        answer = self.call(self._triggers[name], Trigger.Request())
        if not answer.success:
            raise RobotFault(f"the arm node refuses to {name}: {answer.message}")

    def configure(self, client: Any, wanted: Mapping[str, Any], patience: float = ANSWER) -> None:
        """Sets parameters of a node.

        Args:
            client: Of its service.
            wanted: Parameter to its value.
            patience: How long the answer may take [s].

        Raises:
            RobotFault: It refuses, or does not answer.
        """
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in wanted.items()]
        answer = self.call(client, SetParameters.Request(parameters=parameters), patience)
        refused = [result.reason for result in answer.results if not result.successful]
        if refused:
            raise RobotFault(f"{client.srv_name} refuses: {'; '.join(refused)}")

    def call(self, client: Any, request: Any, patience: float = ANSWER) -> Any:
        """Calls any service and waits for its answer.

        Args:
            client: Of the service.
            request: What is asked.
            patience: How long the answer may take [s]; a service that was killed stays in the ROS graph for a while.

        Raises:
            RobotFault: It is not there, or does not answer in time.
        """
        self.until(client.service_is_ready, f"service {client.srv_name} is not there; is its node running?")
        future = client.call_async(request)
        self.until(future.done, f"service {client.srv_name} does not answer", min(patience, self._patience))
        return future.result()

    def until(self, condition: Callable[[], bool], otherwise: str, patience: float | None = None) -> None:
        """Waits for something.

        Args:
            condition: What.
            otherwise: What is wrong if it does not happen.
            patience: How long it may take [s]; as long as anything by default.

        Raises:
            RobotFault: It did not happen in time.
        """
        patience = self._patience if patience is None else patience
        until = time.monotonic() + patience
        while not condition():
            if time.monotonic() > until:
                raise RobotFault(f"{otherwise} (waited {patience:g} s).")
            self.look(0.05)

    def look(self, seconds: float) -> None:
        """Lets messages come in."""
        self._executor.spin_once(timeout_sec=seconds)

    def _hear(self, message: String) -> None:
        try:
            self._status = status.decode(message.data)
        except WireError as error:
            self._node.get_logger().error(str(error), throttle_duration_sec=5.0)
            return
        self.heard = time.monotonic()
        for listener in self.listeners:
            listener(self._status)


class PolicySwitch:
    """What a session asks of the policy node."""

    def __init__(self, node: Node, policy: str, client: ArmClient) -> None:
        """Prepares.

        Args:
            node: Whose.
            policy: Name of the policy node.
            client: Waits for the answers.
        """
        self._client = client
        self._set: Any = node.create_client(SetParameters, f"{policy}/set_parameters")
        self._enable: Any = node.create_client(SetBool, f"{policy}/enable")

    def direct(self, server: str, instruction: str, temperature: float) -> None:
        """Which server it asks, and what for.

        Raises:
            RobotFault: It refuses, or does not answer.
        """
        wanted = {"server": server, "instruction": instruction, "temperature": temperature}
        self._client.configure(self._set, wanted, PROMPT)

    def enable(self, *, on: bool) -> None:
        """Lets it act, or pauses it.

        Raises:
            RobotFault: It refuses, or does not answer.
        """
        answer = self._client.call(self._enable, SetBool.Request(data=on), PROMPT)
        if not answer.success:
            raise RobotFault(f"the policy node refuses: {answer.message}")
