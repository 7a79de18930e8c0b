"""How long a picture takes to become a command, without a model: `python benchmarks/robot_latency.py --seconds 60`.

Two cameras of 640x480 that take their pictures together, 30 times a second, in a process of their own; a real policy
node; a real policy server around a model that answers at once; and this process, which is the arm: it grants the lease
and stamps each command when it arrives. The pictures are scaled to 224 px by the policy node, as for a
real policy. A command is asked for every 100 ms. What is measured ends before the safety layer, which takes a command
within one tick (4 ms at 250 Hz). With `--apart` the second camera is not triggered by the first but takes its
pictures so much later, as free-running cameras do; then the older of two pictures is what counts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Float64MultiArray, String

from benchmarks.serving_parts import free_port
from tgrpo.spec import ActionSpec, ObservationSpec, PolicySpec
from tgrpo.types import ActionChunk
from tgrpo_ros import status, traffic
from tgrpo_ros.drivers.base import Frame
from tgrpo_ros.frames import FrameSender, address_of
from tgrpo_ros.managed import LATCHED
from tgrpo_ros.messages import command_of, proprio_message

CAMERAS = ("agentview", "robot0_eye_in_hand")
RATE = 30.0
WARM = 20
"""Commands that are not counted."""
CONFIG = """
arm: {driver: sim}
action: {rate: 10.0}
safety:
  workspace: {low: [-1, -1, 0], high: [1, 1, 2]}
  joints: {low: [-3, -3, -3, -3, -3, -3, -3], high: [3, 3, 3, 3, 3, 3, 3]}
cameras:
  - {name: agentview, driver: sim}
  - {name: robot0_eye_in_hand, driver: sim}
"""


class Instant:
    """A policy that answers at once."""

    spec = PolicySpec(
        action=ActionSpec(rate=10.0), observation=ObservationSpec(cameras=CAMERAS, size=224, proprio=True)
    )

    def reset(self, seeds: Any) -> None:
        """Nothing is sampled."""

    def act(self, observations: Any, *, temperature: float = 0.0, rows: Any = None) -> list[ActionChunk]:
        """Eight actions that do nothing."""
        return [ActionChunk(np.zeros((8, 7), np.float32))] * len(observations)


def serve(port: int) -> None:
    """A real server around it."""
    from tgrpo.serving.core import Core
    from tgrpo.serving.model import ServedModel
    from tgrpo.serving.server import Server

    server = Server(Core(ServedModel(Instant(), "instant", "instant@1"), max_batch=1, window=0.0, quota=2), port=port)
    while True:
        time.sleep(60.0)
    server.close()


def film(addresses: dict[str, str], apart: float) -> None:
    """Both cameras, the second one `apart` [s] after the first."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(8)]
    senders = [FrameSender(address, camera) for camera, address in addresses.items()]
    sequence, captured, due = 0, 0.0, time.monotonic()
    while True:
        sequence, due = sequence + 1, due + 1.0 / RATE
        for place, sender in enumerate(senders):
            time.sleep(max(0.0, due + place * apart - time.monotonic()))
            captured = time.monotonic() if apart or place == 0 else captured
            sender.send(Frame(pictures[sequence % 8], captured, sequence, "steady"))


STAGES = ("picture to request", "policy server", "command topic", "all")


class Stopwatch:
    """Joins commands with the requests behind them, which come on two topics.

    Attributes:
        session: Of the policy node.
        found: Stage to its times [s].
    """

    def __init__(self) -> None:
        """Has seen nothing."""
        self.session = ""
        self.found: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self._arrived: dict[int, float] = {}
        self._replies: dict[int, traffic.Reply] = {}

    def take(self, message: Float64MultiArray) -> None:
        """A command."""
        now, command = time.monotonic(), command_of(message)
        self.session = command.session
        if len(command.actions):
            self._arrived[command.sequence] = now
            self._join(command.sequence)

    def listen(self, message: String) -> None:
        """A request and its reply."""
        reply = traffic.decode(message.data, traffic.Reply)
        self._replies[reply.sequence] = reply
        self._join(reply.sequence)

    def _join(self, sequence: int) -> None:
        if sequence not in self._arrived or sequence not in self._replies:
            return
        now, reply = self._arrived.pop(sequence), self._replies.pop(sequence)
        answered = reply.asked + reply.latency
        times = (reply.asked - reply.observed, reply.latency, now - answered, now - reply.observed)
        for stage, duration in zip(STAGES, times, strict=True):
            self.found[stage].append(duration)


def measure(seconds: float, spin: Callable[[], None], node: Any) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Times of each stage [s], and what the policy node says of itself at the end."""
    watch = Stopwatch()
    health: dict[str, str] = {}

    def hear(message: DiagnosticArray) -> None:
        for one in message.status:
            if one.name.startswith("tgrpo_policy"):
                health.update({value.key: value.value for value in one.values})

    node.create_subscription(Float64MultiArray, "tgrpo_arm/command", watch.take, 10)
    node.create_subscription(String, "tgrpo_policy/reply", watch.listen, 100)
    node.create_subscription(DiagnosticArray, "/diagnostics", hear, 10)
    told = node.create_publisher(String, "tgrpo_arm/status", LATCHED)
    felt = node.create_publisher(Float64MultiArray, "tgrpo_arm/proprio", 1)
    end, due = float("inf"), 0.0
    while time.monotonic() < end:
        spin()
        if time.monotonic() >= due:
            due = time.monotonic() + 0.02
            felt.publish(proprio_message(time.monotonic(), np.zeros(8, np.float32)))
            leases = {"policy": watch.session} if watch.session else {}
            told.publish(String(data=status.encode(status.ArmStatus(level="RUN", leases=leases))))
        if len(watch.found["all"]) == WARM and end == float("inf"):
            end = time.monotonic() + seconds
    return {stage: times[WARM:] for stage, times in watch.found.items()}, health


def main() -> int:
    """Runs it and prints one row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--apart", type=float, default=0.0, help="between the pictures of the two cameras [ms]")
    options = parser.parse_args()
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randrange(1, 101))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    context, port = multiprocessing.get_context("spawn"), free_port()
    addresses = {camera: address_of(camera) for camera in CAMERAS}
    tasks = [(serve, (port,)), (film, (addresses, options.apart / 1000.0))]
    children = [context.Process(target=task, args=arguments) for task, arguments in tasks]
    for child in children:
        child.start()
    rclpy.init()
    node = rclpy.create_node("tgrpo_arm")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "robot.yaml")
        config.write_text(CONFIG, encoding="utf-8")
        parameters = {"robot": config, "server": f"tcp://127.0.0.1:{port}", "instruction": "wave", "execute": 1}
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        policy = subprocess.Popen([sys.executable, "-m", "tgrpo_ros.policy_node", "--ros-args", *words])
        try:
            found, health = measure(options.seconds, lambda: rclpy.spin_once(node, timeout_sec=0.002), node)
        finally:
            policy.terminate()
            policy.wait()
            for child in children:
                child.terminate()
                child.join()
            node.destroy_node()
            rclpy.try_shutdown()
    print("| stage | p50 [ms] | p99 [ms] | most [ms] |\n|---|---|---|---|")
    for stage in STAGES:
        p50, p99, most = (1000.0 * float(np.percentile(found[stage], share)) for share in (50, 99, 100))
        print(f"| {stage} | {p50:.1f} | {p99:.1f} | {most:.1f} |")
    print(f"\n{len(found['all'])} commands; pictures lost: {health.get('lost pictures')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
