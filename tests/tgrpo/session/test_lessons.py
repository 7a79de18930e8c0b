"""What is learned from recorded episodes, against the known content of made-up ones."""

from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from tests.tgrpo.record.episodes import action, info, write_session
from tgrpo.algo import estimate
from tgrpo.errors import RecordingError, SettingsError
from tgrpo.learner import LearnerSettings
from tgrpo.policies import bins
from tgrpo.record import episode as episodes
from tgrpo.record.demo_file import Demonstration
from tgrpo.record.session import closed_episodes
from tgrpo.session.lessons import Lesson, balanced, demonstrated, group, lessons

CAMERAS = ("agentview", "robot0_eye_in_hand")


def recorded(path, *rows):
    """Episodes of ``(outcome, shape, changes of the info)``."""
    made = [(info(**about), outcome, {"cameras": CAMERAS, **shape}) for outcome, shape, about in rows]
    write_session(path, made)
    return [episodes.load(folder) for folder in closed_episodes(path)]


@pytest.fixture
def one(tmp_path):
    def make(outcome="failure", about=None, **shape):
        return recorded(tmp_path / "session", (outcome, shape, about or {}))[0]

    return make


def bins_of(steps, human=True):
    values = np.clip(np.array([action(step) for step in steps]) + human, -1, 1)
    return bins.encode(values)


def test_a_human_stretch_is_a_demonstration_from_where_the_policy_went_wrong(one, policy):
    found = lessons(one(human=range(6, 12)), policy.spec)
    assert [lesson.kind for lesson in found] == ["correction"] * 3
    assert [lesson.mask.tolist() for lesson in found] == [[True] * 6 + [False] * 2, [True] * 4 + [False] * 4,
                                                          [True] * 2 + [False] * 6]  # fmt: skip
    assert (found[0].targets[:6] == bins_of(range(6, 12))).all()
    assert (found[2].targets[:2] == bins_of(range(10, 12))).all()
    rest = bins.encode(np.array([0.0] * 6 + [1.0]))
    assert (found[0].targets[6:] == rest).all()


def test_what_is_seen_is_what_was_known_before_the_step(one, policy):
    [lesson] = lessons(one(human=range(7, 9)), policy.spec)
    seen = lesson.observation
    assert set(seen.images) == set(CAMERAS)
    assert seen.images["agentview"].shape == (16, 16, 3)
    assert seen.images["agentview"][-1, 0, 0] == 40 + 7  # the grey of step 7
    assert seen.instruction == "put the bowl on the plate"
    assert seen.proprio[0] == pytest.approx(0.1 * np.sin(0.25 * 5), abs=1e-6)  # the arm is two steps late


def test_two_stretches_do_not_run_into_each_other(one, policy):
    found = lessons(one(human=[*range(2, 5), *range(10, 13)]), policy.spec)
    assert [int(lesson.mask.sum()) for lesson in found] == [3, 1, 3, 1]


@pytest.mark.parametrize(("outcome", "count"), [("success", 10), ("failure", 0), ("aborted", 0)])
def test_the_policy_is_imitated_only_where_it_succeeded_by_itself(one, policy, outcome, count):
    found = lessons(one(outcome), policy.spec)
    assert len(found) == count
    assert all(lesson.kind == "approved" for lesson in found)
    if found:
        assert (found[0].targets == bins_of(range(8), human=False)).all()
        assert found[-1].mask.tolist() == [True] * 2 + [False] * 6


@pytest.mark.parametrize(("outcome", "after"), [("success", [8, 5]), ("failure", [])])
def test_what_nobody_stopped_is_approved_but_for_the_moment_before_a_takeover(one, policy, outcome, after):
    """20 Hz, so 60 steps of doubt: the policy was right until step 20, and not at all between the two takeovers."""
    found = lessons(one(outcome, steps=100, human=[*range(80, 82), *range(85, 88)]), policy.spec, stride=7)
    kinds = [(lesson.kind, int(lesson.mask.sum())) for lesson in found]
    approved = [("approved", size) for size in (8, 8, 6)]
    assert kinds == [*approved, ("correction", 2), ("correction", 3), *(("approved", size) for size in after)]


@pytest.mark.parametrize(("stages", "until"), [((8, 30), 10), ((4,), 5), ((), 0)])
def test_nothing_is_approved_after_the_last_labelled_stage_before_a_takeover(one, policy, stages, until):
    """Takeover at step 70, so doubt begins at step 10."""
    found = lessons(one(steps=75, human=range(70, 75), stages=stages), policy.spec, stride=1)
    assert [lesson.kind for lesson in found] == ["approved"] * until + ["correction"] * 5


def test_where_nobody_labels_stages_only_the_last_moments_are_in_doubt(one, policy):
    shape = {"steps": 75, "human": range(70, 75), "stages": ()}
    found = lessons(one(about={"stage_names": ()}, **shape), policy.spec, stride=1)
    assert [lesson.kind for lesson in found] == ["approved"] * 10 + ["correction"] * 5


def test_an_episode_without_steps_teaches_nothing(one, policy):
    assert lessons(one("success", steps=0), policy.spec) == []


def test_a_camera_that_was_not_recorded_is_named(one, policy):
    with pytest.raises(RecordingError, match="robot0_eye_in_hand"):
        lessons(one("success", cameras=("agentview",)), policy.spec)


def demo(actions=None, cameras=CAMERAS, frames=(0, 2, 4)):
    """Five steps, of which every other one has a picture; the frame of step ``t`` is of grey ``40 + t``."""
    actions = np.linspace(-0.9, 0.9, 35).reshape(5, 7) if actions is None else actions
    pictures = np.stack([np.full((32, 32, 3), 40 + frame, np.uint8) for frame in frames])
    return Demonstration(
        suite="libero_spatial",
        task=0,
        task_name="put_it",
        instruction="put it",
        actions=actions.astype(np.float32),
        executed=actions.astype(np.float32) + 0.1,
        proprio=np.arange(40, dtype=np.float32).reshape(5, 8),
        frames=np.array(frames, np.int32),
        images=dict.fromkeys((*cameras, "frontview"), pictures),
    )


def test_a_demonstration_teaches_what_was_intended_in_each_frame(policy):
    found = demonstrated(demo(), policy.spec)
    assert [(one.kind, one.episode, int(one.mask.sum())) for one in found] == [
        ("demonstration", -1, 5),
        ("demonstration", -1, 3),
        ("demonstration", -1, 1),
    ]
    assert (found[1].targets[:3] == bins.encode(demo().actions[2:])).all()  # not what the noise made of it
    seen = found[1].observation
    assert set(seen.images) == set(CAMERAS)
    assert seen.images["agentview"].shape == (16, 16, 3)
    assert (seen.images["agentview"] == 42).all()
    assert seen.instruction == "put it"
    assert seen.proprio.tolist() == list(range(16, 24))


def test_a_demonstration_of_another_arm_is_refused(policy):
    with pytest.raises(SettingsError, match="actions of 6 numbers; the policy has 7"):
        demonstrated(demo(actions=np.zeros((5, 6))), policy.spec)


def test_batches_have_equal_shares_of_each_kind():
    def lesson(kind, number):
        return Lesson(None, None, None, number, kind)

    many = [lesson("approved", number) for number in range(90)] + [lesson("correction", number) for number in range(3)]
    batch = balanced(many, 40, np.random.default_rng(0))
    assert Counter(one.kind for one in batch) == {"approved": 20, "correction": 20}
    assert {one.episode for one in batch if one.kind == "correction"} == {0, 1, 2}
    assert Counter(one.kind for one in balanced(many[:90], 20, np.random.default_rng(0))) == {"approved": 20}
    earlier = [lesson("demonstration", -1)]
    shares = Counter(one.kind for one in balanced([*many, *earlier], 12, np.random.default_rng(0)))
    assert shares == {"approved": 4, "correction": 4, "demonstration": 4}
    assert balanced([], 20, np.random.default_rng(0)) == []


GROUP = {"group": 2, "pair": 7}


def test_a_group_of_consecutive_episodes(tmp_path, policy):
    made = recorded(
        tmp_path / "session",
        ("success", {"steps": 20}, GROUP),
        ("failure", {"steps": 10, "stages": (8,)}, GROUP),
    )
    found = group(made, msgspec.structs.replace(policy.spec, chunk=4))
    assert (found.suite, found.task, found.init_state) == ("libero_spatial", 0, 7)
    good, bad = found.trajectories
    assert (good.success, bad.success) == (True, False)
    assert good.executed.tolist() == [4] * 5
    assert bad.executed.tolist() == [4, 4, 2]
    assert good.chunks[1].actions == pytest.approx(np.array([action(step) for step in range(4, 8)], np.float32))
    assert (good.chunks[0].tokens == 1).all()
    # Two stages, complete with steps 8 and 19; at success all 20 steps are paid, and 1 on top.
    assert good.rewards.tolist() == [0.0] * 8 + [0.5] * 11 + [1.0 + 21.0 - 6.5]
    assert good.terms["success"].tolist() == [0.0] * 19 + [14.5]
    assert bad.rewards.tolist() == [0.0] * 8 + [0.5] * 2


def test_no_failure_gains_by_lasting_longer_and_no_success_by_being_slow(tmp_path, policy):
    made = recorded(
        tmp_path / "session",
        ("success", {"steps": 12}, GROUP),
        ("success", {"steps": 20}, GROUP),
        ("failure", {"steps": 60, "stages": (1,)}, GROUP),
    )
    fast, slow, failed = group(made, msgspec.structs.replace(policy.spec, chunk=4)).trajectories
    assert failed.rewards.sum() == pytest.approx(0.5 * 59)
    assert fast.rewards.sum() == pytest.approx(61.0)
    assert slow.rewards.sum() == pytest.approx(61.0)


def test_a_rollout_ends_where_a_human_took_over(tmp_path, policy):
    made = recorded(tmp_path / "session", ("success", {"human": range(6, 9)}, GROUP), ("success", {}, GROUP))
    helped, alone = group(made, msgspec.structs.replace(policy.spec, chunk=4)).trajectories
    assert helped.executed.tolist() == [4, 2]
    assert (helped.success, alone.success) == (False, True)
    assert len(helped.rewards) == 6


def test_a_fault_costs_as_the_gate_looks_for_it(tmp_path, policy):
    made = recorded(tmp_path / "session", ("success", {}, GROUP), ("failure", {"stages": (8,)}, GROUP))
    clean = group(made, msgspec.structs.replace(policy.spec, chunk=4))
    assert not any(t.terms["violation"].any() for t in clean.trajectories)
    fault = clean.trajectories[0].terms["violation"].copy()
    fault[5] = -1.0
    first = replace(clean.trajectories[0], terms={**clean.trajectories[0].terms, "violation": fault})
    gated = LearnerSettings(scalariser="gated", a_step=0.0, a_traj=1.0)
    before = estimate.advantages([clean], gated)[0]
    after = estimate.advantages([replace(clean, trajectories=[first, clean.trajectories[1]])], gated)[0]
    assert before[0][0] > before[1][0]
    assert after[0][0] < after[1][0]


def test_episodes_of_two_groups_are_not_compared(tmp_path, policy):
    made = recorded(tmp_path / "session", ("success", {}, GROUP), ("success", {}, {"group": 3}))
    with pytest.raises(RecordingError, match="another group"):
        group(made, policy.spec)
