"""Each gate against what it must not let through."""

import numpy as np
import pytest

from tgrpo import rotation
from tgrpo.errors import SettingsError
from tgrpo.spec import ActionSpec
from tgrpo_ros.motion import Pose
from tgrpo_ros.safety import gates
from tgrpo_ros.safety.settings import JointLimits, LeadLimits, StepLimits, Workspace, check

SPEC = ActionSpec()
STEP = StepLimits()
HERE = Pose(np.array([0.5, 0.0, 0.3]), rotation.identity())


def one(*values):
    return np.array([values], np.float32)


@pytest.mark.parametrize(
    ("actions", "why"),
    [
        (None, "NoneType"),
        ([[0.0] * 7], "list"),
        (np.zeros((1, 7), np.int64), "ndarray"),
        (np.zeros((1, 7), object), "ndarray"),
        (np.zeros(7, np.float32), "shape"),
        (np.zeros((0, 7), np.float32), "shape"),
        (np.zeros((1, 6), np.float32), "shape"),
        (np.zeros((1, 8), np.float32), "shape"),
        (np.zeros((257, 7), np.float32), "shape"),
        (np.zeros((1, 1, 7), np.float32), "shape"),
        (one(np.nan, 0, 0, 0, 0, 0, 0), "not finite"),
        (one(0, 0, 0, 0, 0, 0, np.inf), "not finite"),
        (one(0, 0, 0, -np.inf, 0, 0, 0), "not finite"),
        (one(6.1, 0, 0, 0, 0, 0, 0), "step of 0.305 m"),
        (one(0, 0, -3e38, 0, 0, 0, 0), "step of"),
        (one(0, 0, 0, 0, 2.1, 0, 0), "turn of 1.05 rad"),
    ],
)
def test_what_is_no_action_is_refused(actions, why):
    assert why in gates.refusal(actions, SPEC, STEP)


def test_one_bad_action_spoils_its_chunk():
    chunk = np.zeros((8, 7), np.float32)
    chunk[7, 2] = np.nan
    assert gates.refusal(chunk, SPEC, STEP)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_actions_pass(dtype):
    assert gates.refusal(np.ones((8, 7), dtype), SPEC, STEP) == ""


def test_step_is_shortened_and_keeps_its_direction():
    translation, turn = gates.step(np.array([1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 1.0]), SPEC, STEP)
    assert translation == pytest.approx(np.array([1.0, 1.0, 0.0]) * 0.03 / np.sqrt(2))
    assert turn == pytest.approx([0.0, 0.0, -0.1])


def test_a_small_step_is_left_alone():
    translation, turn = gates.step(np.array([0.1, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0]), SPEC, STEP)
    assert translation == pytest.approx([0.005, 0.0, 0.0])
    assert turn == pytest.approx([0.05, 0.0, 0.0])


def test_lead_keeps_target_near_the_measured_pose():
    far = HERE.moved(np.array([0.2, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]))
    near = gates.within_lead(far, HERE, LeadLimits())
    assert near.position == pytest.approx([0.54, 0.0, 0.3])
    assert rotation.difference(near.quaternion, HERE.quaternion) == pytest.approx([0.0, 0.25, 0.0])
    assert gates.within_lead(near, HERE, LeadLimits()).position == pytest.approx(near.position)


def test_box_clips_and_measures():
    box = Workspace(low=(0.3, -0.3, 0.1), high=(0.7, 0.3, 0.6))
    outside = Pose(np.array([0.9, 0.0, -1.0]), rotation.identity())
    assert gates.within_box(outside, box).position == pytest.approx([0.7, 0.0, 0.1])
    assert gates.outside_by(outside.position, box) == pytest.approx(1.1)
    assert gates.outside_by(HERE.position, box) == 0.0


def joints(position, velocity, state_with):
    state = state_with(joints=np.array([position] + [0.0] * 6), joint_velocities=np.array([velocity] + [0.0] * 6))
    return gates.joints_at_limit(state, JointLimits(low=(-2.7,) * 7, high=(2.7,) * 7), stop_time=0.2)


@pytest.mark.parametrize(
    ("position", "velocity", "held", "deep"),
    [
        (0.0, 1.0, [], []),
        (2.61, 0.1, [1], []),
        (2.55, 1.0, [1], []),  # would stop 0.05 rad before the end
        (2.55, 0.3, [], []),
        (2.66, 0.1, [1], [1]),
        (2.69, -0.1, [], []),  # the way back is free
        (-2.61, -0.1, [1], []),
        (-2.68, -0.1, [1], [1]),
        (-2.68, 0.1, [], []),
        (2.69, 0.0, [], []),  # resting there is no motion
    ],
)
def test_joint_margin(state_with, position, velocity, held, deep):
    assert joints(position, velocity, state_with) == (held, deep)


class TestGripper:
    def test_hysteresis_and_edges(self):
        latch = gates.GripperLatch(0.3, 0.0, close_positive=True)
        wishes = [0.0, 0.2, 0.9, 0.9, 0.1, -0.2, -0.9, -0.1, 0.31]
        told = [latch.update(wish, now=index) for index, wish in enumerate(wishes)]
        assert told == [None, None, True, None, None, None, False, None, True]

    def test_flutter_is_slowed_down_and_the_last_wish_wins(self):
        latch = gates.GripperLatch(0.0, 0.5, close_positive=True)
        told = [latch.update(1.0 if index % 2 else -1.0, now=index * 0.05) for index in range(100)]
        changes = [index for index, what in enumerate(told) if what is not None]
        assert min(np.diff(changes)) * 0.05 >= 0.5
        assert latch.update(1.0, now=100.0) in (True, None)
        assert latch.closed is True

    def test_sign_of_the_spec(self):
        assert gates.GripperLatch(0.0, 0.0, close_positive=False).update(1.0, 0.0) is False


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"workspace": {"low": [0.7, 0, 0], "high": [0.3, 1, 1]}}, "workspace x"),
        ({"watchdogs": {"command_hold": 1.0, "command_stop": 0.5}}, "must be later"),
        ({"joints": {"low": [0.0] * 7, "high": [0.1] * 7}}, "joint 1"),
    ],
)
def test_contradicting_limits_are_refused(settings_with, sections, message):
    with pytest.raises(SettingsError, match=message):
        check(settings_with(**sections))


@pytest.mark.parametrize(
    "sections",
    [
        {"workspace": None},
        {"motion": {"linear_speed": 5.0}},
        {"motion": {"linear_speed": 0.0}},
        {"motion": {"linear_acceleration": float("nan")}},
        {"gates": "off"},
        {"step": {"enabled": False}},
    ],
)
def test_no_setting_switches_a_gate_off(settings_with, sections):
    with pytest.raises(SettingsError):
        settings_with(**sections)
