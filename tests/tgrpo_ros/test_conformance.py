"""The stand-in starts the same processes as ROS 2's launch 3.7.1; see conformance/record.py."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "conformance"
spec = importlib.util.spec_from_file_location("record", HERE / "record.py")
record = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record)
GOLDEN = json.loads((HERE / "golden.json").read_text())


ROS = [sys.executable, "-c", record.REAL]
STANDIN = [sys.executable, "-m", "tgrpo_ros.standin.cli"]


@pytest.mark.parametrize("case", record.CASES)
@pytest.mark.parametrize("launcher", [STANDIN, ROS], ids=["stand-in", "ros"])
def test_same_processes_as_ros(launcher, case):
    if launcher is ROS:
        pytest.importorskip("launch_ros", reason="ROS 2's own launch is not installed")
    seen = record.observe(launcher, record.CASES[case])
    if case == "system failing node":  # how far the others come before they are stopped is chance
        assert seen["exit_code"] == GOLDEN[case]["exit_code"]
    else:
        assert seen == GOLDEN[case]


def test_golden_file_is_not_empty():
    assert len(GOLDEN["system"]["processes"]) == 14
    assert GOLDEN["system failing node"]["exit_code"] == 1
