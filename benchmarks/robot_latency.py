"""How long a picture takes to become a command, without a model: `python benchmarks/robot_latency.py --seconds 60`.

Two cameras of 640x480 that take their pictures together, 30 times a second, in a process of their own; a real policy
node; a real policy server around a model that answers at once; and this process, which is the arm: it grants the lease
and stamps each command when it arrives. The pictures are scaled to 224 px by the policy node, as for a
real policy. A command is asked for every 100 ms. What is measured ends before the safety layer, which takes a command
within one tick (4 ms at 250 Hz).
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
from tgrpo_ros import status
from tgrpo_ros.drivers.base import Frame
from tgrpo_ros.frames import FrameSender, address_of
from tgrpo_ros.managed import LATCHED
from tgrpo_ros.messages import command_of, proprio_message

CAMERAS = ("agentview", "robot0_eye_in_hand")
RATE = 30.0
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


def film(addresses: dict[str, str]) -> None:
    """Both cameras, triggered together."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(8)]
    senders = [FrameSender(address, camera) for camera, address in addresses.items()]
    sequence, due = 0, time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        now, due, sequence = time.monotonic(), due + 1.0 / RATE, sequence + 1
        for sender in senders:
            sender.send(Frame(pictures[sequence % 8], now, sequence, "steady"))


def measure(seconds: float, spin: Callable[[], None], node: Any) -> tuple[list[float], dict[str, str]]:
    """Latencies [s], and what the policy node says of itself at the end."""
    found: list[float] = []
    health: dict[str, str] = {}
    sender = [""]

    def take(message: Float64MultiArray) -> None:
        now, command = time.monotonic(), command_of(message)
        sender[0] = command.session
        if len(command.actions):
            found.append(now - command.observed)

    def hear(message: DiagnosticArray) -> None:
        for one in message.status:
            if one.name.startswith("tgrpo_policy"):
                health.update({value.key: value.value for value in one.values})

    node.create_subscription(Float64MultiArray, "tgrpo_arm/command", take, 10)
    node.create_subscription(DiagnosticArray, "/diagnostics", hear, 10)
    told = node.create_publisher(String, "tgrpo_arm/status", LATCHED)
    felt = node.create_publisher(Float64MultiArray, "tgrpo_arm/proprio", 1)
    end, due = float("inf"), 0.0
    while time.monotonic() < end:
        spin()
        if time.monotonic() >= due:
            due = time.monotonic() + 0.02
            felt.publish(proprio_message(time.monotonic(), np.zeros(8, np.float32)))
            leases = {"policy": sender[0]} if sender[0] else {}
            told.publish(String(data=status.encode(status.ArmStatus(level="RUN", leases=leases))))
        if len(found) == 20 and end == float("inf"):  # warm
            end = time.monotonic() + seconds
    return found[20:], health


def main() -> int:
    """Runs it and prints one row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randrange(1, 101))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    context, port = multiprocessing.get_context("spawn"), free_port()
    addresses = {camera: address_of(camera) for camera in CAMERAS}
    children = [context.Process(target=serve, args=(port,)), context.Process(target=film, args=(addresses,))]
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
    p50, p99 = (1000.0 * float(np.percentile(found, share)) for share in (50, 99))
    print("| commands | image to command: p50 [ms] | p99 [ms] | most [ms] | pictures lost |\n|---|---|---|---|---|")
    print(f"| {len(found)} | {p50:.1f} | {p99:.1f} | {1000.0 * max(found):.1f} | {health.get('lost pictures')} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
