"""Programs of the nodes, started as launch starts them."""

import os
import signal
import subprocess

import pytest

from tests.tgrpo_ros.session_launch import ROOT, program

SLOW = """
import os, pathlib, time
pathlib.Path(os.environ["STARTED"]).touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["trainer", "camera", "arm", "policy", "teleop", "episodes", "session", "operator"])
def test_interrupted_while_it_imports_a_node_ends_quietly(kind, number, tmp_path, wait):
    (tmp_path / "rclpy.py").write_text(SLOW)
    path = tmp_path / f"tgrpo_{kind}_node"
    program(path)
    where = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "STARTED": str(tmp_path / "started")}
    process = subprocess.Popen([path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=where)
    try:
        wait((tmp_path / "started").exists)
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, said) == (0, "")
