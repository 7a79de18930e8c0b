"""Leases, sessions, sequences and priorities."""

import numpy as np
import pytest

from tgrpo.errors import RobotFault
from tgrpo_ros.motion import Command, Source
from tgrpo_ros.safety.arbiter import Arbiter
from tgrpo_ros.safety.settings import Handover, Watchdogs

ACTIONS = np.zeros((1, 7), np.float32)


@pytest.fixture
def arbiter():
    return Arbiter(Watchdogs(), Handover(), max_age=1.0, now=0.0)


def command(source=Source.POLICY, session="one", sequence=0, observed=0.0, engaged=True):
    return Command(source, session, sequence, observed, ACTIONS, engaged)


def give(arbiter, now, **keywords):
    sent = command(observed=now, **keywords)
    why = arbiter.refusal(sent, now)
    if not why:
        arbiter.note(sent, now, 0.0)
    return why


def test_without_a_lease_nothing_is_taken(arbiter):
    assert give(arbiter, 0.0).startswith("no lease")
    assert arbiter.refused == {"no lease": 1}


def test_second_session_is_refused_and_named(arbiter):
    arbiter.acquire(Source.POLICY, "one", 0.0)
    with pytest.raises(RobotFault, match="'one'; this is 'two'"):
        arbiter.acquire(Source.POLICY, "two", 0.5)
    assert give(arbiter, 0.5, session="two").startswith("other session")


def test_a_dead_session_is_replaced_and_its_late_commands_are_refused(arbiter):
    arbiter.acquire(Source.POLICY, "one", 0.0)
    assert give(arbiter, 0.1, sequence=5) == ""
    arbiter.acquire(Source.POLICY, "two", 1.2)
    assert give(arbiter, 1.2, sequence=6).startswith("other session")
    assert give(arbiter, 1.3, session="two", sequence=0) == ""


def test_signs_of_life_keep_a_lease(arbiter):
    arbiter.acquire(Source.POLICY, "one", 0.0)
    for tenth in range(1, 50):
        assert arbiter.keep(Source.POLICY, "one", tenth / 10)
    assert not arbiter.keep(Source.POLICY, "two", 5.0)
    with pytest.raises(RobotFault):
        arbiter.acquire(Source.POLICY, "two", 5.0)


@pytest.mark.parametrize("sequence", [7, 6, 0, -1])
def test_duplicate_and_old_sequences_are_refused(arbiter, sequence):
    arbiter.acquire(Source.POLICY, "one", 0.0)
    assert give(arbiter, 0.0, sequence=7) == ""
    assert give(arbiter, 0.1, sequence=sequence).startswith("old sequence")


@pytest.mark.parametrize("observed", [0.1, 3600.0, float("nan"), float("inf")])
def test_stamps_from_nowhere_are_refused(arbiter, observed):
    arbiter.acquire(Source.POLICY, "one", 0.0)
    assert arbiter.refusal(command(observed=observed), 0.0).startswith("from the future")


def test_old_observations_are_refused_and_are_no_sign_of_life(arbiter):
    arbiter.acquire(Source.POLICY, "one", 0.0)
    give(arbiter, 0.0)
    arbiter.choose(0.0)
    assert arbiter.refusal(command(sequence=1, observed=0.1), 1.2).startswith("expired")
    assert [reason.name for reason in arbiter.reasons(1.2)] == ["lease_lost"]


@pytest.mark.parametrize("observed", [float("-inf"), -1e9])
def test_observations_from_long_ago_are_refused(arbiter, observed):
    arbiter.acquire(Source.POLICY, "one", 0.0)
    assert arbiter.refusal(command(observed=observed), 0.0)


@pytest.mark.parametrize("source", [Source.SAFETY])
def test_safety_moves_nothing(arbiter, source):
    with pytest.raises(RobotFault, match="only human, reset and policy move"):
        arbiter.acquire(source, "one", 0.0)


def test_the_higher_source_wins(arbiter):
    order = [Source.POLICY, Source.RESET, Source.HUMAN]
    for source in order:
        arbiter.acquire(source, "one", 0.0)
        give(arbiter, 0.0, source=source)
        assert arbiter.choose(0.0) is source
    assert sorted(Source) == [Source.POLICY, Source.RESET, Source.SAFETY, Source.HUMAN]


def test_a_human_keeps_the_arm_for_a_moment_after_letting_go(arbiter):
    for source in (Source.POLICY, Source.HUMAN):
        arbiter.acquire(source, "one", 0.0)
        give(arbiter, 0.0, source=source)
    give(arbiter, 1.0, source=Source.HUMAN, sequence=1, engaged=False)
    assert arbiter.choose(1.0) is Source.HUMAN
    assert arbiter.choose(1.39) is Source.HUMAN
    assert arbiter.choose(1.41) is Source.POLICY


def test_a_resting_device_takes_nothing(arbiter):
    for source in (Source.POLICY, Source.HUMAN):
        arbiter.acquire(source, "one", 0.0)
    give(arbiter, 0.0)
    for index in range(20):
        give(arbiter, 0.0, source=Source.HUMAN, sequence=index, engaged=False)
        assert arbiter.choose(0.0) is Source.POLICY


def test_decisions_from_before_a_hand_over_are_refused(arbiter):
    arbiter.acquire(Source.POLICY, "one", 0.0)
    give(arbiter, 0.0)
    arbiter.choose(2.0)
    assert arbiter.refusal(command(sequence=1, observed=1.9), 2.1).startswith("before hand-over")
    assert arbiter.refusal(command(sequence=1, observed=2.0), 2.1) == ""


def test_revoking_takes_all(arbiter):
    arbiter.acquire(Source.POLICY, "one", 0.0)
    give(arbiter, 0.0)
    arbiter.revoke()
    assert arbiter.choose(0.0) is None
    assert arbiter.holder(Source.POLICY) is None
    assert give(arbiter, 0.1, sequence=1).startswith("no lease")


def test_release_is_only_for_the_holder(arbiter):
    arbiter.acquire(Source.POLICY, "one", 0.0)
    arbiter.release(Source.POLICY, "two")
    assert arbiter.holder(Source.POLICY) == "one"
    arbiter.release(Source.POLICY, "one")
    assert arbiter.holder(Source.POLICY) is None
