"""Every driver, ready to be held to its contract; hardware that is not there is replaced at its outermost edge."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tgrpo_ros.robot_config import ArmConfig, CameraConfig
from tgrpo_ros.safety.settings import JointLimits

FAKES = Path(__file__).parent / "fakes"
ROOT = Path(__file__).resolve().parents[2]
JOINTS = JointLimits(low=(-2.7,) * 7, high=(2.7,) * 7)


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    """A real LIBERO scene in a child process, advancing with each command."""
    pytest.importorskip("libero")
    from tgrpo_ros.drivers.sim_scene import SceneProcess

    program = tmp_path_factory.mktemp("bin") / "tgrpo"
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from sim.robot import main; import sys; main(sys.argv[2:])" "$@"\n'
    )
    program.chmod(0o755)
    before = {name: os.environ.get(name) for name in ("TGRPO_COMMAND", "PYTHONPATH")}
    os.environ.update(TGRPO_COMMAND=str(program), PYTHONPATH=str(ROOT))
    try:
        with SceneProcess(["--pace", "fast", "--size", "64"]) as running:
            yield running
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Puts the fake libraries before real ones in child processes; returns a function that plants faults."""
    monkeypatch.setenv("PYTHONPATH", f"{FAKES}{os.pathsep}{ROOT}")
    for name in ("FAKE_FRANKY", "FAKE_REALSENSE"):
        monkeypatch.setenv(name, str(tmp_path / name))

    def plant(name, fault):
        (tmp_path / name).write_text(fault)

    return plant


@pytest.fixture
def franky(fakes):
    from tgrpo_ros.drivers.franky import FrankyArm

    arm = FrankyArm(ArmConfig(driver="franky", host="172.16.0.2"), JOINTS)
    yield arm
    arm.close()


@pytest.fixture
def sim(scene):
    from tgrpo_ros.drivers.sim_arm import SimArm

    arm = SimArm(scene.address)
    arm.reset(0)
    yield arm
    arm.close()


@pytest.fixture
def controller(tmp_path):
    """A ROS controller in a process of its own; returns a function that starts it."""
    pytest.importorskip("rclpy")
    started = []

    def begin(*arguments):
        command = [sys.executable, str(FAKES / "controller_node.py"), *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline().strip() == "ready"
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def topic_names(tmp_path):
    from tgrpo_ros.robot_config import load

    box = tmp_path / "box.yaml"
    box.write_text("low: [0.3, -0.3, 0.1]\nhigh: [0.7, 0.3, 0.6]\n")
    return load("topics", box).arm.topics


@pytest.fixture
def topics(controller, topic_names):
    from tgrpo_ros.drivers.topics import TopicArm

    controller()
    arm = TopicArm(topic_names, patience=20.0)
    yield arm
    arm.close()


@pytest.fixture(params=["franky", "sim", "topics"])
def arm(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def realsense_config():
    return CameraConfig(name="front", driver="realsense", serial="123456789", width=64, height=48, rate=60.0)


@pytest.fixture
def realsense(fakes, realsense_config):
    from tgrpo_ros.drivers.realsense import RealSense

    camera = RealSense(realsense_config)
    yield camera
    camera.close()


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """A recording of a RealSense that never was, written by librealsense itself: frames are numbered in a corner."""
    why = "needs pyrealsense2 and libusb-1.0-0: make setup"
    recorder = pytest.importorskip("tests.contract.realsense_recording", reason=why, exc_type=ImportError)
    path = tmp_path_factory.mktemp("realsense") / "camera.db3"
    recorder.record(path, recorder.SERIAL, seconds=2.0)
    return path


@pytest.fixture
def plug(monkeypatch, tmp_path):
    """Lets a test pull the plug of a camera that the real librealsense plays in a driver's process."""
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent / 'plug'}{os.pathsep}{ROOT}")
    monkeypatch.setenv("CAMERA_PLUG", str(tmp_path / "pulled"))
    return tmp_path / "pulled"


@pytest.fixture
def recorded_config(recording):
    return CameraConfig(
        name="front", driver="realsense", serial="843112070123", file=str(recording), width=320, height=240, rate=30.0
    )


@pytest.fixture
def librealsense(monkeypatch, recorded_config):
    """The real driver over the real librealsense, with a recording in place of a device."""
    from tgrpo_ros.drivers.realsense import RealSense

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    camera = RealSense(recorded_config)
    yield camera
    camera.close()


@pytest.fixture
def pluggable(plug, recorded_config):
    """The same, with a plug; it plays its recording only once."""
    from tgrpo_ros.drivers.realsense import RealSense

    camera = RealSense(recorded_config)
    yield camera
    camera.close()


@pytest.fixture
def video(tmp_path):
    av = pytest.importorskip("av")
    import numpy as np

    from tgrpo_ros.drivers.video import VideoCamera

    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(12):
            image = np.full((48, 64, 3), index * 20, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    camera = VideoCamera("front", path)
    yield camera
    camera.close()


@pytest.fixture
def sim_camera(scene, sim):
    from tgrpo_ros.drivers.sim_arm import SimCamera

    camera = SimCamera(scene.address, "agentview")
    sim.start()
    camera.advance = lambda: sim.follow(reference_at(sim))
    yield camera
    camera.close()


@pytest.fixture(params=["realsense", "librealsense", "video", "sim_camera"])
def camera(request):
    return request.getfixturevalue(request.param)


def reference_at(arm):
    """A reference at the measured pose."""
    from tgrpo_ros.motion import Reference

    return Reference(arm.state().pose)


@pytest.fixture
def here():
    return reference_at
