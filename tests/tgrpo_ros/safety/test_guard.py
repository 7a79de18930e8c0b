"""The whole safety layer against faults: reaction, reason, and that nothing moves again by itself."""

import dataclasses

import numpy as np
import pytest

from tgrpo.errors import RobotFault
from tgrpo_ros.motion import Source
from tgrpo_ros.safety import Level

V_OVER_A = 0.30 / 1.5
PERIOD = 0.1


def test_nothing_moves_before_it_is_armed(rig, act):
    rig.guard.arbiter.acquire(Source.POLICY, "one", 0.0)
    out = rig.stream(0.5, act(x=1.0))
    assert out.reference is None
    assert (rig.level, rig.reason) == (Level.DECELERATE, "not_armed")


def test_runs_to_where_the_actions_say(rig, act):
    rig.arm()
    rig.run(0.02)
    rig.stream(0.5, act(z=0.2))  # five steps of 1 cm, of which the first three are ramped
    rig.stream(0.4, act())
    assert rig.level is Level.RUN
    assert 0.325 < rig.pose.position[2] < 0.351


def test_arming_a_running_arm_changes_nothing(rig, act):
    rig.at_full_speed()
    before = rig.guard._follower.pose
    rig.guard.arm(rig.now, rig.state())
    assert rig.guard._follower.pose is before
    assert rig.tick().level is Level.RUN
    assert np.linalg.norm(rig.linear) > 0.25


@pytest.mark.parametrize("lets_go", [True, False])
def test_what_a_person_said_before_it_was_armed_leaves_it_to_the_policy(rig, act, lets_go):
    """Found in sessions on a scene that waits: its clock stands between the two, so letting go would last for ever."""
    rig.tick()
    rig.guard.arbiter.acquire(Source.HUMAN, "hand", rig.now)
    assert rig.send(act(x=1.0), Source.HUMAN, "hand") == ""
    if lets_go:
        assert rig.send(act(), Source.HUMAN, "hand", engaged=False) == ""
    rig.arm()
    assert rig.send(act(z=0.5)) == ""
    out = rig.tick()
    assert (out.source, float(out.action[2])) == (Source.POLICY, 0.5)
    assert rig.send(act(x=1.0), Source.HUMAN, "hand") == ""
    assert rig.tick().source is Source.HUMAN  # from here on a person has it as always


def test_three_bad_commands_in_a_row_are_a_fault_and_it_stops(rig, act):
    rig.at_full_speed()
    bad = act()
    bad[0, 3] = np.nan
    assert rig.send(bad).startswith("bad command")
    rig.send(act(x=0.5))
    for _ in range(2):
        rig.send(bad)
    assert rig.level is Level.RUN
    rig.send(bad)
    assert (rig.level, rig.reason) == (Level.FAULT, "bad_commands")
    assert rig.seconds_until_rest() <= V_OVER_A + 0.004 + 1e-9
    assert rig.tick().halt
    assert rig.stays_at_rest()


def test_silence_holds_then_stops_and_takes_the_lease(rig, act):
    rig.arm()
    rig.run(0.02)
    rig.stream(0.6, act(x=0.55))
    silent = rig.now - 0.1  # when the last command came
    levels = {}
    while rig.now < silent + 2.5:
        rig.tick()
        levels.setdefault(rig.level, (rig.now - silent, rig.reason))
    # A chunk of one action starves before its source counts as silent.
    assert levels[Level.HOLD][0] <= 0.25 + 0.01
    assert levels[Level.DECELERATE][0] <= 1.2
    assert rig.guard.arbiter.holder(Source.POLICY) is None
    assert rig.stays_at_rest()


def test_chunk_exhausted_holds_without_extrapolation(rig, act):
    rig.arm()
    rig.run(0.02)
    rig.send(act(x=0.2, count=3))
    out = rig.run(0.5)
    assert (rig.level, rig.reason, rig.guard.starved) == (Level.HOLD, "starved", 1)
    executed = [o for *_, o in rig.outputs if o.action is not None]
    assert len(executed) == 3
    rig.send(act(x=0.2, count=3))
    out = rig.tick()
    out = rig.tick()
    assert out.level is Level.RUN


def test_a_slower_server_never_makes_old_actions_run(rig, act):
    """Latency grows from 100 to 800 ms and every tenth answer is lost."""
    rng = np.random.default_rng(0)
    rig.arm()
    rig.run(0.02)
    pending, asked = [], rig.now
    for index in range(2000):
        if not pending and rig.now >= asked:
            latency = 0.1 if index < 700 else 0.8
            asked = rig.now + latency
            if rng.uniform() > 0.1:
                pending.append((asked, rig.now))
        if pending and rig.now >= pending[0][0]:
            rig.send(act(x=rng.uniform(-0.2, 0.2), count=8), observed=pending.pop()[1])
        rig.tick()
        if rig.level is Level.DECELERATE:
            rig.arm()
    player = rig.guard._players[Source.POLICY]
    assert player.oldest <= 8 * PERIOD + 0.03
    assert rig.guard.starved > 0


@pytest.mark.parametrize(
    ("fault", "level", "name"),
    [
        ({"mode": "reflex", "error": "cartesian_reflex"}, Level.FAULT, "reflex"),
        ({"mode": "stopped"}, Level.DECELERATE, "robot_stopped"),
        ({"mode": "disconnected"}, Level.DECELERATE, "robot_disconnected"),
        (
            {"joints": np.array([2.69] + [0.0] * 6), "joint_velocities": np.full(7, 0.1)},
            Level.DECELERATE,
            "joint_limit",
        ),
    ],
)
def test_what_the_arm_reports_stops_it(rig, act, fault, level, name):
    rig.at_full_speed()
    rig.changes = fault
    rig.tick()
    assert (rig.level, rig.reason) == (level, name)
    assert rig.seconds_until_rest() <= V_OVER_A + 0.004
    rig.changes = {}
    assert rig.stays_at_rest()


def test_a_report_that_is_not_finite_gives_no_reference_and_halts(rig, act):
    rig.at_full_speed()
    rig.changes = {"joints": np.full(7, np.nan)}
    out = rig.tick()
    assert out.reference is None
    assert out.halt
    assert rig.reason == "state_not_finite"


def test_a_silent_arm_is_stopped_on_the_steady_clock(rig, act):
    rig.at_full_speed()
    rig.silent_since = rig.now
    begun = rig.now
    rig.run(0.5, lambda rig: rig.send(act(x=0.5, count=8)))
    assert (rig.level, rig.reason) == (Level.DECELERATE, "stale_state")
    assert rig.guard._follower.resting
    assert rig.now - begun == pytest.approx(0.5)


def test_recovery_is_a_decision_for_each_step(rig, act):
    rig.at_full_speed()
    rig.changes = {"mode": "reflex", "error": "cartesian_reflex"}
    rig.run(0.3)
    with pytest.raises(RobotFault, match="still there"):
        rig.guard.acknowledge(rig.now, rig.state())
    with pytest.raises(RobotFault, match="FAULT reflex: cartesian_reflex"):
        rig.guard.arm(rig.now, rig.state())
    rig.guard.recover(rig.now, rig.state())
    rig.changes = {}
    assert rig.stays_at_rest()
    assert rig.level is Level.FAULT
    with pytest.raises(RobotFault, match="not a reflex"):
        rig.guard.recover(rig.now, rig.state())
    rig.guard.acknowledge(rig.now, rig.state())
    assert rig.level is Level.DECELERATE
    assert rig.stays_at_rest()
    rig.arm()
    rig.run(0.2)
    assert rig.level is Level.RUN
    assert np.array_equal(rig.guard._follower.target.position, rig.pose.position)  # not into the same target


def test_reflexes_in_a_row_end_in_a_latch(rig):
    rig.arm()
    for _ in range(2):
        rig.changes = {"mode": "reflex"}
        rig.run(0.1)
        rig.guard.recover(rig.now, rig.state())
        rig.changes = {}
        rig.guard.acknowledge(rig.now, rig.state())
        rig.arm()
    rig.changes = {"mode": "reflex"}
    rig.run(0.1)
    with pytest.raises(RobotFault, match="more than 2 within 60 s"):
        rig.guard.recover(rig.now, rig.state())


def test_operator_stop_from_full_speed(rig, act):
    rig.at_full_speed()
    rig.guard.stop(rig.now, "operator")
    assert rig.seconds_until_rest() <= V_OVER_A + 0.004
    assert rig.reason == "operator_stop"
    assert rig.stays_at_rest()


class TestClocks:
    def test_steps_of_the_wall_clock_are_not_even_seen(self, rig, act, monkeypatch):
        import time

        monkeypatch.setattr(time, "time", lambda: 1e12)
        rig.at_full_speed()

    @pytest.mark.parametrize("gap", [0.03, 0.1, 3600.0])
    def test_missed_ticks_hold(self, rig, act, gap):
        rig.at_full_speed()
        before, speed = rig.pose.position.copy(), np.linalg.norm(rig.linear)
        rig.tick(gap)
        assert rig.level >= Level.HOLD
        assert np.linalg.norm(rig.pose.position - before) <= speed * min(gap, V_OVER_A) + 1e-9
        assert np.linalg.norm(rig.linear) <= speed

    def test_a_machine_that_stalls_again_and_again_still_arrives(self, rig, act):
        rig.arm()
        rig.run(0.02)
        rig.send(act(z=0.4, count=8))
        for _ in range(10):
            rig.tick(0.025)
            rig.run(0.06)
        assert {o.level for *_, o in rig.outputs[5:80]} == {Level.RUN, Level.HOLD}
        assert rig.pose.position[2] > 0.36  # eight steps of 2 cm, of which the first three are ramped

    @pytest.mark.parametrize("jump", [-0.001, -10.0, -3600.0])
    def test_robot_clock_that_goes_back_stops(self, rig, act, jump):
        rig.at_full_speed()
        rig.tick(robot_dt=jump)
        assert (rig.level, rig.reason) == (Level.DECELERATE, "robot_clock")
        assert rig.seconds_until_rest() <= V_OVER_A + 0.004
        assert rig.stays_at_rest()

    def test_a_slow_robot_gets_slow_references(self, rig, act):
        rig.arm()
        rig.run(0.02)
        for index in range(250):
            if index % 25 == 0:
                rig.send(act(x=0.55, count=8))
            rig.tick(robot_dt=0.3 * 0.004)
        positions = np.array([o.reference.pose.position for *_, o in rig.outputs if o.reference])
        times = np.array([robot for _, robot, o in rig.outputs if o.reference])
        moved = np.diff(times) > 0
        speed = np.linalg.norm(np.diff(positions, axis=0), axis=1)[moved] / np.diff(times)[moved]
        assert speed.max() <= 0.30 + 1e-6


def test_an_arm_that_is_held_is_not_pushed_further_than_the_lead(rig, act):
    rig.arm()
    rig.run(0.02)
    rig.changes = {"pose": rig.pose}
    rig.stream(1.0, act(x=0.55))
    lead = rig.settings.lead.position
    reached = [np.linalg.norm(o.reference.pose.position - [0.5, 0.0, 0.3]) for *_, o in rig.outputs if o.reference]
    assert max(reached) <= lead + 1e-3
    assert rig.level is Level.RUN


def test_an_arm_that_is_pushed_away_stops(rig, act):
    rig.at_full_speed()
    rig.changes = {"pose": rig.pose.moved(np.array([0.0, 0.1, 0.0]), np.zeros(3))}
    rig.tick()
    assert (rig.level, rig.reason) == (Level.DECELERATE, "not_following")


def test_outside_the_workspace_it_cannot_be_armed(rig):
    rig.changes = {"pose": dataclasses.replace(rig.pose, position=np.array([0.9, 0.0, 0.3]))}
    with pytest.raises(RobotFault, match=r"0\.200 m outside"):
        rig.arm()


def test_without_a_report_it_cannot_be_armed(rig):
    with pytest.raises(RobotFault, match="reported nothing"):
        rig.guard.arm(0.0, None)


def test_only_a_spec_of_the_robot_moves_it_and_steps_are_clipped(rig, act):
    rig.arm()
    rig.run(0.4)
    rig.send(act(x=5.0))
    rig.run(0.3)
    assert rig.pose.position[0] <= 0.5 + 0.03 + 1e-6
