"""Cameras, people and policies in turn: who is stopped by what, and who gets the arm."""

import numpy as np
import pytest

from tgrpo.errors import RobotFault
from tgrpo_ros.motion import Source
from tgrpo_ros.safety import Level

V_OVER_A = 0.30 / 1.5
PERIOD = 0.1


class TestCameras:
    def frames(self, rig, stamp=0.0, frozen=False):
        number = 0 if frozen else len(rig.outputs)
        rig.guard.watch.see("front", rig.now + stamp, number, rig.now)

    def start(self, make_rig, act):
        rig = make_rig(cameras=["front"])
        rig.arm()
        rig.run(0.05, self.frames)
        due = rig.now

        def each(rig):
            nonlocal due
            self.frames(rig)
            if rig.now >= due:
                rig.send(act(x=0.55, count=8))
                due += PERIOD

        rig.run(0.6, each)
        assert rig.level is Level.RUN
        assert np.linalg.norm(rig.linear) > 0.25
        return rig

    @pytest.mark.parametrize(
        ("fault", "name", "within"),
        [
            (lambda test, rig: None, "camera_lost", 0.16),
            (lambda test, rig: test.frames(rig, stamp=-0.3), "camera_late", 0.01),
            (lambda test, rig: test.frames(rig, stamp=0.5), "camera_clock", 0.01),
            (lambda test, rig: test.frames(rig, frozen=True), "camera_frozen", 0.08),
        ],
    )
    def test_fault_holds_the_policy(self, make_rig, act, fault, name, within):
        rig = self.start(make_rig, act)
        begun = rig.now

        def each(rig):
            fault(self, rig)
            rig.send(act(x=0.5, count=8))

        while rig.level is Level.RUN:
            each(rig)
            rig.tick()
            assert rig.now - begun <= within
        assert (rig.level, rig.reason) == (Level.HOLD, name)
        assert rig.seconds_until_rest(each) <= V_OVER_A + 0.004
        rig.run(1.2, each)
        assert rig.level is Level.DECELERATE  # and only a person arms it again
        rig.run(0.2, self.frames)
        assert rig.level is Level.DECELERATE

    def test_a_person_goes_on_without_cameras(self, make_rig, act):
        rig = self.start(make_rig, act)
        rig.guard.arbiter.acquire(Source.HUMAN, "stick", rig.now)
        before = rig.pose.position[1]
        rig.stream(1.0, act(y=0.3), Source.HUMAN, "stick", period=0.05)
        assert rig.level is Level.RUN
        assert rig.pose.position[1] > before + 0.05


class TestHuman:
    def take_over(self, rig, act, seconds=0.5):
        rig.guard.arbiter.acquire(Source.HUMAN, "stick", rig.now)
        due = rig.now

        def each(rig):
            nonlocal due
            if rig.now >= due - 1e-9:
                rig.send(act(y=0.4), Source.HUMAN, "stick")
                rig.send(act(x=0.55, count=8))
                due += 0.05

        return rig.run(seconds, each)

    def test_takes_over_at_once_and_policy_is_dropped(self, rig, act):
        rig.at_full_speed()
        out = self.take_over(rig, act)
        assert out.source is Source.HUMAN
        assert rig.linear[1] > 0.05
        assert abs(rig.linear[0]) < 0.02

    def test_hand_back_needs_a_fresh_observation(self, rig, act):
        rig.at_full_speed()
        self.take_over(rig, act)
        old = rig.now
        rig.send(act(), Source.HUMAN, "stick", engaged=False)
        rig.run(0.41)
        assert rig.guard.arbiter.active is Source.POLICY
        assert rig.send(act(x=0.55, count=8), observed=old).startswith("before hand-over")
        assert np.linalg.norm(rig.linear) == 0.0
        assert rig.send(act(x=0.55, count=8)) == ""
        rig.run(0.1)
        assert rig.linear[0] > 0.0

    def test_loss_of_the_device_holds_within_a_fifth_of_a_second(self, rig, act):
        rig.at_full_speed()
        self.take_over(rig, act)
        begun = rig.now
        while rig.level is Level.RUN:
            rig.tick()
        assert (rig.level, rig.reason) == (Level.HOLD, "stale_command")
        assert rig.now - begun <= 0.2
        rig.stream(1.5, act(x=0.55, count=8))  # the policy does not take what a lost person still holds
        assert (rig.level, rig.reason) == (Level.DECELERATE, "lease_lost")

    def test_second_device_is_refused(self, rig, act):
        rig.at_full_speed()
        self.take_over(rig, act)
        with pytest.raises(RobotFault, match="already controlled by session 'stick'"):
            rig.guard.arbiter.acquire(Source.HUMAN, "pad", rig.now)
        assert rig.send(act(y=-1.0), Source.HUMAN, "pad").startswith("other session")

    def test_gripper_is_latched_across_the_hand_over(self, rig, act):
        rig.arm()
        rig.run(0.02)
        rig.stream(0.3, act(gripper=1.0))
        assert [o.gripper for *_, o in rig.outputs if o.gripper is not None] == [True]
        rig.guard.arbiter.acquire(Source.HUMAN, "stick", rig.now)
        rig.stream(0.5, act(gripper=0.0), Source.HUMAN, "stick", period=0.05)
        assert [o.gripper for *_, o in rig.outputs if o.gripper is not None] == [True]
