"""A start that a person laid out: taken once, driven back to, compared; with an arm that does what it is told."""

import numpy as np
import pytest

pytest.importorskip("rclpy")
from tgrpo import rotation
from tgrpo.errors import RobotFault
from tgrpo.session.reference import Look, Reference, StartTolerance
from tgrpo.spec import ActionSpec
from tgrpo_ros.motion import Pose, Source
from tgrpo_ros.safety.settings import Workspace
from tgrpo_ros.starts import GuidedStart, ResetDriver
from tgrpo_ros.status import ArmStatus

BOX = Workspace(low=(0.3, -0.3, 0.05), high=(0.7, 0.3, 0.6))
SPEC = ActionSpec(rate=10.0)


class Arm:
    """Arm, arm node and its client in one."""

    def __init__(self):
        self.pose = Pose(np.array([0.5, 0.0, 0.2]), rotation.identity())
        self.now, self.armed, self.sent = 1.0, [], []
        self.status = ArmStatus(level="DECELERATE", reason="operator_stop")
        self.image = np.full((64, 64, 3), 100, np.uint8)
        self.events = []
        """What happens after so many looks."""

    def arm(self):
        self.armed.append(self.pose)
        self.become(level="RUN", reason="")

    def become(self, **changes):
        known = {name: getattr(self.status, name) for name in ("level", "reason", "source", "leases")}
        self.status = ArmStatus(**{**known, **changes})

    def until(self, condition, otherwise):
        if not condition():
            raise RobotFault(otherwise)

    def look(self, seconds):
        self.now += 0.1
        if self.events:
            self.events.pop(0)()

    def send(self, command):
        self.sent.append(command)
        if not len(command.actions):
            self.become(leases={"reset": command.session} if command.engaged else {})
        elif self.status.level == "RUN":
            action = command.actions[0].astype(float)
            self.pose = self.pose.moved(action[:3] * SPEC.position_scale, action[3:6] * SPEC.rotation_scale)

    def see(self):
        return self.now, Look(self.pose.position, self.pose.quaternion, {"agentview": self.image})


class Policy:
    def __init__(self):
        self.on = True

    def enable(self, *, on):
        self.on = on


@pytest.fixture
def arm():
    return Arm()


@pytest.fixture
def start(arm, tmp_path):
    asked, policy = [], Policy()
    driver = ResetDriver(arm, arm.send, SPEC, BOX)
    one = GuidedStart(Reference(tmp_path, 0, 0), StartTolerance(), driver, policy, arm.see, asked.append)
    one.asked, one.policy = asked, policy
    return one


def go_astray(arm):
    arm.pose = Pose(np.array([0.4, 0.2, 0.3]), rotation.from_vector(np.array([0.0, 0.0, 0.5])))
    arm.become(level="DECELERATE", reason="operator_stop")


def test_the_first_start_is_the_reference_and_the_arm_is_brought_back_to_it(arm, start):
    start.reset()
    assert len(start.asked) == 2
    assert not arm.sent  # until then only a person moves it
    assert start.check() == ""
    wanted = arm.pose
    go_astray(arm)
    assert "mm from the start" in start.check()
    start.reset()
    assert start.check() == ""
    assert np.linalg.norm(arm.pose.position - wanted.position) < 0.005
    assert not start.policy.on
    assert {command.source for command in arm.sent} == {Source.RESET}
    assert arm.sent[-1].engaged is False  # the lease is given back


def test_nothing_moves_before_a_person_says_go(arm, start):
    start.reset()
    start.check()
    go_astray(arm)

    def no(text):
        raise RobotFault("given up by the operator")

    start._ask = no
    with pytest.raises(RobotFault, match="given up"):
        start.reset()
    assert not arm.sent


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "human"}, "a person has taken the arm"),
        ({"level": "FAULT", "reason": "reflex"}, "the arm stopped on its way to the start: reflex"),
        ({"level": "DECELERATE", "reason": "operator_stop"}, "operator_stop"),
    ],
)
def test_whoever_interferes_ends_the_motion(arm, start, change, said):
    start.reset()
    start.check()
    go_astray(arm)
    arm.events = [lambda: None, lambda: arm.become(**change)]
    with pytest.raises(RobotFault, match=said):
        start.reset()
    assert len([command for command in arm.sent if len(command.actions)]) <= 3
    assert arm.sent[-1].engaged is False


def test_a_way_out_of_the_box_moves_nothing(arm, start):
    start.reset()
    start.check()
    arm.pose = Pose(np.array([0.5, 0.0, 0.55]), rotation.identity())
    with pytest.raises(RobotFault, match="leaves the workspace: up has z"):
        start.reset()
    assert not arm.sent


def test_a_scene_that_changed_is_told(arm, start):
    start.reset()
    start.check()
    arm.image = arm.image.copy()
    arm.image[:24, :24] = 250
    assert "sees another scene" in start.check()
