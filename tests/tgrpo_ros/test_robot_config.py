"""The configurations that ship, and what a configuration must not say."""

import pytest
import yaml

from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.spec import ActionSpec
from tgrpo_ros.robot_config import folder, load

BOX = {"low": [0.3, -0.3, 0.1], "high": [0.7, 0.3, 0.6]}
NAMES = ("sim", "fr3", "panda", "topics")


@pytest.fixture
def box(tmp_path):
    path = tmp_path / "box.yaml"
    path.write_text(yaml.safe_dump(BOX))
    return path


@pytest.fixture
def changed(tmp_path):
    """A shipped configuration with a change, as a file."""

    def write(name, change):
        data = yaml.safe_load((folder() / f"{name}.yaml").read_text())
        change(data)
        path = tmp_path / f"my_{name}.yaml"
        path.write_text(yaml.safe_dump(data))
        return str(path)

    return write


@pytest.mark.parametrize("name", NAMES)
def test_shipped_configurations_load_with_a_box(name, box):
    config = load(name, box)
    assert config.safety.workspace.low == (0.3, -0.3, 0.1)
    assert config.arm.driver == {"sim": "sim", "fr3": "franky", "panda": "topics", "topics": "topics"}[name]


@pytest.mark.parametrize("name", ["fr3", "panda"])
def test_a_real_arm_refuses_to_start_without_a_box(name):
    with pytest.raises(SettingsError, match=r"workspace is missing.*no default.*low: \[x, y, z\]"):
        load(name)


def test_the_scene_has_a_box_and_the_actions_of_libero():
    config = load("sim")
    assert config.action == ActionSpec()
    assert config.safety.rate == config.action.rate


@pytest.mark.parametrize("name", ["fr3", "panda"])
def test_values_of_the_documentation(name, box):
    safety = load(name, box).safety
    assert (safety.motion.linear_speed, safety.motion.linear_acceleration) == (0.30, 1.5)
    assert (safety.motion.angular_speed, safety.motion.angular_acceleration) == (1.0, 6.0)
    assert (safety.step.position, safety.step.rotation) == (0.03, 0.1)
    assert (safety.lead.position, safety.lead.rotation) == (0.04, 0.25)
    assert (safety.watchdogs.command_hold, safety.watchdogs.command_stop) == (0.25, 1.0)
    assert (safety.recovery.count, safety.recovery.window) == (2, 60.0)
    assert (safety.reference, safety.anchor, safety.rate) == ("follower", "commanded", 250.0)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        (
            "panda",
            (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
            (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
        ),
        (
            "fr3",
            (-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159),
            (2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159),
        ),
    ],
)
def test_joint_ranges_are_those_that_the_manufacturer_publishes(name, low, high, box):
    """q_min and q_max of https://frankarobotics.github.io/docs/robot_specifications.html."""
    joints = load(name, box).safety.joints
    assert (joints.low, joints.high) == (low, high)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("fr3", lambda d: d["safety"].update(reference="direct"), "only arm.driver 'sim'"),
        ("fr3", lambda d: d["arm"].update(host=""), "arm.host is empty"),
        ("fr3", lambda d: d["arm"].update(hots="x"), "hots"),
        ("fr3", lambda d: d["cameras"][0].update(serial=""), "serial number"),
        ("fr3", lambda d: d["cameras"].append(d["cameras"][0]), "share a name"),
        ("fr3", lambda d: d["safety"].update(watch_dogs={}), "watch_dogs"),
        ("sim", lambda d: d["action"].update(control="joint_position"), "takes actions of 7 numbers"),
        ("sim", lambda d: d["cameras"][0].update(driver="video"), "path of its file"),
    ],
)
def test_refusals(changed, box, name, change, message):
    with pytest.raises(SettingsError, match=message):
        load(changed(name, change), box)


def test_unknown_robot_names_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'fr3'.*panda"):
        load("fr4")


def test_broken_yaml(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("arm: [")
    with pytest.raises(SettingsError, match="not valid YAML"):
        load(str(path))
