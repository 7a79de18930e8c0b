"""A safety layer with an arm that follows perfectly, on clocks that tests turn."""

import numpy as np
import pytest

from tgrpo import rotation
from tgrpo.settings import from_builtins
from tgrpo.spec import ActionSpec
from tgrpo_ros.motion import ArmState, Command, Pose, Source
from tgrpo_ros.safety import Guard, Level, SafetySettings

TICK = 0.004
JOINTS = {"low": [-2.7] * 7, "high": [2.7] * 7}
WORKSPACE = {"low": [0.3, -0.3, 0.1], "high": [0.7, 0.3, 0.6]}
SPEC = ActionSpec(rate=10.0)


def make_settings(**sections):
    return from_builtins({"workspace": WORKSPACE, "joints": JOINTS, **sections}, SafetySettings)


def make_state(time=0.0, received=0.0, position=(0.5, 0.0, 0.3), **changes):
    values = {
        "time": time,
        "received": received,
        "pose": Pose(np.array(position, float), rotation.identity()),
        "joints": np.zeros(7),
        "joint_velocities": np.zeros(7),
        "fingers": np.array([0.04, -0.04]),
        "proprio": np.zeros(8, np.float32),
    }
    return ArmState(**{**values, **changes})


def action(x=0.0, y=0.0, z=0.0, turn=(0.0, 0.0, 0.0), gripper=0.0, count=1):
    return np.tile(np.array([x, y, z, *turn, gripper], np.float32), (count, 1))


class Rig:
    """Guard, clocks and arm. The arm is where its reference was at the tick before."""

    def __init__(self, settings, spec=SPEC, cameras=()):
        self.guard = Guard(settings, spec, cameras, now=0.0)
        self.settings, self.spec = settings, spec
        self.now, self.robot = 0.0, 100.0
        self.pose = Pose(np.array([0.5, 0.0, 0.3]), rotation.identity())
        self.linear = np.zeros(3)
        self.changes = {}
        self.silent_since = None
        self.sequence = {}
        self.outputs = []

    def state(self):
        received = self.now if self.silent_since is None else self.silent_since
        time = self.robot if self.silent_since is None else self.robot - (self.now - self.silent_since)
        speed = {"joint_velocities": np.full(7, float(np.linalg.norm(self.linear)))}
        return make_state(time, received, **{"pose": self.pose, **speed, **self.changes})

    def arm(self, source=Source.POLICY, session="one"):
        self.guard.tick(self.now, self.state())
        self.guard.arbiter.acquire(source, session, self.now)
        self.guard.arm(self.now, self.state())

    def send(self, actions, source=Source.POLICY, session="one", observed=None, engaged=True, sequence=None):
        number = self.sequence.get((source, session), -1) + 1 if sequence is None else sequence
        self.sequence[source, session] = number
        when = self.now if observed is None else observed
        return self.guard.submit(Command(source, session, number, when, actions, engaged), self.now)

    def tick(self, dt=TICK, robot_dt=None):
        self.now += dt
        self.robot += dt if robot_dt is None else robot_dt
        out = self.guard.tick(self.now, self.state())
        if out.reference is not None:
            self.pose, self.linear = out.reference.pose, out.reference.linear
        self.outputs.append((self.now, self.robot, out))
        return out

    def run(self, seconds, each=None):
        """Ticks for some time; calls ``each(rig)`` before every tick."""
        for _ in range(round(seconds / TICK)):
            if each is not None:
                each(self)
            out = self.tick()
        return out

    def stream(self, seconds, actions, source=Source.POLICY, session="one", period=0.1):
        """Sends the same actions once for each period."""
        due = self.now

        def each(rig):
            nonlocal due
            if rig.now >= due - 1e-9:
                rig.send(actions, source, session)
                due += period

        return self.run(seconds, each)

    def at_full_speed(self, seconds=0.6):
        """Arms the arm and brings it to full speed."""
        self.arm()
        self.run(0.02)
        self.stream(seconds, action(x=0.55, count=8))
        assert self.guard.ladder.level is Level.RUN
        assert np.linalg.norm(self.linear) > 0.25

    def seconds_until_rest(self, each=None, limit=3.0):
        """Ticks until the reference rests."""
        begun = self.now
        while np.linalg.norm(self.linear) > 0.0 and self.now - begun < limit:
            if each is not None:
                each(self)
            self.tick()
        return self.now - begun

    def stays_at_rest(self, seconds=1.0):
        """Whether nothing moves although commands keep coming."""
        before = self.pose.position.copy()
        self.stream(seconds, np.ones((4, 7), np.float32))
        return np.array_equal(self.pose.position, before)

    @property
    def level(self):
        return self.guard.ladder.level

    @property
    def reason(self):
        return self.guard.ladder.reason.name if self.guard.ladder.reason else ""


@pytest.fixture
def rig():
    return Rig(make_settings())


@pytest.fixture
def make_rig():
    return lambda cameras=(), spec=SPEC, **sections: Rig(make_settings(**sections), spec, cameras)


@pytest.fixture
def settings_with():
    return make_settings


@pytest.fixture
def state_with():
    return make_state


@pytest.fixture
def act():
    return action
