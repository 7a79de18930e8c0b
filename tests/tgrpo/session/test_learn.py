"""Learning from lessons, the gate, and the versions that come of it."""

import itertools
import json

import numpy as np
import pytest
import torch

from tests.demonstrations import demonstration
from tests.tgrpo.policies.conftest import observation
from tests.tgrpo.record.episodes import info, write_episode, write_session
from tgrpo import policies
from tgrpo.apprentice import Apprentice, ImitationSettings
from tgrpo.errors import CheckpointError, RecordingError, SettingsError
from tgrpo.policies.trainable import load_trainable
from tgrpo.record.demo_file import DemoWriter
from tgrpo.session import versions
from tgrpo.session.learn import Comparer, LearnSettings, main
from tgrpo.session.lessons import Lesson

SETTINGS = ImitationSettings(steps=40, batch=12, learning_rate=3e-3, label_sigma=0.0, shift=0)
SHAPE = {"cameras": ("agentview", "robot0_eye_in_hand")}


def lesson(seed, target=100, kind="correction", mask=8):
    """One decision: in this picture all tokens are ``target``."""
    return Lesson(observation(seed), np.full((8, 7), target), np.arange(8) < mask, seed, kind)


def test_it_learns_what_it_is_shown_and_exports_it(policy, tmp_path):
    apprentice, shown = Apprentice(policy, SETTINGS), [lesson(seed) for seed in range(6)]
    before = apprentice.score(shown)
    apprentice.learn(shown)
    assert before > 5.0
    assert apprentice.score(shown) < 0.5
    folder = tmp_path / "out"
    folder.mkdir()
    apprentice.export(folder)
    served = policies.load(folder)
    served.reset([0])
    assert (served.act([observation(3)])[0].tokens == 100).mean() > 0.95


def test_the_first_version_is_the_policy_itself(policy, policy_folder, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    Apprentice(policy, SETTINGS).export(folder)
    mine, its = (policies.load(place) for place in (folder, policy_folder))
    for one in (mine, its):
        one.reset([0])
    assert np.array_equal(mine.act([observation(1)])[0].actions, its.act([observation(1)])[0].actions)


def test_what_comes_after_the_human_has_no_weight(policy):
    apprentice = Apprentice(policy, SETTINGS)
    half = lesson(1, mask=3)
    half.targets[3:] = 7
    other = lesson(1, mask=3)
    other.targets[3:] = 200
    assert apprentice.score([half]) == apprentice.score([other])


def test_the_same_seed_learns_the_same(policy_folder):
    shown = [lesson(seed) for seed in range(4)]
    first, second = (Apprentice(load_trainable(policy_folder), SETTINGS) for _ in range(2))
    assert first.learn(shown) == second.learn(shown)
    assert all(torch.equal(a, b) for a, b in zip(first.state().values(), second.state().values(), strict=True))


def test_the_gate_refuses_what_harms_and_the_policy_forgets_it(policy):
    apprentice = Apprentice(policy, SETTINGS)
    apprentice.learn([lesson(seed, 100) for seed in range(4)])
    held_out, saved = [lesson(seed, 100) for seed in (10, 11)], apprentice.state()
    verdict = apprentice.try_out([lesson(seed, 9) for seed in range(4)], held_out)
    assert not verdict.accepted
    assert verdict.after > verdict.before
    assert "refused" in str(verdict)
    assert all(torch.equal(saved[name], value) for name, value in apprentice.state().items())
    again = apprentice.try_out([lesson(seed, 100) for seed in range(4)], held_out)
    assert again.accepted
    assert apprentice.score(held_out) == again.after


def test_without_anything_held_out_there_is_no_gate(policy):
    verdict = Apprentice(policy, SETTINGS).try_out([lesson(0)], [])
    assert (verdict.accepted, verdict.decisions) == (True, 0)


def test_nothing_to_learn_from(policy):
    with pytest.raises(SettingsError, match="no human has taken over"):
        Apprentice(policy, SETTINGS).learn([])


def checkpoint(text):
    return lambda folder: (folder / "weights").write_text(text)


def test_versions_are_numbered_sealed_and_never_replaced(tmp_path):
    versions.start(tmp_path, checkpoint("zero"))
    versions.start(tmp_path, checkpoint("other"))
    assert [versions.add(tmp_path, checkpoint(text), {"episodes": [3]}) for text in ("one", "two")] == [1, 2]
    assert versions.known(tmp_path) == [0, 1, 2]
    texts = [(versions.folder_of(tmp_path, number) / "weights").read_text() for number in range(3)]
    assert texts == ["zero", "one", "two"]
    assert json.loads((versions.folder_of(tmp_path, 1) / "lesson.json").read_text()) == {"episodes": [3]}


def test_going_back_and_on(tmp_path):
    versions.start(tmp_path, checkpoint("zero"))
    for text in ("one", "two"):
        versions.add(tmp_path, checkpoint(text), {})
    assert versions.current(tmp_path) == versions.Current(version=2, history=(0, 1))
    assert versions.roll_back(tmp_path) == 1
    assert versions.add(tmp_path, checkpoint("three"), {}) == 3
    assert versions.current(tmp_path).history == (0, 1)
    assert [versions.roll_back(tmp_path) for _ in range(2)] == [1, 0]
    with pytest.raises(SettingsError, match="first one"):
        versions.roll_back(tmp_path)
    versions.choose(tmp_path, 2)
    assert versions.current(tmp_path) == versions.Current(version=2, history=(0,))


def test_a_damaged_version_is_not_chosen(tmp_path):
    versions.start(tmp_path, checkpoint("zero"))
    versions.add(tmp_path, checkpoint("one"), {})
    (versions.folder_of(tmp_path, 0) / "weights").write_text("zer0")
    with pytest.raises(CheckpointError):
        versions.roll_back(tmp_path)
    assert versions.current(tmp_path).version == 1
    with pytest.raises(SettingsError, match="no version 9; known: 0, 1"):
        versions.choose(tmp_path, 9)


def run(session, policy, *more):
    fast = ["--imitation.steps", "3", "--imitation.batch", "6"]
    return main([str(session), "--policy", str(policy), *fast, *more])


def test_a_session_teaches(tmp_path, policy_folder, capsys):
    session = write_session(tmp_path / "session", [(info(), "failure", SHAPE)])
    run(session, policy_folder)
    assert versions.known(session) == [0]  # nobody has corrected anything
    for number in range(1, 3):
        write_episode(session, number, info(purpose="correct"), "success", human=range(3, 9), **SHAPE)
    run(session, policy_folder)
    assert versions.current(session).version == 1
    about = json.loads((versions.folder_of(session, 1) / "lesson.json").read_text())
    assert (about["method"], about["episodes"]) == ("imitation", [1, 2])
    assert "version 1, accepted" in capsys.readouterr().out
    policies.load(versions.folder_of(session, 1))
    run(session, policy_folder, "--rollback")
    assert versions.current(session).version == 0
    assert "version 0 is current" in capsys.readouterr().out


def test_demonstrations_are_taught_beside_corrections(tmp_path, policy_folder):
    session = write_session(
        tmp_path / "session", [(info(purpose="correct"), "success", SHAPE | {"human": range(3, 9)})]
    )
    with DemoWriter(tmp_path / "demos" / "put_it.hdf5", {}) as writer:
        for seed, success in enumerate((True, False)):
            writer.add(demonstration(steps=5, every=3, seed=seed, success=success))
    run(session, policy_folder, "--demos", str(tmp_path / "demos"))
    lesson = json.loads((versions.folder_of(session, 1) / "lesson.json").read_text())
    assert (lesson["episodes"], lesson["demonstrated"]) == ([0], 2)  # what failed is no example
    assert lesson["decisions"] > 2
    with pytest.raises(SettingsError, match="demos teach imitation, not tgrpo"):
        run(session, policy_folder, "--method", "tgrpo", "--demos", str(tmp_path / "demos"))


def test_from_a_damaged_episode_nothing_is_learned(tmp_path, policy_folder, caplog):
    session = write_session(tmp_path / "session", [])
    good, bad = (
        write_episode(session, number, info(purpose="correct"), "success", human=range(3, 9), **SHAPE)
        for number in range(2)
    )
    (bad / "episode.mcap").write_bytes((good / "episode.mcap").read_bytes()[:-9])
    run(session, policy_folder)
    assert json.loads((versions.folder_of(session, 1) / "lesson.json").read_text())["episodes"] == [0]
    assert "nothing is learned from it" in caplog.text
    assert versions.studied(session) == 1  # whoever waits for the learner does not wait for ever


def test_groups_of_episodes_teach(tmp_path, short_folder, capsys):
    made = [(info(group=1), outcome, SHAPE | {"steps": 8}) for outcome in ("success", "failure", "failure")]
    session = write_session(tmp_path / "session", made)
    run(session, short_folder, "--method", "tgrpo")
    assert versions.known(session) == [0]  # one is missing to a group of 4
    write_episode(session, 3, info(group=1), "infrastructure", steps=2, **SHAPE)
    run(session, short_folder, "--method", "tgrpo")
    assert versions.known(session) == [0]  # that one does not count
    write_episode(session, 4, info(group=1), "success", steps=8, **SHAPE)
    run(session, short_folder, "--method", "tgrpo")
    assert versions.current(session).version == 1
    about = json.loads((versions.folder_of(session, 1) / "lesson.json").read_text())
    assert (about["method"], about["episodes"]) == ("tgrpo", [0, 1, 2, 4])
    mine, its = (policies.load(versions.folder_of(session, number)).model.state_dict() for number in (1, 0))
    assert any(not torch.equal(mine[name], its[name]) for name in its)


def test_a_group_that_all_failed_makes_no_version(tmp_path, short_folder, capsys):
    made = [(info(group=1), "failure", SHAPE | {"steps": 8, "stages": ()}) for _ in range(4)]
    session = write_session(tmp_path / "session", made)
    run(session, short_folder, "--method", "tgrpo")
    assert versions.known(session) == [0]
    assert "no new version" in capsys.readouterr().out


def write_group(session, first, number):
    for place, outcome in enumerate(("success", "failure", "failure", "success")):
        write_episode(session, first + place, info(group=number), outcome, steps=8, **SHAPE)


def test_groups_are_held_out_and_judge_versions(tmp_path, short_folder, monkeypatch, capsys):
    monkeypatch.setattr("tgrpo.session.learn.GROUPS_HELD_OUT", 2)
    session = write_session(tmp_path / "session", [])
    write_group(session, 0, 1)
    write_group(session, 4, 2)
    run(session, short_folder, "--method", "tgrpo")
    about = json.loads((versions.folder_of(session, 1) / "lesson.json").read_text())
    assert (about["episodes"], about["held_out"]) == ([0, 1, 2, 3], [4, 5, 6, 7])
    assert "on 8 held-out decisions" in about["verdict"]  # 4 rollouts of 2 chunks


def test_a_version_that_does_worse_on_held_out_groups_is_not_kept(tmp_path, short_folder, monkeypatch, capsys):
    monkeypatch.setattr("tgrpo.session.learn.GROUPS_HELD_OUT", 2)
    session = write_session(tmp_path / "session", [])
    write_group(session, 0, 1)
    write_group(session, 4, 2)
    said = iter([0.1, 0.3])
    monkeypatch.setattr("tgrpo.learner.Learner.judge", lambda learner, groups: next(said))
    run(session, short_folder, "--method", "tgrpo")
    assert versions.known(session) == [0]
    assert "refused: loss 0.100 -> 0.300" in capsys.readouterr().out


def test_an_update_learns_from_the_newest_groups_and_those_before(tmp_path, short_folder, monkeypatch):
    session = write_session(tmp_path / "session", [])
    learned = []
    monkeypatch.setattr("tgrpo.learner.Learner.update", lambda learner, groups: learned.append([*groups]))
    student = Comparer(load_trainable(short_folder), LearnSettings(session, method="tgrpo", window=2))
    for number in range(4):
        write_group(session, 4 * number, number)
        student.study(session)
    assert [len(groups) for groups in learned] == [1, 2, 2, 2]
    assert all(after[0] is before[-1] for before, after in itertools.pairwise(learned))


def test_groups_of_another_policy_are_refused(tmp_path, policy_folder):
    made = [(info(group=1), "success", SHAPE | {"steps": 8}) for _ in range(4)]
    session = write_session(tmp_path / "session", made)
    with pytest.raises(RecordingError, match=r"chunks of shape \(4, 7\), the one that is to learn \(8, 7\)"):
        run(session, policy_folder, "--method", "tgrpo")


def test_what_is_no_session(tmp_path, policy_folder):
    with pytest.raises(SettingsError, match="is no session"):
        run(tmp_path, policy_folder)


def test_what_the_learner_has_considered_is_noted(tmp_path):
    assert versions.studied(tmp_path) == -1
    versions.start(tmp_path, checkpoint("zero"))
    assert versions.studied(tmp_path) == -1
    versions.note_studied(tmp_path, 4)
    assert versions.studied(tmp_path) == 4
    (tmp_path / "policies" / "studied.json").write_text("{")
    assert versions.studied(tmp_path) == -1
