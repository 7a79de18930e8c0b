"""The robot's nodes as real processes: transitions, takeover, and what happens when one of them goes."""

import importlib.util
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, Joy

from tgrpo.serving.core import Core
from tgrpo.serving.model import ServedModel
from tgrpo.serving.server import Server
from tgrpo_ros.messages import command_message, lease_message
from tgrpo_ros.motion import Command, Source

spec = importlib.util.spec_from_file_location("robot_processes", Path(__file__).with_name("robot_processes.py"))
parts = sys.modules["robot_processes"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parts)

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture
def serve():
    """A real policy server on a port of its own, around a model that sways."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    opened = []

    def begin():
        policy = parts.Swaying()
        core = Core(ServedModel(policy, "swaying", "swaying@1"), max_batch=4, window=0.0, quota=2)
        opened.append((Server(core, port=port), core))
        return policy

    def end():
        while opened:
            for part in opened.pop():
                part.close()

    begin.port, begin.end = port, end
    yield begin
    end()


@pytest.fixture
def robot(ros, serve, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    serve.policy = serve()
    one = parts.Robot(ros, tmp_path, serve.port)
    yield one
    one.close()


def test_a_camera_tells_its_projection_beside_its_pictures(robot):
    """Pictures of 32 px that see 90 degrees."""
    robot.start("camera")
    infos, images = [], []
    robot.node.create_subscription(CameraInfo, "tgrpo_camera/camera_info", infos.append, qos_profile_sensor_data)
    robot.node.create_subscription(Image, "tgrpo_camera/image_raw", images.append, qos_profile_sensor_data)
    stamps = lambda heard: {(m.header.stamp.sec, m.header.stamp.nanosec) for m in heard}  # noqa: E731
    robot.until(lambda: stamps(infos) & stamps(images), "no picture comes with a projection")
    info = infos[0]
    assert (info.width, info.height, info.header.frame_id) == (32, 32, images[0].header.frame_id)
    assert info.k.tolist() == pytest.approx([16.0, 0.0, 15.5, 0.0, 16.0, 15.5, 0.0, 0.0, 1.0])


def test_transitions_parameters_and_diagnostics(robot):
    robot.start("camera", autostart=False)
    robot.start("arm", autostart=False)
    assert robot.state("tgrpo_arm") == "unconfigured"
    assert not robot.transition("tgrpo_arm", Transition.TRANSITION_ACTIVATE)
    for node in ("tgrpo_camera", "tgrpo_arm"):
        assert robot.transition(node, Transition.TRANSITION_CONFIGURE)
    refused = robot.trigger("arm")
    assert not refused.success
    assert "activate it first" in refused.message
    for node in ("tgrpo_camera", "tgrpo_arm"):
        assert robot.transition(node, Transition.TRANSITION_ACTIVATE)
    robot.status(level="DECELERATE", reason="not_armed")
    robot.until(lambda: robot.trigger("arm").success)
    robot.status(level="RUN")
    assert "no fault" in robot.trigger("acknowledge").message
    assert "not a reflex" in robot.trigger("recover").message

    seen = lambda: {s.name: s for m in robot.diagnostics for s in m.status}  # noqa: E731
    robot.until(lambda: seen().get("tgrpo_arm: arm") and seen()["tgrpo_arm: arm"].message == "RUN")
    values = {value.key: value.value for value in seen()["tgrpo_arm: arm"].values}
    assert float(values["rate [1/s]"]) > 0.0
    assert {"jitter [ms]", "age [s]", "missed ticks"} <= set(values)
    told = lambda: {v.key for s in [seen().get("tgrpo_camera: camera")] if s for v in s.values}  # noqa: E731
    robot.until(lambda: told() >= {"rate [1/s]", "jitter [ms]", "age [s]"}, "the camera does not report")

    asked = DescribeParameters.Request(names=["robot", "rate_of_reports", "max_steps"])
    described = robot.call(DescribeParameters, "/tgrpo_arm/describe_parameters", asked).descriptors
    assert all(one.description for one in described)
    assert described[1].floating_point_range[0].to_value == 1000.0
    change = SetParameters.Request(parameters=[Parameter("robot", value="panda").to_parameter_msg()])
    assert not robot.call(SetParameters, "/tgrpo_arm/set_parameters", change).results[0].successful

    assert robot.transition("tgrpo_arm", Transition.TRANSITION_DEACTIVATE)
    assert not robot.trigger("arm").success
    assert robot.transition("tgrpo_arm", Transition.TRANSITION_ACTIVATE)
    robot.status(level="DECELERATE")
    assert robot.transition("tgrpo_arm", Transition.TRANSITION_DEACTIVATE)
    assert robot.transition("tgrpo_arm", Transition.TRANSITION_CLEANUP)
    assert robot.transition("tgrpo_arm", Transition.TRANSITION_CONFIGURE)
    for process in robot.processes.values():
        process.send_signal(signal.SIGINT)
    assert [process.wait(60) for process in robot.processes.values()] == [0, 0]


def test_a_second_arm_camera_or_policy_node_is_refused(robot):
    robot.armed()
    for kind, message in (("arm", "is already used by process"), ("camera", "is already used by process")):
        second = robot.start(kind, name=f"second_{kind}")
        assert second.wait(parts.PATIENCE) == 2
        assert message in robot.log(f"second_{kind}").read_text()
    held = robot.statuses[-1]["leases"]["policy"]
    second = robot.start("policy", name="second_policy")
    assert second.wait(parts.PATIENCE) == 1
    assert "controls the arm; stop that one first" in robot.log("second_policy").read_text()
    assert robot.status(level="RUN")["leases"] == {"policy": held}
    robot.until(lambda: robot.statuses[-1]["refused"].get("lease held", 0) > 0)
    # A foreign session that does not ask for a lease moves nothing either.
    before = robot.statuses[-1]["refused"].get("other session", 0)
    actions = np.zeros((1, 7), np.float32)
    robot.command.publish(command_message(Command(Source.POLICY, "intruder", 1, 0.0, actions)))
    robot.until(lambda: robot.statuses[-1]["refused"].get("other session", 0) > before)


def test_killed_policy_node_stops_the_arm_with_a_reason_and_another_takes_over(robot):
    robot.armed()
    robot.processes["policy"].kill()
    stopped = robot.status(level="DECELERATE")
    assert stopped["reason"] in ("lease_lost", "stale_command", "starved")
    assert stopped["leases"] == {}
    robot.start("policy", name="next_policy")
    robot.until(lambda: "policy" in robot.statuses[-1]["leases"])
    assert robot.statuses[-1]["level"] == "DECELERATE"  # nobody but a person lets it run again
    assert robot.trigger("arm").success
    robot.status(level="RUN", source="policy")


def test_policy_server_that_goes_and_comes_back(robot, serve):
    robot.armed()
    serve.end()
    stopped = robot.status(level="DECELERATE")
    assert stopped["reason"] in ("starved", "stale_command", "lease_lost")
    policy = serve()
    robot.until(lambda: "policy" in robot.statuses[-1]["leases"])
    assert policy.asked == 0  # nobody asks while nothing may move
    assert robot.trigger("arm").success
    robot.status(level="RUN", source="policy")
    assert policy.asked > 0


def test_without_pictures_the_policy_does_not_act_and_it_goes_on_with_a_new_camera_node(robot, serve):
    robot.armed()
    robot.processes["camera"].kill()
    # Which one comes first depends on the configuration's times; tests of the safety layer have them all.
    assert robot.status(level="DECELERATE")["reason"] in ("camera_lost", "starved", "stale_command", "lease_lost")
    asked = serve.policy.asked
    robot.until(lambda: "policy" in robot.statuses[-1]["leases"])
    assert robot.trigger("arm").success
    robot.status(level="RUN", source="")
    waiting = "waiting for a fresh picture of camera 'agentview'"
    robot.until(lambda: any(waiting in s.message for m in robot.diagnostics[-9:] for s in m.status))
    assert serve.policy.asked == asked
    robot.start("camera", name="tgrpo_camera")
    robot.status(level="RUN", source="policy")


def test_killed_arm_node_leaves_no_lock_behind(robot):
    robot.armed()
    robot.processes["arm"].kill()
    robot.processes["arm"].wait()
    robot.statuses.clear()
    robot.start("arm", name="tgrpo_arm")
    robot.until(lambda: robot.statuses and "policy" in robot.statuses[-1]["leases"])
    assert robot.statuses[-1]["reason"] == "not_armed"


def test_a_person_takes_the_arm_and_gives_it_back(robot):
    robot.armed()
    robot.start("teleop", device="joy")
    robot.until(lambda: "human" in robot.statuses[-1]["leases"])
    message = Joy(axes=[0.0, 0.5, 0.0, 0.0, 0.0, 0.0], buttons=[0] * 11)
    message.buttons[10] = 1

    def push():
        robot.joy.publish(message)
        return robot.statuses[-1]["source"] == "human"

    robot.until(push, "the person did not get the arm")
    message.buttons[10] = 0
    robot.until(lambda: (robot.joy.publish(message), robot.statuses[-1]["source"] == "policy")[1], "not handed back")
    assert robot.statuses[-1]["level"] in ("RUN", "HOLD")
    message.buttons[2] = 1
    robot.until(lambda: (robot.joy.publish(message), robot.said)[1], "nothing was said to the session")
    assert set(robot.said) == {"failure"}
    assert robot.enable(False).success
    robot.status(level="DECELERATE")


def test_b11_a_second_teleoperation_is_refused_and_a_lost_one_is_a_hold(robot, record_property):
    robot.armed()
    robot.start("teleop", device="joy")
    robot.until(lambda: "human" in robot.statuses[-1]["leases"])
    held = robot.statuses[-1]["leases"]["human"]
    message = Joy(axes=[0.0, 0.5, 0.0, 0.0, 0.0, 0.0], buttons=[0] * 10 + [1])
    robot.until(lambda: (robot.joy.publish(message), robot.statuses[-1]["source"] == "human")[1], "not taken")
    # Both hear the same device, so nothing but the lease keeps the second one from the arm.
    robot.start("teleop", name="second_teleop", device="joy")
    asked = lambda: (robot.joy.publish(message), robot.statuses[-1]["refused"].get("lease held", 0) > 0)[1]  # noqa: E731
    robot.until(asked, "the second teleoperation was not refused")
    assert robot.statuses[-1]["leases"]["human"] == held
    assert robot.statuses[-1]["source"] == "human"
    for name in ("second_teleop", "teleop"):
        robot.processes[name].kill()
    begun = time.monotonic()
    reasons = ("stale_command", "lease_lost")
    robot.until(lambda: robot.statuses[-1]["reason"] in reasons, "a lost teleoperation was not noticed")
    took = time.monotonic() - begun
    record_property("B11: teleoperation killed to HOLD", f"{took:.3f} s")
    print(f"B11: teleoperation killed to HOLD: {took:.3f} s, watchdog 1.0 s")
    assert robot.statuses[-1]["level"] in ("HOLD", "DECELERATE")
    assert took < 10.0


@pytest.fixture
def preloaded(tmp_path):
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("a wall clock or a cable for one process needs a C compiler: sudo apt-get install gcc")
    return lambda name: parts.Preloaded(tmp_path, compiler, name)


def test_b6_a_wall_clock_that_is_set_changes_neither_rate_nor_level(robot, preloaded, record_property):
    """All nodes share a wall clock of their own, which is set to and fro while the policy moves the arm."""
    wall_clock, stamps = preloaded("wall_clock"), []
    robot.node.create_subscription(PoseStamped, "/tgrpo_arm/pose", lambda m: stamps.append(m.header.stamp.sec), 100)
    robot.environment = wall_clock.environment
    robot.armed()
    robot.until(lambda: stamps)

    def observe():
        """Poses reported in each of the next 3 seconds, why it held, and by how much the nodes' clock is off [s]."""
        stamps.clear()
        robot.statuses.clear()
        end = time.monotonic() + 3.0
        robot.until(lambda: time.monotonic() > end and stamps and robot.statuses)
        return len(stamps) / 3.0, {one["reason"] for one in robot.statuses} - {""}, stamps[-1] - time.time()

    calm = observe()[0]
    for seconds in (10, 0, 3600, 0):  # steps of 10 s and 1 h, there and back
        wall_clock.set(seconds)
        rate, reasons, off = observe()
        record_property(f"B6: wall clock {seconds:+d} s", f"{rate:.1f} of {calm:.1f} reports a second")
        print(f"B6: wall clock {seconds:+d} s: {rate:.1f} reports a second, before {calm:.1f}; holds {reasons}")
        assert off == pytest.approx(seconds, abs=3.0)  # the nodes' clock really was set
        assert reasons <= {"starved"}  # a busy machine's policy may be late for a moment; anything else is the clock's
        assert rate > 0.5 * calm  # a timer on the wall clock stops for good; what is missing beyond is load
    robot.status(level="RUN", source="policy")


LEASE = """<dds xmlns="http://www.eprosima.com"><profiles><participant profile_name="short" is_default_profile="true">
<rtps><builtin><discovery_config><leaseDuration><sec>3</sec></leaseDuration><leaseAnnouncement><sec>1</sec>
</leaseAnnouncement></discovery_config></builtin></rtps></participant></profiles></dds>"""
"""Nodes that are not heard of for 3 s are forgotten; Fast DDS waits for 20 s by default."""


def test_b8_nodes_that_lose_each_other_hold_and_find_each_other_again(robot, preloaded, record_property):
    """The cable of the policy's node is out until discovery has forgotten the node, and put in again."""
    cable, profile = preloaded("cable"), robot.folder / "lease.xml"
    profile.write_text(LEASE)
    leases = {"FASTDDS_DEFAULT_PROFILES_FILE": str(profile), "FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)}
    robot.start("camera")
    robot.start("arm")
    robot.environment = {**cable.environment, **leases}
    robot.start("policy")
    robot.until(lambda: robot.statuses and "policy" in robot.statuses[-1]["leases"], "no lease")
    robot.until(lambda: robot.trigger("arm").success, "not armed")
    robot.status(level="RUN", source="policy")

    publishers = lambda: robot.node.count_publishers("/tgrpo_arm/command")  # noqa: E731
    robot.until(lambda: publishers() == 2, "not both publishers are known")  # the policy's node and this test
    cable.set(1)
    pulled = time.monotonic()
    robot.status(level="DECELERATE", reason="stale_command", leases={})  # the chunk's rest, then 3 s
    stopping = time.monotonic() - pulled
    robot.until(lambda: publishers() == 1, "discovery still knows the node")
    cable.set(0)
    put_in = time.monotonic()
    robot.until(lambda: "policy" in robot.statuses[-1]["leases"], "no lease after the cable was put in")
    healed = time.monotonic() - put_in
    record_property("B8: cable out", f"stops after {stopping:.1f} s; cable in: lease again after {healed:.2f} s")
    print(f"B8: cable out: stops after {stopping:.1f} s; in: lease again after {healed:.2f} s")
    assert healed < 5.0
    assert robot.statuses[-1]["level"] == "DECELERATE"  # a person says when it goes on
    robot.until(lambda: robot.trigger("arm").success)
    robot.status(level="RUN", source="policy")


@pytest.mark.parametrize("spoil", ["layout", "junk"])
def test_junk_on_the_command_topic_changes_nothing(robot, spoil):
    robot.start("camera")
    robot.start("arm")
    robot.status(reason="not_armed")
    message = lease_message(Source.POLICY, "junk", 7)
    if spoil == "layout":
        message.layout.dim.pop()
    else:
        message.layout.dim[0].label = "policy/../../etc"
    # What is published before the arm's subscription is found goes nowhere.
    robot.until(lambda: (robot.command.publish(message), "not a command" in robot.log("arm").read_text())[1])
    assert robot.status(reason="not_armed")["leases"] == {}


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("arm", {"robot": "fr3"}, "workspace is missing"),
        ("arm", {"robot": "sim", "scene": "''"}, "address of a scene"),
        ("camera", {"camera": "nowhere"}, "unknown camera"),
        ("policy", {"strategy": "open_lop"}, "Did you mean 'open_loop'"),
        ("policy", {"server_key": "a.pub"}, "belong together"),
        ("policy", {"execute": 0}, "execute"),
        ("teleop", {"device": "mouse"}, "Did you mean 'spacemouse'"),
        ("teleop", {"device": "keyboard"}, "needs a terminal"),
    ],
)
def test_wrong_settings_end_a_node_with_one_clear_message(robot, kind, parameters, message):
    assert robot.start(kind, **parameters).wait(parts.PATIENCE) == 2
    text = robot.log(kind).read_text()
    assert message in text
    assert "Traceback" not in text
