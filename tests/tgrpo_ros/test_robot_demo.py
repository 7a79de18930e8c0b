"""The demo, end to end: real server, scene and nodes; an episode is that of an evaluation, step for step."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tgrpo_ros.session_launch import installed

pytest.importorskip("rclpy")
pytest.importorskip("libero")

ROOT = Path(__file__).parents[2]
LAUNCH = [sys.executable, "-m", "tgrpo_ros.standin.cli", "tgrpo_ros"]
NODES = ("camera", "arm", "policy", "episodes")
STEPS = 24
"""A step limit that three chunks reach: what is compared is every step, not whether the task is solved."""

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture
def environment(tmp_path):
    """This checkout, installed as a package is, and with a place of its own for sockets."""
    return {**os.environ, **installed(tmp_path, NODES)}


def launch(environment, *arguments, file="demo.launch.py"):
    return subprocess.run([*LAUNCH, file, *arguments], env=environment, capture_output=True, text=True, timeout=570)


def evaluated():
    """Proprioception ``(8,)`` after each step of the same episode, without ROS."""
    from sim.libero import make
    from tgrpo import policies
    from tgrpo.policies import shipped

    env = make("libero_object", 4, "fast", ("agentview", "robot0_eye_in_hand"), 64)
    policy = policies.load(shipped("tiny-libero"))
    env.reset(1)
    policy.reset([0])
    felt = []
    while len(felt) < STEPS:
        (chunk,) = policy.act([env.observation()], temperature=0.0)
        for action in chunk.actions:
            env.step(action)
            felt.append(env.proprio())
    env.close()
    return felt


def test_the_robot_moves_as_an_evaluation_does(environment, ros, tmp_path):
    from std_msgs.msg import Float64MultiArray

    from tgrpo_ros.messages import proprio_of

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    result, log, felt = tmp_path / "result.json", tmp_path / "log.txt", {}
    words = ["task:=4", "states:=1", f"max_steps:={STEPS}", f"port:={port}", f"json:={result}"]
    node = ros.create_node("observer")
    hear = lambda message: felt.update([proprio_of(message)])  # noqa: E731
    node.create_subscription(Float64MultiArray, "/tgrpo_arm/proprio", hear, 100)
    with log.open("w") as file:
        process = subprocess.Popen([*LAUNCH, "demo.launch.py", *words], env=environment, stdout=file, stderr=file)
        while process.poll() is None:
            ros.spin_once(node, timeout_sec=0.1)
    node.destroy_node()
    assert process.returncode == 0, log.read_text()[-3000:]
    (episode,) = json.loads(result.read_text())["episodes"]
    assert (episode["init_state"], episode["steps"], episode["success"]) == (1, STEPS, False)
    assert "all episodes were played" in log.read_text()

    end, wanted = max(felt), evaluated()
    places = {STEPS - 1 - round((end - time) / 0.05): values for time, values in felt.items()}
    compared = [place for place in places if place >= 0]
    assert len(compared) >= STEPS - 4  # a busy machine may miss a report, never a step
    for place in compared:
        assert places[place] == pytest.approx(wanted[place], abs=1e-5), f"step {place + 1}"


@pytest.mark.parametrize(
    ("file", "arguments", "message"),
    [
        ("demo.launch.py", ["tusk:=3"], "Did you mean 'task'"),
        ("robot.launch.py", ["robot:=fr4"], "unknown robot 'fr4'"),
        ("robot.launch.py", ["robbot:=sim"], "Did you mean 'robot'"),
        ("robot.launch.py", ["strategy:=guess"], "is not one of the choices"),
    ],
)
def test_wrong_arguments_start_nothing(environment, file, arguments, message):
    done = launch(environment, *arguments, file=file)
    assert done.returncode == 1
    assert message in done.stdout
    assert "process started" not in done.stdout


def test_a_real_robot_does_not_start_without_its_workspace(environment):
    done = launch(environment, "robot:=fr3", file="robot.launch.py")
    assert done.returncode == 1
    assert "workspace is missing" in done.stdout
