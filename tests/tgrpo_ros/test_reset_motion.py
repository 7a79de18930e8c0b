"""The scripted way back: it goes up, over and down, arrives, and never leaves the box."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgrpo import rotation
from tgrpo.errors import RobotFault
from tgrpo.spec import ActionSpec
from tgrpo_ros.motion import Pose
from tgrpo_ros.reset_motion import SPEED, ResetMotion, plan
from tgrpo_ros.safety.settings import Workspace

BOX = Workspace(low=(0.3, -0.3, 0.05), high=(0.7, 0.3, 0.6))
SPEC = ActionSpec(rate=10.0)


def pose(x, y, z, turn=0.0):
    return Pose(np.array([x, y, z]), rotation.from_vector(np.array([0.0, 0.0, turn])))


def follow(motion, start, most=2000):
    """Poses of an arm that does what it is told."""
    here, path = start, [start]
    while len(path) < most:
        action = motion.action(here)
        if motion.done:
            return path
        here = here.moved(action[:3] * SPEC.position_scale, action[3:6] * SPEC.rotation_scale)
        path.append(here)
    raise AssertionError("it does not arrive")


def test_up_over_down():
    segments = plan(pose(0.4, -0.2, 0.1), pose(0.6, 0.2, 0.2, 1.0), BOX)
    assert [one.name for one in segments] == ["up", "over", "down"]
    assert [one.goal.position.tolist() for one in segments] == [
        pytest.approx([0.4, -0.2, 0.35]),
        pytest.approx([0.6, 0.2, 0.35]),
        pytest.approx([0.6, 0.2, 0.2]),
    ]


@pytest.mark.parametrize(
    ("start", "goal", "said"),
    [
        (pose(0.2, 0, 0.2), pose(0.5, 0, 0.2), "its beginning has x 0.200"),
        (pose(0.4, 0, 0.5), pose(0.5, 0, 0.2), "up has z 0.650"),
        (pose(0.4, 0, 0.2), pose(0.5, 0.4, 0.2), "over has y 0.400"),
        (pose(0.4, 0, 0.2), pose(0.5, 0, 0.01), "down has z 0.010"),
        (pose(0.4, 0, 0.2), pose(float("nan"), 0, 0.2), "over has x nan"),
    ],
)
def test_a_way_that_leaves_the_box_is_refused(start, goal, said):
    with pytest.raises(RobotFault, match=said):
        plan(start, goal, BOX)


inside = st.tuples(st.floats(0.3, 0.7), st.floats(-0.3, 0.3), st.floats(0.05, 0.4), st.floats(-1.5, 1.5))


@settings(max_examples=60, deadline=None)
@given(inside, inside)
def test_it_arrives_within_the_box_in_limited_steps(first, second):
    start, goal = pose(*first), pose(*second)
    path = follow(ResetMotion(plan(start, goal, BOX), SPEC, -1.0), start)
    assert np.linalg.norm(path[-1].position - goal.position) < 0.005
    assert np.linalg.norm(rotation.difference(goal.quaternion, path[-1].quaternion)) < 0.03
    places = np.array([one.position for one in path])
    assert (places >= np.array(BOX.low) - 0.005).all()
    assert (places <= np.array(BOX.high) + 0.005).all()
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max(initial=0.0) <= SPEED * SPEC.position_scale + 1e-9


def test_a_tool_that_is_pushed_away_is_brought_back():
    start, goal = pose(0.4, 0, 0.2), pose(0.6, 0, 0.2)
    motion = ResetMotion(plan(start, goal, BOX), SPEC, 1.0)
    action = motion.action(pose(0.4, 0.1, 0.2))  # somebody leaned on it
    assert action[1] < 0.0
    assert action[2] > 0.0
    assert action[6] == 1.0
    assert motion.doing == "up"


def test_where_it_is_already_it_stays():
    here = pose(0.5, 0, 0.2)
    motion = ResetMotion([], SPEC, -1.0)
    assert motion.done
    assert motion.action(here).tolist() == [0.0] * 6 + [-1.0]
