"""What the driver for ROS topics does when the other side of the topics is not as it should be."""

import os
import signal
import time

import msgspec
import numpy as np
import pytest

from tgrpo.errors import RobotFault, SettingsError
from tgrpo_ros.motion import Reference
from tgrpo_ros.robot_config import load

pytestmark = pytest.mark.ros


def until(condition, seconds=30.0):
    limit = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)
    return result


def open_driver(names, patience=20.0):
    from tgrpo_ros.drivers.topics import TopicArm

    return TopicArm(names, patience)


def test_a_second_publisher_is_named_and_nothing_is_started(topics, ros):
    from geometry_msgs.msg import PoseStamped

    topics.start()
    until(lambda: topics.state().mode == "moving")
    intruder = ros.create_node("intruder", namespace="/teleop")
    intruder.create_publisher(PoseStamped, "/target_pose", 1)
    until(lambda: topics.state().mode == "stopped")
    # ROS hears of a publisher before it hears whose it is.
    until(lambda: "another publisher: /teleop/intruder" in topics.state().error)
    intruder.destroy_node()
    until(lambda: topics.state().mode == "moving")


def test_joints_are_found_by_name(controller, topic_names):
    controller("--reversed")
    arm = open_driver(topic_names)
    try:
        state = arm.state()
        assert state.joints == pytest.approx(0.1 * np.arange(7))
        assert state.joint_velocities == pytest.approx(0.001 * np.arange(7))
        until(lambda: arm.state().fingers == pytest.approx([0.04, -0.04]))
    finally:
        arm.close()


def test_a_gripper_behind_a_service(controller, topic_names):
    gripper = msgspec.structs.replace(topic_names.gripper, topic="", service="/gripper/close")
    controller()
    arm = open_driver(msgspec.structs.replace(topic_names, gripper=gripper))
    try:
        until(arm._ros._service.service_is_ready)
        arm.grip(True)
        until(lambda: arm.state().fingers[0] == 0.0)
        arm.grip(False)
        until(lambda: arm.state().fingers[0] > 0.03)
    finally:
        arm.close()


def test_a_controller_that_dies_leaves_an_old_report(controller, topic_names):
    node = controller()
    arm = open_driver(topic_names)
    try:
        os.kill(node.pid, signal.SIGSTOP)
        until(lambda: time.monotonic() - arm.state().received > 0.2)
        os.kill(node.pid, signal.SIGCONT)
        until(lambda: time.monotonic() - arm.state().received < 0.1)
    finally:
        arm.close()


def test_what_is_missing_is_named(controller, topic_names):
    with pytest.raises(RobotFault, match=r"nothing has come on /current_pose.*ros2 topic list"):
        open_driver(topic_names, patience=0.5)
    node = controller("--no-velocities")
    with pytest.raises(RobotFault, match="/joint_states has no velocities"):
        open_driver(topic_names)
    node.kill()
    node.wait()
    controller("--deaf")
    arm = open_driver(topic_names)
    arm._patience = 0.3
    try:
        with pytest.raises(RobotFault, match="nobody listens on /target_pose"):
            arm.start()
        before = arm.state().pose
        arm.follow(Reference(before.moved(np.array([0.1, 0, 0]), np.zeros(3))))
        assert arm.state().pose.position == pytest.approx(before.position)
    finally:
        arm.close()


def test_settings_need_topics_and_one_way_to_close_the_gripper(tmp_path):
    from tgrpo_ros.robot_config import find

    box = tmp_path / "box.yaml"
    box.write_text("low: [0.3, -0.3, 0.1]\nhigh: [0.7, 0.3, 0.6]\n")
    path = tmp_path / "robot.yaml"
    path.write_text(
        find("topics").read_text().replace("      topic: /gripper", "      service: /close\n      topic: /gripper")
    )
    with pytest.raises(SettingsError, match="either a topic or a service"):
        load(str(path), box)
