"""Each check of `tgrpo doctor --robot`, right and wrong, against real sockets, files and nodes."""

import socket

import pytest
import yaml

from tgrpo import keys
from tgrpo_ros import robot_checks
from tgrpo_ros.robot_config import CameraConfig


@pytest.fixture
def box(tmp_path):
    path = tmp_path / "box.yaml"
    path.write_text(yaml.safe_dump({"low": [0.3, -0.3, 0.1], "high": [0.7, 0.3, 0.6]}))
    return str(path)


def test_every_check_of_an_fr3_names_its_remedy(box, monkeypatch):
    monkeypatch.setattr(robot_checks, "REACH", 0.2)
    monkeypatch.setattr(robot_checks, "DISCOVERY", "raise SystemExit('nobody heard')")
    results = [check() for check in robot_checks.checks("fr3", box)]
    names = [result.name for result in results]
    assert names == [
        "robot configuration", "FCI", "franky-control", "camera agentview", "wall clock", "wake-ups", "real time",
        "ROS discovery", "key files",
    ]  # fmt: skip
    assert all(result.remedy for result in results if result.status != "ok")
    assert "nobody heard" in results[names.index("ROS discovery")].detail


def test_fci_that_answers_refuses_and_is_away():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert robot_checks.fci("127.0.0.1", port).status in ("ok", "warning")
    refused = robot_checks.fci("127.0.0.1", port)
    assert "refuses" in refused.detail
    assert "activate FCI in Desk" in refused.remedy


def test_a_camera_that_is_not_there(tmp_path):
    pytest.importorskip("pyrealsense2", exc_type=ImportError)
    absent = robot_checks.camera(CameraConfig(name="front", driver="realsense", serial="1"))
    assert absent.status == "failed"
    assert "serial 1 is not connected; there are: none" in absent.detail
    lost = robot_checks.camera(CameraConfig(name="front", driver="video", file=str(tmp_path / "no.mp4")))
    assert lost.status == "failed"


def test_a_machine_that_wakes_late(monkeypatch):
    monkeypatch.setattr(robot_checks, "LATE", 0.0)
    assert robot_checks.wake_up(20).status == "warning"
    monkeypatch.setattr(robot_checks, "LATE", 10.0)
    assert robot_checks.wake_up(20).status == "ok"


def test_kernel(monkeypatch, tmp_path):
    flag = tmp_path / "realtime"
    monkeypatch.setattr(robot_checks, "REALTIME", flag)
    assert "no PREEMPT_RT kernel" in robot_checks.kernel().detail
    flag.write_text("1\n")
    monkeypatch.setattr(robot_checks.os, "geteuid", lambda: 0)
    assert robot_checks.kernel().status == "ok"


def test_keys_that_others_may_read(tmp_path):
    assert "needs none" in robot_checks.key_files(tmp_path / "keys").detail
    secret, _ = keys.make("fr3", tmp_path / "keys")
    assert robot_checks.key_files(tmp_path / "keys").detail == "fr3.key"
    secret.chmod(0o644)
    assert robot_checks.key_files(tmp_path / "keys").status == "failed"


@pytest.mark.ros
def test_discovery(monkeypatch):
    pytest.importorskip("rclpy")
    assert robot_checks.discovery().status == "ok"
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    found = robot_checks.discovery()
    assert (found.status, "whole network" in found.detail) == ("warning", True)
