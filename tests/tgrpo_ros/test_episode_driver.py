"""One episode against an arm node that is told how to behave: who is blamed, and that it always ends."""

import dataclasses

import pytest

pytest.importorskip("rclpy")
from tgrpo.errors import RobotFault
from tgrpo.session.flow import Flow
from tgrpo_ros import episode_driver
from tgrpo_ros.episode_driver import EpisodeDriver, Job
from tgrpo_ros.status import ArmStatus
from tgrpo_ros.words import Words

JOB = Job("tcp://127.0.0.1:1", "put the bowl on the plate", 0.0, max_steps=100, rate=20.0)


class Client:
    """An arm node whose statuses are a script; each look shows the next one."""

    reports = True

    def __init__(self, *statuses):
        self.script, self.calls, self.silent = list(statuses), [], False
        self.status = ArmStatus(level="DECELERATE", reason="not_armed", episode=1)
        self.refuses = ""

    def look(self, seconds):
        if self.script:
            now = self.script.pop(0)
            if callable(now):
                now()
            else:
                self.status = now

    def run(self):
        self.calls.append("run")
        if self.refuses:
            raise RobotFault(self.refuses)

    def stop(self):
        self.calls.append("stop")


class Policy:
    def __init__(self):
        self.calls = []

    def direct(self, *what):
        self.calls.append(what)

    def enable(self, *, on):
        self.calls.append(on)


class Start:
    def __init__(self, *problems, fault=""):
        self.problems, self.fault, self.resets = list(problems), fault, 0

    def reset(self):
        self.resets += 1
        if self.fault:
            raise RobotFault(self.fault)

    def check(self):
        return self.problems.pop(0) if self.problems else ""


class Tape:
    moved, begun, finished = float("inf"), False, False

    def begin(self):
        self.begun = True

    def turn(self):
        pass

    def finish(self):
        self.finished = True


@dataclasses.dataclass
class Played:
    flow: Flow
    client: Client
    policy: Policy
    start: Start
    tape: Tape
    said: list


@pytest.fixture
def play():
    def run(*statuses, attended=False, start=None, problem="", refuses="", silent=False, words=None):
        client, policy, tape, said = Client(*statuses), Policy(), Tape(), []
        client.refuses = refuses
        client.silent = silent
        start = start or Start()
        flow = Flow(5.0, confirm_start=attended, confirm_label=attended)
        driver = EpisodeDriver(client, policy, words or Words(), said.append)
        driver.play(flow, JOB, start, tape, lambda: problem)
        assert tape.finished
        assert driver.flow is None
        return Played(flow, client, policy, start, tape, said)

    return run


def status(level="RUN", steps=10, **more):
    return ArmStatus(level=level, steps=steps, episode=1, **more)


def test_success_in_simulation(play):
    done = play(status(), status(success=True))
    assert (done.flow.outcome, done.flow.labelled_by) == ("success", "detector")
    assert done.policy.calls == [(JOB.server, JOB.instruction, 0.0), True]
    assert done.client.calls == ["run", "stop"]
    assert done.tape.begun


def test_the_step_limit_is_a_failure_of_the_policy(play):
    stopped = status("DECELERATE", 100, reason="operator_stop", detail="the scene, where ... asked for a stop")
    done = play(status(), stopped)
    assert (done.flow.outcome, done.flow.reason) == ("failure", "time limit of 5 s")


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("lease_lost", "infrastructure"), ("camera_lost", "infrastructure"), ("operator_stop", "aborted"),
     ("outside_workspace", "failure")],
)  # fmt: skip
def test_a_stop_is_blamed_on_its_cause(play, reason, outcome):
    done = play(status(), status("DECELERATE", reason=reason, detail="why"))
    assert done.flow.outcome == outcome
    assert reason in done.flow.reason


def test_an_arm_node_that_is_gone_is_no_failure_and_is_not_asked_to_stop(play):
    done = play(status(), silent=True)
    assert (done.flow.outcome, done.flow.reason) == ("infrastructure", "the arm node is silent")
    assert done.client.calls == ["run"]


def test_a_rollout_in_which_nothing_moves_ends(play, monkeypatch):
    monkeypatch.setattr(Tape, "moved", 0.0)
    done = play(status("HOLD", reason="starved"))
    assert done.flow.outcome == "infrastructure"
    said = "nothing has moved for 30 s: HOLD starved; nobody moves the arm, nobody may, refused nothing"
    assert said in done.flow.reason
    assert episode_driver.STALL == 30.0


def test_a_recording_that_has_ended_is_no_failure_of_the_policy(play):
    assert play(status(), problem="the disk is full").flow.outcome == "infrastructure"


def test_a_reset_that_fails_is_told(play):
    done = play(start=Start(fault="there is no such state"))
    assert (done.flow.outcome, done.flow.reason) == ("infrastructure", "reset: there is no such state")
    assert done.client.calls == []


def test_an_arm_that_refuses_is_told(play):
    done = play(refuses="a reflex")
    assert done.flow.outcome == "infrastructure"
    assert "the rollout did not begin: a reflex" in done.flow.reason


def test_a_wrong_start_is_reset_and_after_three_given_up(play):
    assert play(status(success=True), start=Start("a", "b")).start.resets == 3
    done = play(start=Start("a", "b", "c"))
    assert (done.flow.outcome, done.start.resets) == ("infrastructure", 3)
    assert "the start is not right: c" in done.said


def test_a_person_says_go_and_confirms(play):
    words = Words()
    done = play(
        lambda: words.say("go"),
        status(),
        status(success=True),
        lambda: words.say("success"),
        attended=True,
        words=words,
    )
    assert (done.flow.outcome, done.flow.labelled_by) == ("success", "operator")
    assert "ready: say go" in done.said


def test_a_person_aborts_a_rollout(play):
    words = Words()
    done = play(
        lambda: words.say("go"), status(), lambda: words.say("abort", "a hand came in"), attended=True, words=words
    )
    assert (done.flow.outcome, done.flow.reason) == ("aborted", "a hand came in")
    assert done.client.calls == ["run", "stop"]
