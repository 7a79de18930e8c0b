"""Chunks, cameras and recoveries."""

import numpy as np
import pytest

from tgrpo.errors import RobotFault, UnknownNameError
from tgrpo_ros.motion import Command, Source
from tgrpo_ros.safety.cameras import CameraWatch, digest
from tgrpo_ros.safety.chunks import ChunkPlayer
from tgrpo_ros.safety.recovery import RecoveryBudget
from tgrpo_ros.safety.settings import ChunkLimits, Recovery, Watchdogs


def chunk(count=8, observed=0.0):
    actions = np.zeros((count, 7), np.float32)
    actions[:, 0] = np.arange(count)
    return Command(Source.POLICY, "one", 0, observed, actions)


def play(align, times, count=8, max_age=1.0):
    player = ChunkPlayer(ChunkLimits(align=align, max_age=max_age), 0.1)
    player.load(chunk(count))
    taken = [player.take(time) for time in times]
    return [None if action is None else int(action[0]) for action in taken], player


def test_stamp_drops_what_was_meant_for_the_time_of_thinking():
    taken, player = play("stamp", [0.25, 0.35, 0.45])
    assert taken == [2, 3, 4]
    assert player.dropped == 2


def test_stamp_with_jitter_plays_each_action_once():
    rng = np.random.default_rng(0)
    taken, _ = play("stamp", [0.15 + 0.1 * i + rng.uniform(-0.02, 0.02) for i in range(7)])
    assert taken == [1, 2, 3, 4, 5, 6, 7]


def test_a_chunk_that_is_too_late_is_not_played_at_all():
    taken, player = play("stamp", [0.8, 0.9])
    assert taken == [None, None]
    assert player.dropped == 8


def test_sequence_plays_all_of_a_late_chunk_but_none_beyond_its_age():
    taken, player = play("sequence", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2])
    assert taken == [0, 1, 2, 3, 4, 5, None, None]
    assert player.oldest <= 1.0


def test_the_end_is_the_end():
    taken, _ = play("sequence", [0.0, 0.1, 0.2, 0.3], count=2)
    assert taken == [0, 1, None, None]


def test_a_late_tick_skips_and_never_goes_back():
    taken, _ = play("stamp", [0.0, 0.1, 0.45, 0.4, 0.55])
    assert taken == [0, 1, 4, 5, 6]


class TestCameras:
    def watch(self, **keywords):
        return CameraWatch(["wrist", "front"], Watchdogs(), now=0.0, **keywords)

    def names(self, watch, now):
        return [reason.name for reason in watch.reasons(now)]

    def test_never_seen_is_lost(self):
        watch = self.watch()
        assert self.names(watch, 0.1) == []
        assert self.names(watch, 0.16) == ["camera_lost", "camera_lost"]
        assert "'wrist'" in watch.reasons(0.16)[0].detail

    def test_unplugging_is_noticed_in_time_and_plugging_in_clears_it(self):
        watch = self.watch()
        for index in range(10):
            for name in ("wrist", "front"):
                watch.see(name, index * 0.03, index, index * 0.03)
        watch.see("front", 0.45, 11, 0.45)
        assert self.names(watch, 0.45) == ["camera_lost"]
        watch.see("wrist", 0.5, 12, 0.5)
        assert self.names(watch, 0.5) == []

    @pytest.mark.parametrize(
        ("captured", "names"), [(0.0, []), (-0.19, []), (-0.21, ["camera_late"]), (0.04, []), (0.06, ["camera_clock"])]
    )
    def test_age_of_a_frame_at_its_arrival(self, captured, names):
        watch = CameraWatch(["wrist"], Watchdogs(), now=0.0)
        watch.see("wrist", captured, 1, 0.0)
        assert self.names(watch, 0.0) == names

    def test_a_frozen_picture_with_fresh_stamps(self):
        watch = CameraWatch(["wrist"], Watchdogs(frozen_frames=15), now=0.0)
        image = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        for index in range(16):
            assert self.names(watch, index * 0.03) == []
            watch.see("wrist", index * 0.03, digest(image), index * 0.03)
        assert self.names(watch, 0.45) == ["camera_frozen"]
        image[0, 0, 0] ^= 1
        watch.see("wrist", 0.48, digest(image), 0.48)
        assert self.names(watch, 0.48) == []

    def test_a_simulated_picture_may_repeat(self):
        watch = CameraWatch(["wrist"], Watchdogs(), now=0.0, still=["wrist"])
        for index in range(100):
            watch.see("wrist", index * 0.03, 7, index * 0.03)
        assert self.names(watch, 2.97) == []

    def test_unknown_camera(self):
        with pytest.raises(UnknownNameError, match="wrist"):
            self.watch().see("rist", 0.0, 0, 0.0)

    def test_digest_of_a_view_equals_that_of_its_copy(self):
        image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
        assert digest(image[:, ::-1]) == digest(image[:, ::-1].copy()) != digest(image)


class TestRecovery:
    def test_refused_without_a_reflex(self, state_with):
        with pytest.raises(RobotFault, match="not a reflex"):
            RecoveryBudget(Recovery()).spend(0.0, state_with())

    def test_two_a_minute_then_never_again(self, state_with):
        reflex = state_with(mode="reflex", error="cartesian_reflex")
        budget = RecoveryBudget(Recovery())
        for now in (0.0, 1.0, 61.0, 62.0):
            budget.spend(now, reflex)
        with pytest.raises(RobotFault, match="cartesian_reflex"):
            budget.spend(63.0, reflex)
        assert budget.latched
        with pytest.raises(RobotFault, match="restart its node"):
            budget.spend(1e6, reflex)
