"""ROS 2 lifecycle node that asks the policy server and sends its actions to the arm node.

Publishes ``ARM/command`` (std_msgs/Float64MultiArray) and ``~/reply`` (std_msgs/String), JSON of
:class:`tgrpo_ros.traffic.Reply`: each request and what became of it. Subscribes ``ARM/status`` and ``ARM/proprio``;
pictures come over ZeroMQ. Service ``~/enable`` (std_srvs/SetBool) pauses and resumes it. The parameters
``instruction``, ``temperature`` and ``server`` may change at any time; another server begins a new session.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any

from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool

from tgrpo.errors import SettingsError, WireError
from tgrpo.keys import ClientKeys
from tgrpo_ros import robot_config, status, traffic
from tgrpo_ros.frames import FrameReceiver, address_of
from tgrpo_ros.managed import LATCHED, OK, WARN, Health, ManagedNode, run
from tgrpo_ros.messages import command_message, lease_message, proprio_of
from tgrpo_ros.motion import Command, Source
from tgrpo_ros.parameters import ROBOT, Option
from tgrpo_ros.policy_loop import PolicyLoop
from tgrpo_ros.strategies import NAMES, Strategy

HEARTBEAT = 0.2
"""Between two signs of life to the holder of leases [s]; a lease lasts 1 s."""
OPTIONS = (
    *ROBOT,
    Option("arm", "tgrpo_arm", "name of the arm node"),
    Option("server", "tcp://127.0.0.1:5757", "address of the policy server, see `tgrpo serve`", dynamic=True),
    Option("server_key", "", "public key file of a server that wants keys, see `tgrpo keys`"),
    Option("client_key", "", "secret key file of this robot, for a server that wants keys"),
    Option("instruction", "", "the task in words; empty: that of the simulated scene", dynamic=True),
    Option("temperature", 0.0, "at which the policy samples; 0: the most likely", low=0.0, high=10.0, dynamic=True),
    Option("strategy", "receding_horizon", f"how chunks are executed: {', '.join(NAMES)}"),
    Option("execute", 8, "actions of a chunk that are executed before the policy is asked again", low=1, high=256),
    Option("decay", 0.01, "temporal ensembling: decay of the weights of newer chunks", low=0.0, high=10.0),
    Option("deadline_ms", 500.0, "time that an answer of the policy may take [ms]", low=1.0, high=60000.0),
)


class PolicyNode(ManagedNode):
    """Topics around one :class:`PolicyLoop`."""

    def __init__(self) -> None:
        super().__init__("tgrpo_policy", OPTIONS, "policy")
        if hasattr(self, "add_post_set_parameters_callback"):  # Humble has none, so there the next beat notices
            self.add_post_set_parameters_callback(lambda _: self._follow())
        self._loop: PolicyLoop | None = None
        self._session = ""

    def open(self) -> None:
        """Reads the settings and makes topics."""
        self._config = robot_config.load(self.value("robot"), self.workspace())
        self._keys = self._client_keys()
        self._strategy()  # refuses wrong settings now
        arm = self.value("arm")
        self._scene_instruction = ""
        if self._config.arm.driver == "sim" and not self.value("instruction"):
            self._scene_instruction = self.scene_description().instruction
        self._commands = self.publisher(Float64MultiArray, f"{arm}/command", 10)
        self._replies = self.publisher(String, "~/reply", 100)
        self.subscribe(String, f"{arm}/status", self._hear, LATCHED)
        self.subscribe(Float64MultiArray, f"{arm}/proprio", self._feel, 1)
        self.serve(SetBool, "~/enable", self._enable)
        self.every(HEARTBEAT, self._beat)

    def begin(self) -> None:
        """Begins a session: asks for the lease, and for actions once the arm runs."""
        self._session, self._server = secrets.token_hex(6), self.value("server")
        addresses = {camera.name: address_of(camera.name, self.get_namespace()) for camera in self._config.cameras}
        self._loop = PolicyLoop(
            self._server,
            self._config,
            self._strategy(),
            FrameReceiver(addresses, images=True),
            self._session,
            self._send,
            keys=self._keys,
            deadline_ms=self.value("deadline_ms"),
        )
        self._loop.tell = lambda reply: self._replies.publish(String(data=traffic.encode(reply)))
        self._follow()
        self._loop.start()
        self.get_logger().info(f"session {self._session}: {self._loop.instruction or 'no instruction yet'}")

    def pause(self) -> None:
        """Gives the lease back and stops asking."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None
            self._commands.publish(lease_message(Source.POLICY, self._session, self._config.action.dims, keep=False))

    def shut(self) -> None:
        """Nothing is open outside a session."""
        self.pause()

    def failure(self) -> str:
        """Why nobody asks the policy any more."""
        return "" if self._loop is None else self._loop.failure

    def health(self) -> Health:
        """Rate, jitter and age of commands, and what became of the requests."""
        health = Health()
        if self._loop is not None:
            counters = self._loop.counters
            health.add(self._loop.meter)
            health.level, health.message = OK if self._loop.doing == "asking" else WARN, self._loop.doing
            health.values |= {
                "session": self._session,
                "instruction": self._loop.instruction,
                "commands": str(counters.sent),
                "missed requests": str(counters.missed),
                "late answers": str(counters.late),
                "lost pictures": str(self._loop.lost),
            }
        return health

    def _strategy(self) -> Strategy:
        value = self.value
        period = 1.0 / self._config.action.rate
        return Strategy(value("strategy"), period, execute=value("execute"), decay=value("decay"))

    def _client_keys(self) -> ClientKeys | None:
        names = self.value("server_key"), self.value("client_key")
        if not any(names):
            return None
        if not all(names):
            raise SettingsError("server_key and client_key belong together; `tgrpo keys` makes both sides' files.")
        server, client = (Path(name).expanduser() for name in names)
        return ClientKeys(secret=client, server=server)

    def _follow(self) -> None:
        """Takes over parameters that may change during a session; another server is another session."""
        if self._loop is None:
            return
        if self.value("server") != self._server:
            self.pause()
            self.begin()
            return
        self._loop.instruction = str(self.value("instruction")) or self._scene_instruction
        self._loop.temperature = self.value("temperature")

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success = self._loop is not None
        response.message = "the policy may act" if request.data else "the policy pauses"
        if self._loop is None:
            response.message = "the policy node is not active; activate it first."
        else:
            self._loop.enabled = request.data
        return response

    def _send(self, command: Command) -> None:
        self._commands.publish(command_message(command))

    def _beat(self) -> None:
        if self._loop is not None:
            self._follow()
            self._commands.publish(lease_message(Source.POLICY, self._session, self._config.action.dims))

    def _hear(self, message: String) -> None:
        if self._loop is not None:
            try:
                self._loop.hear(status.decode(message.data))
            except WireError as error:
                self.get_logger().error(str(error), throttle_duration_sec=5.0)

    def _feel(self, message: Any) -> None:
        if self._loop is not None:
            try:
                self._loop.feel(*proprio_of(message))
            except WireError as error:
                self.get_logger().error(str(error), throttle_duration_sec=5.0)


def main(args: list[str] | None = None) -> int:
    """Entry point of ``tgrpo_policy_node``."""
    return run(PolicyNode, args)


if __name__ == "__main__":
    sys.exit(main())
