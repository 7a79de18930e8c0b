"""The control loop: its own thread, a real safety layer, and an arm that is told how to fail."""

import threading
import time

import numpy as np
import pytest

from tests.tgrpo_ros.scripted_arm import ScriptedArm, ScriptedScene
from tgrpo.errors import RobotFault
from tgrpo.settings import from_builtins
from tgrpo.spec import ActionSpec
from tgrpo_ros.control import ControlLoop
from tgrpo_ros.frames import Header
from tgrpo_ros.motion import Command, Source
from tgrpo_ros.safety import Guard, SafetySettings
from tgrpo_ros.sim_episode import SimEpisode

# Wide watchdogs: the machine that runs this may stall, and what is tested here is not how fast it is.
SLOW = {"command_hold": 5.0, "command_stop": 10.0, "state_stop": 5.0, "missed_ticks": 1000, "human_hold": 5.0}
SAFETY = {
    "workspace": {"low": [0.3, -0.3, 0.1], "high": [0.7, 0.3, 0.6]},
    "joints": {"low": [-2.7] * 7, "high": [2.7] * 7},
    "rate": 50.0,
    "watchdogs": SLOW,
}
WAITING = {**SAFETY, "rate": 10.0, "reference": "direct", "chunks": {"align": "sequence"}}
SPEC = ActionSpec(rate=10.0)


@pytest.fixture
def make():
    """A running loop; ends with the test."""
    loops = []

    def begin(arm, safety=SAFETY, scene=None, cameras=()):
        settings = from_builtins(safety, SafetySettings)
        guard = Guard(settings, SPEC, cameras, arm.now(), still=cameras)
        reports = []
        loop = ControlLoop(arm, guard, settings, reports.append, scene=scene, cameras=cameras)
        loop.reports = reports
        loops.append(loop)
        loop.start()
        return loop

    yield begin
    for loop in loops:
        loop.close()


def command(arm, x=0.1, count=1, sequence=1, session="one", source=Source.POLICY):
    actions = np.zeros((count, 7), np.float32)
    actions[:, 0] = x
    return Command(source, session, sequence, arm.now(), actions)


def running(loop, wait):
    loop.keep(Source.POLICY, "one")
    assert loop.arm() == "the arm runs"
    wait(lambda: loop.reports and loop.reports[-1].status.level == "RUN")


class TestRealTime:
    def test_nothing_moves_before_somebody_arms_it(self, make, wait):
        arm = ScriptedArm()
        loop = make(arm)
        loop.keep(Source.POLICY, "one")
        loop.submit(command(arm))
        wait(lambda: len(loop.reports) > 5)
        assert "start" not in arm.calls
        assert loop.reports[-1].status.reason == "not_armed"

    def test_a_command_moves_the_arm(self, make, wait):
        arm = ScriptedArm()
        loop = make(arm)
        running(loop, wait)
        loop.submit(command(arm, count=5))
        wait(lambda: arm.pose.position[0] > 0.5)
        assert loop.reports[-1].status.leases == {"policy": "one"}

    def test_the_wall_clock_does_not_matter(self, make, wait, monkeypatch):
        arm = ScriptedArm()
        loop = make(arm)
        running(loop, wait)
        for jump in (-3600.0, 3600.0):
            monkeypatch.setattr(time, "time", lambda jump=jump: 1e9 + jump)
            seen = len(loop.reports)
            wait(lambda seen=seen: len(loop.reports) > seen + 10)
        assert loop.reports[-1].status.level == "RUN"

    def test_a_second_session_moves_nothing_and_is_counted(self, make, wait):
        arm = ScriptedArm()
        loop = make(arm)
        running(loop, wait)
        loop.keep(Source.POLICY, "two")
        loop.submit(command(arm, session="two"))
        wait(lambda: loop.reports[-1].status.refused.get("lease held") == 1)
        wait(lambda: loop.reports[-1].status.refused.get("other session") == 1)
        assert arm.pose.position[0] == 0.5

    def test_a_driver_that_fails_ends_the_loop_and_stops_the_arm(self, make, wait):
        arm = ScriptedArm()
        loop = make(arm)
        running(loop, wait)
        arm.fault = "the cable is out"
        wait(lambda: loop.failure)
        assert loop.failure == "the cable is out"
        wait(lambda: arm.calls[-1] == "stop")
        with pytest.raises(RobotFault, match="cable is out"):
            loop.arm()

    def test_a_listener_that_fails_stops_the_arm_too(self, make, wait):
        arm = ScriptedArm()
        loop = make(arm)
        running(loop, wait)
        loop._listener = lambda report: 1 / 0
        wait(lambda: loop.failure)
        wait(lambda: arm.calls[-1] == "stop")

    def test_an_operator_stops_it(self, make, wait):
        arm = ScriptedArm()
        loop = make(arm)
        running(loop, wait)
        assert loop.stop("an operator") == "DECELERATE operator_stop: an operator asked for a stop"
        wait(lambda: loop.reports[-1].status.leases == {})

    def test_reflex_then_recovery_acknowledgement_and_arming_are_three_decisions(self, make, wait):
        arm = ScriptedArm()
        loop = make(arm)
        running(loop, wait)
        with pytest.raises(RobotFault, match="no fault"):
            loop.acknowledge()
        with pytest.raises(RobotFault, match="not a reflex"):
            loop.recover()
        arm.mode = "reflex"
        wait(lambda: loop.reports[-1].status.level == "FAULT")
        wait(lambda: arm.calls[-1] == "stop")
        assert arm.calls.count("stop") == 1
        with pytest.raises(RobotFault, match="still there"):
            loop.acknowledge()
        assert "acknowledge the fault" in loop.recover()
        assert arm.calls[-1] == "recover"
        with pytest.raises(RobotFault, match="not armed"):
            loop.arm()
        loop.acknowledge()
        assert not arm.started
        loop.arm()
        assert arm.started

    def test_a_robot_that_does_not_start_stays_stopped(self, make, wait):
        arm = ScriptedArm()
        loop = make(arm)
        wait(lambda: loop.reports)
        arm.start = lambda: (_ for _ in ()).throw(RobotFault("the brakes are on"))
        with pytest.raises(RobotFault, match="brakes"):
            loop.arm()
        wait(lambda: loop.reports[-1].status.reason == "operator_stop")

    def test_closing_stops_the_arm_and_arming_afterwards_is_refused(self, make, wait):
        arm = ScriptedArm()
        loop = make(arm)
        running(loop, wait)
        loop.close()
        assert not arm.started
        with pytest.raises(RobotFault, match="Activate the node"):
            loop.arm()

    def test_an_arm_that_moves_is_not_armed(self, make):
        arm = ScriptedArm()
        arm.speed = 0.07
        with pytest.raises(RobotFault, match="Wait until it rests"):
            make(arm).arm()

    def test_a_real_arm_has_no_reset(self, make):
        with pytest.raises(RobotFault, match="this arm is real"):
            make(ScriptedArm()).reset(0, 0)


class TestSceneInRealTime:
    @pytest.fixture
    def arm(self):
        return ScriptedScene(pace="real")

    @pytest.fixture
    def loop(self, make, arm):
        return make(arm, SAFETY, SimEpisode(arm))

    def test_an_episode_begins_when_the_arm_is_armed(self, loop, arm, wait):
        """The scene runs on between a reset and that; none of it counts to the step limit."""
        loop.limit_steps(30)
        loop.reset(1, 0)
        arm.steps += 100
        wait(lambda: loop.reports[-1].status.episode == 2)
        assert loop.reports[-1].status.steps == 0
        running(loop, wait)
        loop.submit(command(arm))
        wait(lambda: loop.reports[-1].status.steps > 0)
        loop.stop("a test")
        arm.speed, steps = 0.0, loop.reports[-1].status.steps
        loop.arm()
        arm.steps += 1
        wait(lambda: loop.reports[-1].status.steps > steps)  # armed again, it is the same episode

    def test_an_arm_that_sways_in_its_initial_state_is_no_arm_that_does_not_stop(self, loop, arm, wait):
        arm.speed = 0.2
        loop.reset(1, 0)
        until = time.monotonic() + 1.5 * loop._guard.ladder._stop_time
        wait(lambda: time.monotonic() > until)
        assert loop.reports[-1].status.level == "DECELERATE"
        running(loop, wait)

    def test_an_arm_that_moves_later_is_not_armed(self, loop, arm, wait):
        running(loop, wait)
        loop.submit(command(arm))
        wait(lambda: loop.reports[-1].status.steps > 0)
        loop.stop("a test")
        arm.speed = 0.2
        with pytest.raises(RobotFault, match="moves"):
            loop.arm()


class TestSceneThatWaits:
    @pytest.fixture
    def arm(self):
        return ScriptedScene(step=0.1)

    @pytest.fixture
    def loop(self, make, arm):
        return make(arm, WAITING, SimEpisode(arm))

    def test_it_does_one_step_for_each_action_and_then_waits(self, loop, arm, wait):
        running(loop, wait)
        time.sleep(0.2)
        assert arm.steps == 0
        loop.submit(command(arm, count=4))
        wait(lambda: arm.steps == 4)
        time.sleep(0.2)
        assert arm.steps == 4
        assert loop.reports[-1].status.starved == 0

    def test_a_command_for_another_step_is_dropped(self, loop, arm, wait):
        running(loop, wait)
        early = command(arm, count=2)
        loop.submit(early)
        wait(lambda: arm.steps == 2)
        loop.submit(Command(Source.POLICY, "one", 2, early.observed, early.actions))
        time.sleep(0.3)
        assert arm.steps == 2

    def test_it_waits_for_every_camera(self, make, arm, wait):
        loop = make(arm, WAITING, SimEpisode(arm), cameras=("left", "right"))
        see = lambda camera, step: loop.see(  # noqa: E731
            Header(
                camera=camera,
                sender="a",
                sequence=step,
                captured=step * 0.1,
                digest=0,
                height=1,
                width=1,
                domain="simulation",
            )
        )
        running(loop, wait)
        loop.submit(command(arm, count=2))
        see("left", 0)
        time.sleep(0.2)
        assert arm.steps == 0
        see("right", 0)
        wait(lambda: arm.steps == 1)
        see("right", 1)
        time.sleep(0.2)
        assert arm.steps == 1
        see("left", 1)
        wait(lambda: arm.steps == 2)

    def test_the_step_limit_ends_the_episode(self, loop, arm, wait):
        loop.limit_steps(3)
        running(loop, wait)
        loop.submit(command(arm, count=8))
        wait(lambda: loop.reports[-1].status.level == "DECELERATE")
        assert arm.steps == 3
        assert "has reached its 3 steps" in loop.reports[-1].status.detail

    def test_reset_stops_and_waits_to_be_armed(self, loop, arm, wait):
        running(loop, wait)
        assert loop.reset(2, 0) == "episode 2 begins at initial state 2"
        wait(lambda: loop.reports[-1].status.episode == 2)
        assert loop.reports[-1].status.level == "DECELERATE"
        with pytest.raises(RobotFault, match="no such state"):
            loop.reset(10, 0)

    def test_it_is_armed_in_an_initial_state_whose_arm_sways(self, loop, arm, wait):
        arm.speed = 0.07  # [rad/s] initial state 10 of the shipped policy's task
        loop.reset(2, 0)
        assert loop.arm() == "the arm runs"

    def test_stopped_in_a_motion_it_has_to_be_reset(self, loop, arm, wait):
        running(loop, wait)
        loop.submit(command(arm, count=2))
        wait(lambda: arm.steps == 2)
        loop.stop("somebody")
        arm.speed = 0.07
        with pytest.raises(RobotFault, match=r"never comes to rest. Call ~/reset"):
            loop.arm()
        loop.reset(2, 0)
        assert loop.arm() == "the arm runs"

    def test_the_lease_of_a_silent_sender_ends_although_the_clock_stands(self, make, arm, wait):
        safety = {**WAITING, "watchdogs": {**SLOW, "command_hold": 0.1, "command_stop": 0.3}}
        loop = make(arm, safety, SimEpisode(arm))
        loop.keep(Source.POLICY, "one")
        wait(lambda: loop.reports and loop.reports[-1].status.leases == {"policy": "one"})
        wait(lambda: loop.reports[-1].status.leases == {})
        loop.keep(Source.POLICY, "two")
        wait(lambda: loop.reports[-1].status.leases == {"policy": "two"})

    def test_a_person_moves_it_by_this_machines_clock(self, loop, arm, wait):
        running(loop, wait)
        loop.keep(Source.HUMAN, "person")
        actions = np.full((1, 7), 0.1, np.float32)
        loop.submit(Command(Source.HUMAN, "person", 1, time.monotonic(), actions))
        wait(lambda: arm.steps == 1)

    def test_who_lets_go_keeps_the_arm_for_a_moment_of_the_scene_and_then_the_policy_has_it(self, loop, arm, wait):
        running(loop, wait)
        loop.submit(command(arm, count=2))
        wait(lambda: arm.steps == 2)
        loop.keep(Source.HUMAN, "person")
        actions = np.full((1, 7), 0.1, np.float32)
        loop.submit(Command(Source.HUMAN, "person", 1, time.monotonic(), actions))
        wait(lambda: loop.reports[-1].status.source == "human")
        before, place = arm.steps, arm.pose.position.copy()
        loop.submit(Command(Source.HUMAN, "person", 2, time.monotonic(), actions, engaged=False))
        wait(lambda: loop.reports[-1].status.source == "policy")
        assert arm.steps - before == 6  # 0.4 s at 10 Hz and one more, in which the policy gets it
        assert arm.pose.position == pytest.approx(place)
        loop.submit(command(arm, sequence=2))
        wait(lambda: arm.steps == before + 7)

    def test_who_had_the_arm_at_the_end_has_lost_it_at_the_next_start(self, loop, arm, wait):
        running(loop, wait)
        loop.keep(Source.HUMAN, "person")
        loop.submit(Command(Source.HUMAN, "person", 1, time.monotonic(), np.full((1, 7), 0.1, np.float32)))
        wait(lambda: loop.reports[-1].status.source == "human")
        loop.reset(2, 0)
        running(loop, wait)
        wait(lambda: loop.reports[-1].status.source == "")
        before = arm.steps
        loop.submit(command(arm, count=2))
        wait(lambda: arm.steps == before + 2)
        assert loop.reports[-1].status.source == "policy"

    def test_reports_name_the_command_of_each_action_and_when_it_began(self, loop, arm, wait):
        running(loop, wait)
        loop.submit(command(arm, count=3, sequence=7))
        wait(lambda: arm.steps == 3)
        wait(lambda: loop.reports[-1].now == pytest.approx(0.3))
        began = {r.began: r.output.taken for r in loop.reports if r.output is not None and r.output.action is not None}
        assert list(began) == pytest.approx([0.0, 0.1, 0.2])
        assert list(began.values()) == [(7, 0), (7, 1), (7, 2)]


def test_jobs_of_many_threads_are_all_done(make, wait):
    arm = ScriptedArm()
    loop = make(arm)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(loop.stop("a crowd"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert len(answers) == 8
