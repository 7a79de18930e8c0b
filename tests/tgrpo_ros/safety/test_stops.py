"""From each fault at full speed to rest: when the layer reacts, and that braking takes v/a and one tick at most."""

import numpy as np
import pytest

TICK = 0.004
V_OVER_A = 0.30 / 1.5
SLOW = 0.02
"""A tick of a machine that is five times too slow [s]."""
FRAME = 0.032
"""Between two pictures [s]."""
ROOM = {"low": [-3.0, -3.0, -3.0], "high": [3.0, 3.0, 3.0]}


class Course:
    """A rig at full speed with a working camera, to which one thing happens."""

    def __init__(self, rig, act):
        self.rig, self.act = rig, act
        self.camera = lambda number, now: rig.guard.watch.see("front", now, number, now)
        self.happens = lambda since: None
        self._frames = 0
        rig.arm()
        self._move(1.0, act(x=0.55, count=8))
        assert np.linalg.norm(rig.linear) > 0.25
        assert rig.reason == ""

    def _move(self, seconds, actions):
        begun, due = self.rig.now, self.rig.now
        while self.rig.now - begun < seconds:
            if self.rig.now >= due - 1e-9:
                self.rig.send(actions)
                due += 0.1
            self._tick()

    def _tick(self, dt=TICK):
        if self.rig.now >= self._frames * FRAME:
            self._frames += 1
            self.camera(self._frames, self.rig.now)
        self.rig.tick(dt)

    def until_rest(self):
        """Times from the fault to the reaction and from there to rest [s], and the first reason."""
        rig, begun, reacted, why = self.rig, self.rig.now, None, ""
        while np.linalg.norm(rig.linear) > 0.0:
            assert rig.now - begun < 3.0
            self._tick(self.happens(rig.now - begun) or TICK)
            if reacted is None and rig.reason:
                reacted, why = rig.now, rig.reason
        return reacted - begun, rig.now - reacted, why


def lose_camera(course):
    course.camera = lambda number, now: None


def age_pictures(course):
    course.camera = lambda number, now: course.rig.guard.watch.see("front", now - 0.3, number, now)


def freeze_pictures(course):
    course.rig.send(course.act(x=0.55, count=40))
    course.camera = lambda number, now: course.rig.guard.watch.see("front", now, 7, now)


def send_nan(course):
    spoilt = course.act(x=np.nan)
    sent = [0.0]

    def happens(since):
        if since >= sent[0] - 1e-9:
            course.rig.send(spoilt)
            sent[0] += 0.02

    course.happens = happens


def stall(course):
    course.happens = lambda since: SLOW


def change(**report):
    return lambda course: course.rig.changes.update(report)


def silence(course):
    course.rig.silent_since = course.rig.now


def stop(course):
    course.rig.guard.stop(course.rig.now, "somebody")


# What happens, the reason that is given, and how long that may take: the watchdog's limit, by hand.
FAULTS = {
    "B1 three NaN, 20 ms apart": (send_nan, "bad_commands", 0.040),
    "B2 old pictures": (age_pictures, "camera_late", FRAME),
    "B2 frozen pictures": (freeze_pictures, "camera_frozen", 16 * FRAME),
    "B3 no pictures": (lose_camera, "camera_lost", 0.150),
    "B4, B12 the chunk of 0.8 s ends": (lambda course: None, "starved", 0.800 + 0.050),
    "B5 reflex": (change(mode="reflex"), "reflex", 0.0),
    "B8 no report of the arm": (silence, "stale_state", 0.100),
    "B10 every tick takes 20 ms": (stall, "missed_ticks", SLOW),
    "a joint at its limit": (change(joints=np.full(7, 2.69)), "joint_limit", 0.0),
    "the enabling device": (change(mode="stopped"), "robot_stopped", 0.0),
    "an operator": (stop, "operator_stop", 0.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_rest_comes_within_v_over_a_and_one_tick(make_rig, act, fault, record_property):
    happen, reason, limit = FAULTS[fault]
    course = Course(make_rig(cameras=["front"], workspace=ROOM), act)
    happen(course)
    reacted, braked, why = course.until_rest()
    record_property(fault, f"reacts after {reacted:.3f} s, rests {braked:.3f} s later")
    print(f"{fault}: reacts after {reacted * 1e3:.0f} ms, rests {braked * 1e3:.0f} ms later")
    assert why == reason
    assert reacted <= limit + TICK + 1e-9
    assert braked <= V_OVER_A + (course.happens(0.0) or TICK) + 1e-9
