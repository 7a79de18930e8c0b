"""The life of an episode, step by step, and who is blamed for its end."""

import itertools
import random

import pytest

from tgrpo.errors import SettingsError
from tgrpo.session.flow import BLAME, Flow, State


def rolling(**keywords):
    """An episode whose rollout began at 10 s."""
    flow = Flow(time_limit=30.0, **keywords)
    flow.begin()
    flow.reset_done()
    flow.checked(9.0)
    if flow.state is State.READY:
        flow.go(10.0)
    return flow


def test_from_reset_to_label():
    flow = Flow(time_limit=30.0)
    assert flow.begin() == ["reset"]
    assert flow.reset_done() == ["check"]
    assert flow.checked(5.0) == ["ask_go"]
    assert flow.tick(500.0) == []  # waiting for a person takes as long as it takes
    assert flow.go(501.0) == ["start"]
    assert flow.tick(530.9) == []
    assert flow.detected() == ["stop", "ask_label"]
    assert (flow.state, flow.suggestion) == (State.LABEL, "success")
    assert flow.label("success") == ["close"]
    assert (flow.state, flow.outcome, flow.labelled_by, flow.reason) == (State.DONE, "success", "operator", "")


def test_without_a_person():
    flow = rolling(confirm_start=False, confirm_label=False)
    assert flow.state is State.ROLLOUT
    assert flow.tick(38.9) == []
    assert flow.tick(39.0) == ["stop", "close"]  # it began with the check, at 9 s
    assert (flow.outcome, flow.reason, flow.labelled_by) == ("failure", "time limit of 30 s", "detector")


def test_a_person_may_overrule_the_detector():
    flow = rolling()
    flow.detected()
    assert flow.label("failure", "tipped over") == ["close"]
    assert (flow.outcome, flow.reason) == ("failure", "tipped over")


def test_a_confirmed_suggestion_keeps_its_reason_and_an_overruled_one_does_not():
    confirmed, overruled = rolling(), rolling()
    for flow, outcome in ((confirmed, "failure"), (overruled, "success")):
        flow.tick(40.0)
        flow.label(outcome)
    assert (confirmed.reason, overruled.reason) == ("time limit of 30 s", "")


def test_a_label_ends_a_rollout():
    flow = rolling()
    assert flow.label("success") == ["stop", "close"]


@pytest.mark.parametrize(
    ("reason", "outcome", "todo"),
    [
        ("reflex", "failure", ["stop", "ask_label"]),
        ("joint_limit", "failure", ["stop", "ask_label"]),
        ("bad_commands", "failure", ["stop", "ask_label"]),
        ("operator_stop", "aborted", ["stop", "close"]),
        ("camera_lost", "infrastructure", ["stop", "close"]),
        ("lease_lost", "infrastructure", ["stop", "close"]),
        ("robot_disconnected", "infrastructure", ["stop", "close"]),
        ("something_new", "infrastructure", ["stop", "close"]),
    ],
)
def test_who_is_to_blame_for_a_stop(reason, outcome, todo):
    flow = rolling()
    assert flow.stopped(reason, "detail") == todo
    assert (flow.suggestion or flow.outcome) == outcome
    assert flow.reason == f"{reason}: detail"


def test_every_reason_of_the_safety_layer_that_a_policy_can_cause_is_named():
    """Those of docs/safety.md that are about where commands lead; all others are somebody else's."""
    caused = {reason for reason, outcome in BLAME.items() if outcome == "failure"}
    assert caused == {"joint_limit", "outside_workspace", "not_following", "reflex", "bad_commands"}


def test_a_wrong_start_is_laid_out_again_and_given_up_after_three_times():
    flow = Flow(time_limit=30.0)
    flow.begin()
    for _ in range(2):
        flow.reset_done()
        assert flow.checked(0.0, "arm 0.03 m away") == ["reset"]
    flow.reset_done()
    assert flow.checked(0.0, "arm 0.03 m away") == ["close"]
    assert flow.outcome == "infrastructure"
    assert flow.reason == "start was wrong 3 times: arm 0.03 m away"


def test_a_reset_that_fails_is_no_failure_of_the_policy():
    flow = Flow(time_limit=30.0)
    flow.begin()
    assert flow.reset_done("planner left the box") == ["close"]
    assert (flow.outcome, flow.reason) == ("infrastructure", "reset: planner left the box")


@pytest.mark.parametrize("how", ["abort", "broke"])
def test_an_episode_can_end_at_any_time(how):
    def at(state):
        flow = Flow(time_limit=30.0)
        steps = [flow.begin, flow.reset_done, lambda: flow.checked(0.0), lambda: flow.go(1.0), flow.detected]
        for step in steps:
            if flow.state is state:
                return flow
            step()
        return flow

    for state in (State.RESET, State.CHECK, State.READY, State.ROLLOUT, State.LABEL):
        flow = at(state)
        assert flow.state is state
        moving = state is State.ROLLOUT
        assert getattr(flow, how)("power cut") == (["stop", "close"] if moving else ["close"])
        assert flow.outcome == {"abort": "aborted", "broke": "infrastructure"}[how]
        assert getattr(flow, how)("again") == []


def test_what_comes_late_changes_nothing():
    flow = rolling()
    flow.label("failure", "dropped")
    assert flow.tick(1e9) == flow.detected() == flow.stopped("reflex") == []
    assert (flow.outcome, flow.reason) == ("failure", "dropped")
    with pytest.raises(SettingsError, match="nothing to label"):
        flow.label("success")


@pytest.mark.parametrize("outcome", ["infrastructure", "interrupted", "perfect"])
def test_what_a_person_cannot_say(outcome):
    with pytest.raises(SettingsError, match="success, failure or aborted"):
        rolling().label(outcome)


def test_steps_out_of_order_are_refused():
    flow = Flow(time_limit=30.0)
    with pytest.raises(SettingsError, match="at 'reset', not at 'ready'"):
        flow.go(0.0)
    with pytest.raises(SettingsError, match="at 'reset', not at 'check'"):
        flow.checked(0.0)


def chaos(seed):
    """What an episode asks for while random things happen to it, and the episode."""
    rng, flow, done = random.Random(seed), Flow(time_limit=5.0, confirm_label=seed % 2 == 0), []
    for now in map(float, range(60)):
        events = [
            flow.begin,
            flow.reset_done,
            lambda: flow.reset_done("no"),
            lambda now=now: flow.checked(now),
            lambda now=now: flow.go(now),
            lambda now=now: flow.tick(now),
            flow.detected,
            lambda: flow.stopped("reflex"),
            lambda: flow.stopped("camera_lost"),
            lambda: flow.label("failure"),
            lambda: flow.broke("node"),
        ]
        before = flow.state
        try:
            done += rng.choice(events)()
        except SettingsError:
            assert flow.state is before
    return flow, done


def test_whatever_happens_it_moves_only_between_start_and_stop_and_closes_once():
    """Random events, seeds 0 to 499."""
    reached = set()
    for seed in range(500):
        flow, done = chaos(seed)
        moving = False
        for todo in done:
            if todo in ("start", "stop"):
                assert moving is (todo == "stop")
                moving = todo == "start"
        reached.add(flow.outcome)
        assert done.count("close") == (flow.state is State.DONE)
        assert not (moving and flow.state is not State.ROLLOUT)
        assert all(a != "close" for a, _ in itertools.pairwise(done))
    assert {"failure", "infrastructure"} <= reached
