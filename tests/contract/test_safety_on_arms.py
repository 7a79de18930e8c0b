"""The safety layer between commands and the drivers: simulated arm in lockstep, FR3 driver in real time."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from tgrpo_ros.motion import Command, Source
from tgrpo_ros.robot_config import load
from tgrpo_ros.safety import Guard, Level

RECORDING = Path(__file__).parents[1] / "sim" / "data" / "libero_object_0_state1.json"
K = 8


def play(arm, actions, cameras=(), each=lambda guard: None):
    """Sends actions in chunks of K through the safety layer; returns the layer and the steps until success."""
    config = load("sim")
    guard = Guard(config.safety, config.action, cameras, arm.now(), still=cameras)
    guard.arbiter.acquire(Source.POLICY, "test", arm.now())
    guard.arm(arm.now(), arm.state())
    arm.start()
    for step in range(len(actions)):
        each(guard)
        if step % K == 0:
            command = Command(Source.POLICY, "test", step, arm.now(), actions[step : step + K])
            assert guard.submit(command, arm.now()) == ""
        out = guard.tick(arm.now(), arm.state())
        assert out.level is Level.RUN, guard.ladder.describe()
        if out.gripper is not None:
            arm.grip(out.gripper)
        arm.follow(out.reference)
        if arm.success:
            return guard, step + 1
    return guard, len(actions)


def test_actions_reach_the_simulated_arm_unchanged(sim):
    """Through all gates, the child process and back, the recorded actions solve the task in as many steps as alone."""
    actions = np.array(json.loads(RECORDING.read_text()), np.float32) / 100
    sim.reset(1)
    guard, steps = play(sim, np.clip(actions, -1.0, 1.0))
    assert sim.success
    assert steps == len(actions)
    assert guard.starved == 0
    assert guard.bad == 0


def test_frames_of_the_scene_satisfy_the_watchdog(sim, sim_camera):
    from tgrpo_ros.safety.cameras import digest

    def look(guard):
        frame = sim_camera.read(0.2)
        if frame is not None:
            guard.watch.see("agentview", frame.captured, digest(frame.image), sim.now())

    guard, _ = play(sim, np.zeros((24, 7), np.float32), ["agentview"], look)
    assert guard.ladder.level is Level.RUN


@pytest.mark.slow
def test_the_fr3_driver_follows_what_the_safety_layer_permits(franky, tmp_path):
    box = tmp_path / "box.yaml"
    box.write_text("low: [0.3, -0.3, 0.1]\nhigh: [0.7, 0.3, 0.6]\n")
    config = load("fr3", box)
    guard = Guard(config.safety, config.action, (), time.monotonic())
    guard.arbiter.acquire(Source.POLICY, "test", time.monotonic())
    guard.arm(time.monotonic(), franky.state())
    franky.start()
    action = np.tile(np.array([0.1, 0.0, 0.2, 0.0, 0.0, 0.0, 1.0], np.float32), (K, 1))
    begun, due, sequence, limits = time.monotonic(), 0.0, 0, config.safety.motion
    before = franky.state().pose.position
    references = []
    while (now := time.monotonic()) < begun + 2.0:
        if now >= due:
            guard.submit(Command(Source.POLICY, "test", sequence, now, action), now)
            sequence, due = sequence + 1, now + 0.1
        out = guard.tick(now, franky.state())
        if out.gripper is not None:
            franky.grip(out.gripper)
        if out.reference is not None:
            franky.follow(out.reference)
            references.append(out.reference)
        time.sleep(0.002)
    # On a machine that is too busy the layer holds; what it lets through stays within the limits all the same.
    assert max(np.linalg.norm(reference.linear) for reference in references) <= limits.linear_speed + 1e-9
    moved = references[-1].pose.position - before
    assert moved[2] > 0.0
    assert np.linalg.norm(franky.state().pose.position - references[-1].pose.position) < 0.02
