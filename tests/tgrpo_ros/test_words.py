"""What a person says, and when a scripted one takes over."""

import pytest

from tgrpo.errors import RobotFault, SettingsError
from tgrpo.session.flow import Flow, State
from tgrpo_ros.patience import Patience
from tgrpo_ros.words import Words


@pytest.fixture
def flow():
    """Waits for go."""
    flow = Flow(time_limit=10.0)
    flow.begin()
    flow.reset_done()
    flow.checked(0.0)
    return flow


def test_go_then_a_label_with_its_reason(flow):
    words = Words()
    words.say("success")  # nothing to label yet: dropped
    words.say("go")
    assert words.obey(flow, lambda: 1.0) == ["start"]
    words.say("failure", "dropped it")
    assert words.obey(flow, lambda: 2.0) == ["stop", "close"]
    assert (flow.outcome, flow.reason, flow.labelled_by) == ("failure", "dropped it", "operator")


def test_an_abort_counts_at_any_time_and_a_later_go_does_not(flow):
    words = Words()
    words.say("abort")
    words.say("go")
    assert words.obey(flow, lambda: 1.0) == ["close"]
    assert (flow.outcome, flow.reason) == ("aborted", "given up by the operator")


def test_what_was_said_for_the_last_episode_does_not_start_the_next(flow):
    words = Words()
    words.say("go")
    words.forget()
    assert words.obey(flow, lambda: 1.0) == []
    assert flow.state is State.READY


def test_pause_is_kept_until_resume():
    words = Words()
    words.say("pause")
    assert words.paused
    words.forget()
    assert words.paused
    words.say("resume")
    assert not words.paused


def test_between_episodes_only_go_and_abort_count():
    words = Words()
    words.say("success")
    assert not words.went()
    words.say("go")
    assert words.went()
    words.say("abort", "the bowl broke")
    with pytest.raises(RobotFault, match="the bowl broke"):
        words.went()


def test_an_unknown_word_is_refused():
    with pytest.raises(SettingsError, match="go, success, failure"):
        Words().say("run")


class TestPatience:
    def see(self, patience, step, stage=0, episode=1, running=True):
        return patience.see(episode, step, stage, running=running)

    def test_takes_over_after_so_many_steps_without_a_stage(self):
        patience = Patience(10, 1)
        assert [self.see(patience, step) for step in (0, 9, 10, 11)] == ["watch", "watch", "take", "act"]

    def test_a_new_stage_renews_the_patience_and_an_old_one_does_not(self):
        patience = Patience(10, 1)
        self.see(patience, 0)
        assert self.see(patience, 8, stage=1) == "watch"
        assert self.see(patience, 17, stage=0) == "watch"
        assert self.see(patience, 18, stage=1) == "take"

    def test_hands_back_after_a_stage(self):
        patience = Patience(10, 1)
        self.see(patience, 0)
        assert self.see(patience, 10, stage=0) == "take"
        assert self.see(patience, 20, stage=0) == "act"
        assert self.see(patience, 21, stage=1) == "let_go"
        assert [self.see(patience, step, stage=1) for step in (22, 30, 31)] == ["watch", "watch", "take"]

    def test_keeps_the_arm_to_the_end_if_told_so(self):
        patience = Patience(10, 0)
        self.see(patience, 0)
        self.see(patience, 10)
        assert self.see(patience, 50, stage=3) == "act"
        assert self.see(patience, 51, stage=3, running=False) == "let_go"
        assert self.see(patience, 52, stage=3, running=False) == "watch"

    def test_a_new_episode_begins_with_the_policy(self):
        patience = Patience(10, 0)
        self.see(patience, 0)
        self.see(patience, 10)
        assert self.see(patience, 0, episode=2) == "let_go"
        assert self.see(patience, 1, episode=2) == "watch"

    def test_giving_up_waits_anew(self):
        patience = Patience(10, 1)
        self.see(patience, 0)
        assert self.see(patience, 10) == "take"
        patience.give_up(10)
        assert [self.see(patience, step) for step in (11, 19, 20)] == ["watch", "watch", "take"]
