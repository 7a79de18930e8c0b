"""What the stand-in refuses, how it ends processes, and the shipped launch file with a real node."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.tgrpo_ros.session_launch import program

LAUNCH = [sys.executable, "-m", "tgrpo_ros.standin.cli"]
HEAD = """
from launch import LaunchDescription
from launch.actions import *
from launch_ros.actions import Node
import sys
"""


def write(tmp_path, body, head=HEAD):
    path = tmp_path / "one.launch.py"
    path.write_text(head + "def generate_launch_description():\n" + textwrap.indent(textwrap.dedent(body), "    "))
    return str(path)


def run(*words, **more):
    return subprocess.run([*LAUNCH, *words], capture_output=True, text=True, timeout=120, **more)


@pytest.mark.parametrize(
    "line",
    [
        "from launch.actions import TimerAction",
        "from launch.events import matches_action",
        "from launch_ros.actions import ComposableNodeContainer",
        "import launch_testing",
    ],
)
def test_imports_outside_the_subset_are_refused(tmp_path, line):
    done = run(write(tmp_path, "return LaunchDescription([])", HEAD + line + "\n"))
    assert done.returncode == 1
    assert "ImportError" in done.stdout or "ModuleNotFoundError" in done.stdout


@pytest.mark.parametrize(
    "action",
    [
        "Node(executable='true', prefix='gdb')",
        "ExecuteProcess(cmd=['true'], shell=True)",
        "ExecuteProcess(cmd=['true'], output='both')",
        "GroupAction([], forwarding=False)",
        "SetParameter()",
    ],
)
def test_options_outside_the_subset_are_refused(tmp_path, action):
    done = run(write(tmp_path, f"return LaunchDescription([{action}])"))
    assert done.returncode == 1
    assert "TypeError" in done.stdout or "NameError" in done.stdout


def test_file_without_a_description_is_refused(tmp_path):
    assert "must return a LaunchDescription" in run(write(tmp_path, "return None")).stdout


def test_required_argument_is_asked_for(tmp_path):
    path = write(tmp_path, "return LaunchDescription([DeclareLaunchArgument('task')])")
    assert "'task' was not provided" in run(path).stdout
    assert run(path, "task:=1").returncode == 0


def test_output_is_prefixed_and_failure_alone_is_no_failure_of_the_launch(tmp_path):
    done = run(write(tmp_path, "return LaunchDescription([ExecuteProcess(cmd=['sh', '-c', 'echo hello; exit 3'])])"))
    assert "[sh-1] hello\n" in done.stdout
    assert "exit code 3" in done.stdout
    assert done.returncode == 0  # as in ROS: a launch file decides with OnProcessExit


@pytest.mark.parametrize(
    ("traps", "last"),
    [("INT", "SIGTERM"), ("INT TERM", "SIGKILL"), ("", "SIGINT")],
)
def test_ctrl_c_escalates_as_far_as_needed(tmp_path, wait, traps, last):
    script = "".join(f"trap '' {name}; " for name in traps.split()) + "touch ready; while :; do sleep 0.05; done"
    body = f"""
        return LaunchDescription([ExecuteProcess(
            cmd=['sh', '-c', {script!r}], sigterm_timeout='0.2', sigkill_timeout='0.2')])
    """
    process = subprocess.Popen([*LAUNCH, write(tmp_path, body)], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    wait((tmp_path / "ready").exists)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    sent = [name for name in ("SIGINT", "SIGTERM", "SIGKILL") if f"'{name}'" in output]
    assert sent[-1] == last


def test_what_dies_is_started_again_until_the_launch_ends(tmp_path, wait):
    script = "echo $$ >> pids; sleep 0.1; kill -9 $$"
    body = f"return LaunchDescription([ExecuteProcess(cmd=['sh', '-c', {script!r}], respawn=True, respawn_delay=0.05)])"
    process = subprocess.Popen([*LAUNCH, write(tmp_path, body)], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    pids = tmp_path / "pids"
    wait(lambda: pids.exists() and len(pids.read_text().split()) >= 3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.count("exit code -9") >= 2
    assert len(set(pids.read_text().split())) >= 3


def test_files_of_parameters_go_with_the_launch(tmp_path):
    """A killed node and one that is started again have read theirs."""
    script = tmp_path / "node.sh"
    script.write_text(f"#!/bin/sh\nls {tmp_path}/*/launch_params_* >> {tmp_path}/seen; kill -9 $$\n")
    script.chmod(0o755)
    node = f"Node(executable='{script}', parameters=[{{'a': 1}}], respawn=True, on_exit=None)"
    end = f"ExecuteProcess(cmd=['sh', '-c', 'while [ $(cat {tmp_path}/seen | wc -l) -lt 3 ]; do sleep 0.1; done'], "
    body = f"return LaunchDescription([{node}, {end}on_exit=Shutdown(reason='seen'))])"
    done = run(write(tmp_path, body), env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0
    assert len(set((tmp_path / "seen").read_text().split())) >= 2
    assert list(tmp_path.glob("*/launch_params_*")) == []


def test_wrong_use_names_what_there_is(tmp_path):
    assert run().returncode == 2
    assert "not found" in run("no_such_package", "x.launch.py").stderr
    write(tmp_path, "return LaunchDescription([])")
    assert "one.launch.py" in run(str(tmp_path / "two.launch.py")).stderr


@pytest.fixture
def prefix(tmp_path):
    """This checkout, installed as a package is: what `make setup` does to the virtual environment."""
    from pathlib import Path

    root, folder = Path(__file__).parents[2], tmp_path / "prefix"
    for name in ("share/ament_index/resource_index/packages", "share/tgrpo_ros", "lib/tgrpo_ros"):
        (folder / name).mkdir(parents=True)
    (folder / "share/ament_index/resource_index/packages/tgrpo_ros").touch()
    (folder / "share/tgrpo_ros/launch").symlink_to(root / "launch")
    program(folder / "lib/tgrpo_ros/tgrpo_trainer_node")
    return {**os.environ, "AMENT_PREFIX_PATH": str(folder), "PYTHONPATH": str(root)}


def test_show_arguments(prefix):
    done = run("tgrpo_ros", "sim_train.launch.py", "--show-args", env=prefix)
    assert done.returncode == 0
    assert "'preset':\n        algorithm settings" in done.stdout
    assert "Valid choices are: ['', 'fast', 'paper']" in done.stdout


def test_unknown_argument_is_refused_with_a_suggestion(prefix):
    done = run("tgrpo_ros", "sim_train.launch.py", "taks:=3", env=prefix)
    assert done.returncode == 1
    assert "unknown launch argument 'taks'. Did you mean 'task'?" in done.stdout


@pytest.mark.ros
@pytest.mark.parametrize(("code", "expected"), [("0", 0), ("5", 1)])
def test_sim_train_end_to_end(prefix, fake_tgrpo, tmp_path, code, expected):
    pytest.importorskip("rclpy")
    words = ["iterations:=2", f"run_dir:={tmp_path / 'run'}", "task:=3", f"train_args:=--exit {code}"]
    done = run("tgrpo_ros", "sim_train.launch.py", *words, env={**prefix, "TGRPO_COMMAND": str(fake_tgrpo)})
    assert done.returncode == expected
    assert "[tgrpo_trainer_node-1] a line on stdout\n" in done.stdout
    arguments = json.loads((tmp_path / "run" / "arguments.json").read_text())
    assert arguments[arguments.index("--task") + 1] == "3"


@pytest.mark.ros
def test_sim_train_ctrl_c_stops_with_a_checkpoint(prefix, fake_tgrpo, tmp_path, wait):
    pytest.importorskip("rclpy")
    command = [*LAUNCH, "tgrpo_ros", "sim_train.launch.py", f"run_dir:={tmp_path / 'run'}"]
    environment = {**prefix, "TGRPO_COMMAND": str(fake_tgrpo)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    wait((tmp_path / "run" / "status.json").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads((tmp_path / "run" / "heard.json").read_text()) == ["SIGINT"]
