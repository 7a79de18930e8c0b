"""Ranks of episodes from what a person prefers, asked in `tgrpo judge`, learned from in `tgrpo learn`."""

import io
import itertools

import av
import numpy as np
import pytest
from rich.console import Console

from tests.tgrpo.record.episodes import info, write_episode, write_session
from tgrpo.algo.signals import read as signals_of
from tgrpo.algo.strategies import baseline, scalariser
from tgrpo.errors import RecordingError, SettingsError
from tgrpo.policies.trainable import load_trainable
from tgrpo.record.episode import load
from tgrpo.session import judge, preferences
from tgrpo.session.learn import RANKED, Comparer, LearnSettings
from tgrpo.session.lessons import group

SHAPE = {"cameras": ("agentview", "robot0_eye_in_hand"), "steps": 8, "stages": ()}


def by_strength(strengths):
    """Somebody who always prefers the stronger episode, and the questions that were asked."""
    asked = []

    def ask(first, second):
        asked.append({first, second})
        return max(first, second, key=lambda number: strengths[number])

    return ask, asked


@pytest.fixture
def session(tmp_path):
    """Four failures from one start, in which no stage was completed."""
    return write_session(tmp_path / "session", [(info(group=1), "failure", SHAPE) for _ in range(4)])


def answer(monkeypatch, text):
    """A console at which somebody types these lines, and what it printed."""
    lines, out = iter(text.split()), io.StringIO()
    console = Console(file=out, width=200)

    def typed(prompt=""):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(console, "input", typed)
    return console, out


def test_answers_are_kept_and_the_later_counts(tmp_path):
    assert preferences.read(tmp_path) == {}
    preferences.add(tmp_path, 7, 4, 7)
    preferences.add(tmp_path, 4, 5, None)
    preferences.add(tmp_path, 4, 7, 4)
    assert (tmp_path / "preferences.csv").read_text() == "first,second,better\n7,4,7\n4,5,neither\n4,7,4\n"
    assert preferences.read(tmp_path) == {(4, 7): 4, (4, 5): None}


@pytest.mark.parametrize("line", ["1,2", "1,2,3", "1,1,1", "1,two,1", "1,2,better"])
def test_a_line_that_says_nothing_is_refused_with_its_number(tmp_path, line):
    (tmp_path / "preferences.csv").write_text(f"first,second,better\n1,2,2\n{line}\n")
    with pytest.raises(RecordingError, match=r"preferences\.csv:3: "):
        preferences.read(tmp_path)


@pytest.mark.parametrize(("numbers", "most"), [((10, 11, 12), 3), ((3, 5, 8, 9), 5)])
def test_the_best_is_found_whatever_the_order_with_few_questions(numbers, most):
    for strengths in itertools.permutations(range(len(numbers))):
        ask, asked = by_strength(dict(zip(numbers, strengths, strict=True)))
        places = preferences.places(numbers, ask)
        assert strengths[int(np.argmin(places))] == len(numbers) - 1
        assert sorted(places) == list(range(len(numbers)))
        assert len({frozenset(pair) for pair in asked}) <= most


def test_a_group_is_judged_when_its_tournament_can_be_played():
    choices = {(1, 2): 1, (1, 3): 1}
    assert not preferences.is_judged([1, 2, 3], choices)
    with pytest.raises(SettingsError, match=r"episodes [23] and [23] were not compared yet. Run: tgrpo judge"):
        preferences.places([1, 2, 3], preferences.known(choices))
    assert preferences.is_judged([1, 2, 3], choices | {(2, 3): 3})
    assert preferences.places([1, 2, 3], preferences.known(choices | {(2, 3): 3})).tolist() == [0, 2, 1]
    assert preferences.places([1, 2, 3], preferences.known(choices | {(2, 3): None})) is None


def test_films_show_both_until_the_later_end_and_not_who_succeeded(session):
    longer = write_episode(session, 4, info(group=2), "success", **(SHAPE | {"steps": 12}))
    frames = list(judge.film(load(session / "episodes" / "000000"), load(longer)))
    assert len(frames) == 12
    assert frames[0].shape[1] == 2 * 256 + judge.GAP
    half = slice(0, 256)
    assert np.array_equal(frames[7][:, half], frames[11][:, half])  # the shorter one stands still at its end
    assert not np.array_equal(frames[6][:, half], frames[7][:, half])


def test_of_a_human_nothing_is_shown(session):
    helped = write_episode(session, 4, info(group=2), "success", human=range(3, 8), **SHAPE)
    alone = load(session / "episodes" / "000000")
    assert len(judge._frames(load(helped), "", "left")) == 3
    write_episode(session, 5, info(group=2), "success", human=range(8), **SHAPE)
    with pytest.raises(RecordingError, match="the policy did nothing in it"):
        next(judge.film(alone, load(session / "episodes" / "000005")))


def test_a_person_ranks_a_group_and_is_asked_nothing_twice(session, monkeypatch):
    console, out = answer(monkeypatch, "l huh l l q")
    judge.run(judge.JudgeSettings(session), console)
    assert "stopped" in out.getvalue()
    kept = preferences.read(session)
    assert len(kept) == 3  # the unknown word was asked again
    console, out = answer(monkeypatch, "l l l")
    judge.run(judge.JudgeSettings(session), console)
    assert preferences.is_judged(range(4), preferences.read(session))
    assert preferences.read(session).items() >= kept.items()
    assert "group of episodes [0, 1, 2, 3]: " in out.getvalue()
    assert out.getvalue().count(" > ") == 3
    films = sorted((session / "judging").glob("*.mp4"))
    assert len(films) == len(preferences.read(session))
    with av.open(str(films[0])) as film:
        assert sum(1 for _ in film.decode(video=0)) == 8


def test_sides_change_so_that_liking_one_side_decides_nothing(tmp_path, monkeypatch):
    session = write_session(tmp_path / "eight", [(info(group=1), "failure", SHAPE) for _ in range(8)])
    console, _ = answer(monkeypatch, "l " * 13)
    judge.run(judge.JudgeSettings(session, group_size=8), console)
    pairs = [tuple(map(int, path.stem.split("_"))) for path in (session / "judging").glob("*.mp4")]
    assert 0.3 < np.mean([left < right for left, right in pairs]) < 0.7


def test_what_cannot_be_judged(session, tmp_path, monkeypatch):
    console, _ = answer(monkeypatch, "")
    with pytest.raises(SettingsError, match="is no session"):
        judge.run(judge.JudgeSettings(tmp_path), console)
    with pytest.raises(SettingsError, match="no complete group of 5 episodes"):
        judge.run(judge.JudgeSettings(session, group_size=5), console)


def preferred(session, strengths):
    ask, _ = by_strength(strengths)
    numbers = sorted(strengths)
    for first, second in itertools.combinations(numbers, 2):
        preferences.add(session, first, second, ask(first, second))


def test_failures_without_a_stage_teach_once_they_are_ranked(session, short_folder, monkeypatch, caplog):
    learned = []
    monkeypatch.setattr("tgrpo.learner.Learner.update", lambda learner, groups: learned.extend(groups))
    student = Comparer(load_trainable(short_folder), LearnSettings(session, method="preferences"))
    assert student.study(session) is None
    assert "wait to be judged: 1. Run: tgrpo judge" in caplog.text
    preferred(session, {0: 3, 1: 2, 2: 1, 3: 0})
    assert student.study(session).accepted
    (taught,) = learned
    assert [float(rollout.rewards.sum()) for rollout in taught.trajectories] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    (signals,) = scalariser(RANKED.scalariser).scalarise([signals_of(taught.trajectories)], RANKED)
    found = baseline(RANKED.baseline).advantages(signals, RANKED)
    # The known answer of a tournament of four, spread over both decisions of each rollout.
    assert found[:, 0].tolist() == pytest.approx([1.1619, 0.3873, -0.3873, -1.1619], abs=5e-5)
    assert found[:, 1].tolist() == pytest.approx(found[:, 0].tolist())
    assert student.about() == {"method": "preferences", "episodes": [0, 1, 2, 3], "held_out": []}


def test_a_group_in_which_neither_is_better_teaches_nothing(session, short_folder):
    preferred(session, {0: 3, 1: 2, 2: 1, 3: 0})
    preferences.add(session, 0, 3, None)
    student = Comparer(load_trainable(short_folder), LearnSettings(session, method="preferences"))
    verdict = student.study(session)
    assert not verdict.accepted
    assert "no group differs" in str(verdict)


def test_a_fault_costs_the_first_place(session, short_folder):
    spec = load_trainable(short_folder).spec
    rollouts = group([load(folder) for folder in sorted((session / "episodes").iterdir())], spec)
    rollouts.trajectories[0].terms["violation"][2] = -1.0
    ranked = preferences.paid(rollouts, np.arange(4.0))
    (signals,) = scalariser("gated").scalarise([signals_of(ranked.trajectories)], RANKED)
    assert signals.trajectory.argsort().tolist() == [0, 3, 2, 1]
