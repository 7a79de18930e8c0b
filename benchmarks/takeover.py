"""A person takes the arm from a policy and gives it back: `python -m benchmarks.takeover --times 30`.

First with real nodes (arm, camera, policy, teleoperation) and a real policy server; only physics and the model are
stood in for. A joystick message is the person's input. It is measured when the first human action begins in the control
loop, which ticks at 250 Hz, and whether any action of the policy begins between that moment and the hand-back. Then the
safety layer alone, on a clock of its own, where policy and person want opposite directions as fast as they may: does
any reference break a limit of position, speed or acceleration?
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from sensor_msgs.msg import Joy
from std_msgs.msg import String

from benchmarks.safety import BOX, JOINTS, TICK, Record, judge
from benchmarks.serving_parts import free_port
from tests.tgrpo_ros.robot_processes import ROBOT, Robot, Swaying
from tgrpo import rotation
from tgrpo.serving.core import Core
from tgrpo.serving.model import ServedModel
from tgrpo.serving.server import Server
from tgrpo.settings import from_builtins
from tgrpo.spec import ActionSpec
from tgrpo.types import FloatArray
from tgrpo_ros import traffic
from tgrpo_ros.motion import ArmState, Command, Pose, Source
from tgrpo_ros.safety import Guard, SafetySettings

HELD = Joy(axes=[0.0, 0.5, 0.0, 0.0, 0.0, 0.0], buttons=[0] * 10 + [1])
"""A gamepad whose dead-man button is held and whose stick is half way."""
LET_GO = Joy(axes=[0.0] * 6, buttons=[0] * 11)
RATE = 100.0
"""Messages of the device [1/s]."""


def take_over(robot: Robot, executed: list[traffic.Executed], rng: np.random.Generator) -> tuple[float, float, int]:
    """One take-over and hand-back.

    Returns:
        From the input to the first human action [s], from letting go to the next action of the policy [s], and how many
        actions of the policy began in between.
    """
    _publish(robot, LET_GO, float(rng.uniform(0.8, 1.6)))
    executed.clear()
    begun = time.monotonic()
    _publish(robot, HELD, 0.7)
    released = time.monotonic()
    _publish(robot, LET_GO, 1.5)
    human = [one.at for one in executed if one.source == "human"]
    policy = [one.at for one in executed if one.source == "policy"]
    back = min(at for at in policy if at > max(human))
    return min(human) - begun, back - released, sum(min(human) < at < max(human) for at in policy)


def _publish(robot: Robot, message: Joy, seconds: float) -> None:
    end, due = time.monotonic() + seconds, 0.0
    while (now := time.monotonic()) < end:
        if now >= due:
            due = now + 1.0 / RATE
            robot.joy.publish(message)
        rclpy.spin_once(robot.node, timeout_sec=0.001)


def with_nodes(times: int) -> list[tuple[float, float, int]]:
    """All take-overs by real nodes."""
    port, rng = free_port(), np.random.default_rng(0)
    core = Core(ServedModel(Swaying(), "swaying", "swaying@1"), max_batch=4, window=0.0, quota=2)
    server = Server(core, port=port)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        robot = Robot(rclpy, Path(folder), port)
        robot.config.write_text(ROBOT.replace("rate: 50.0", "rate: 250.0"), encoding="utf-8")
        executed: list[traffic.Executed] = []
        hear = lambda message: executed.append(traffic.decode(message.data, traffic.Executed))  # noqa: E731
        robot.node.create_subscription(String, "/tgrpo_arm/executed", hear, 1000)
        try:
            robot.armed()
            robot.start("teleop", device="joy", translation=1.0)
            ready = lambda: (robot.joy.publish(HELD), robot.statuses[-1]["source"] == "human")[1]  # noqa: E731
            robot.until(ready, "the teleoperation is not there")
            robot.until(lambda: robot.statuses[-1]["source"] == "policy", "not handed back")
            return [take_over(robot, executed, rng) for _ in range(times)]
        finally:
            robot.close()
            server.close()
            core.close()


def handovers(times: int, seed: int = 0) -> tuple[Record, SafetySettings, int]:
    """References of the safety layer while two sources that disagree take turns.

    Returns:
        The references, the limits, and how often the source changed.
    """
    settings = from_builtins({"workspace": BOX, "joints": JOINTS}, SafetySettings)
    guard = Guard(settings, ActionSpec(rate=10.0), [], now=0.0)
    rng, now, changes, rows = np.random.default_rng(seed), 0.0, 0, []
    pose, before, sequence = Pose(np.array([0.5, 0.0, 0.3]), rotation.identity()), None, 0
    guard.arm(now, _state(now, pose))
    for _ in range(times):
        held = float(rng.uniform(0.2, 0.8))
        until, engaged_until = now + held + float(rng.uniform(0.8, 1.6)), now + held
        asked = spoke = 0.0
        direction = rng.choice([-1.0, 1.0], size=7)
        while now < until:
            now += TICK
            if now >= asked:
                asked, sequence = now + 0.1, sequence + 1
                _say(guard, Source.POLICY, sequence, now, np.tile(direction, (8, 1)))
            if now >= spoke and now < engaged_until + 0.05:
                spoke, sequence = now + 1.0 / 30.0, sequence + 1
                _say(guard, Source.HUMAN, sequence, now, -direction[None], engaged=now < engaged_until)
            out = guard.tick(now, _state(now, pose))
            if out.reference is not None:
                pose = out.reference.pose
                rows.append([now, 0.0, *pose.position, *out.reference.linear, *out.reference.angular])
            changes += out.source is not before
            before = out.source
    table = np.array(rows)
    return Record(table[:, 0], table[:, 1], table[:, 2:5], table[:, 5:8], table[:, 8:11]), settings, changes


def _say(guard: Guard, source: Source, sequence: int, now: float, actions: FloatArray, *, engaged: bool = True) -> None:
    if guard.arbiter.holder(source) is None:
        guard.arbiter.acquire(source, "one", now)
    guard.submit(Command(source, "one", sequence, now, actions.astype(np.float32), engaged), now)


def _state(now: float, pose: Pose) -> ArmState:
    still = np.zeros(7)
    return ArmState(
        time=now,
        received=now,
        pose=pose,
        joints=still,
        joint_velocities=still,
        fingers=np.zeros(2),
        proprio=np.zeros(8, np.float32),
        mode="ready",
    )


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=30)
    times = parser.parse_args().times
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randrange(1, 101))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    record, settings, changes = handovers(10 * times)
    broken: dict[str, Any] = {name: count for name, count in judge(record, settings).items() if count}
    fastest = float(np.linalg.norm(record.linear, axis=1).max())
    print(
        f"{changes} changes of the source, {len(record.times)} references, up to {fastest:.2f} m/s of "
        f"{settings.motion.linear_speed:.2f}; limits broken: {broken or 'none'}"
    )
    rclpy.init()
    found = with_nodes(times)
    rclpy.try_shutdown()
    print("| from | median [ms] | most [ms] |\n|---|---|---|")
    for place, name in enumerate(("input to the first human action", "letting go to the next action of the policy")):
        values = [1000.0 * float(one[place]) for one in found]
        print(f"| {name} | {np.median(values):.0f} | {max(values):.0f} |")
    print(f"{len(found)} take-overs; actions of the policy between: {sum(one[2] for one in found)}")


if __name__ == "__main__":
    main()
