"""Sessions end to end in simulation: real server, scene, nodes and files, a few steps each."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("libero")
from tgrpo.record import recover
from tgrpo.record.episode import load
from tgrpo.record.recover import begun
from tgrpo.record.session import closed_episodes
from tgrpo.record.steps import steps
from tgrpo.record.streams import Action, Event, PolicyReply, RobotState
from tgrpo.session import versions

spec = importlib.util.spec_from_file_location("session_launch", Path(__file__).with_name("session_launch.py"))
parts = sys.modules["session_launch"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parts)

pytestmark = [pytest.mark.ros, pytest.mark.slow]
PATIENCE = 540.0


@pytest.fixture
def session(tmp_path):
    """Plays a plan to its end; whatever is left is killed."""
    where, path, started = parts.environment(tmp_path), tmp_path / "session", []

    def play(what, *options, during=lambda path: False, **plan):
        """``during`` is called again and again; once it is true the session is stopped as by Ctrl-C."""
        process = parts.start(where, what, parts.write_plan(tmp_path, **plan), path, *options)
        started.append(process)
        limit = time.monotonic() + PATIENCE
        while process.poll() is None:
            assert time.monotonic() < limit, (tmp_path / "log.txt").read_text()[-3000:]
            if during(path):
                process.send_signal(signal.SIGINT)
                process.wait(60)
            time.sleep(0.1)
        assert process.returncode == 0, (tmp_path / "log.txt").read_text()[-3000:]
        return [load(folder) for folder in closed_episodes(path)]

    play.where, play.path = where, path
    yield play
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def test_two_policies_blind_and_interleaved(session, tmp_path):
    policies = [{"name": "old", "checkpoint": "tiny-libero"}, {"name": "new", "checkpoint": "tiny-libero"}]
    episodes = session("eval", policies=policies)
    assert [(e.info.pair, e.result.outcome) for e in episodes] == [(0, "failure")] * 2 + [(1, "failure")] * 2
    assert [{e.info.policy for e in episodes[at : at + 2]} for at in (0, 2)] == [{"old", "new"}] * 2
    one = episodes[0]
    table = steps(one)
    assert len(table) == 24  # 1.2 s at 20 Hz
    assert set(table.source) == {"policy"}
    assert sorted(one.cameras()) == ["agentview", "robot0_eye_in_hand"]
    replies = one.of(PolicyReply)
    assert len(replies) >= 3  # chunks of 8; a last one may be too late
    for action in one.of(Action):
        assert action.executed == pytest.approx(replies[action.request].actions[action.index])
    assert [action.index for action in one.of(Action)] == list(range(8)) * 3
    assert all(reply.version and reply.tokens for reply in replies)
    assert len(one.of(RobotState)) >= 12  # a busy machine may miss a report, never a step
    assert one.result.reason == "time limit of 1.2 s"
    assert one.info.stage_names
    # The same policy from the same start does the same, through two servers.
    assert steps(episodes[1]).executed == pytest.approx(table.executed)
    text = (tmp_path / "log.txt").read_text()
    assert "episode 0, attempt 1" in text
    assert recover.problems(session.path) == []
    for verify in ([], ["--verify"]):
        words = [sys.executable, "-m", "tgrpo.cli", "report", str(session.path), *verify]
        assert subprocess.run(words, env=session.where, check=False).returncode == 0


def test_a_correction_is_recorded_learned_from_and_served(session):
    """The scripted operator, the learner and the swap, until an episode was played by what was learned."""
    task = {**parts.TASK, "time_limit": 3.0, "starts": [0]}
    learn = "learn_args:=--imitation.steps=2 --tolerance=100 --poll=0.1"

    def swapped(path):
        return path.exists() and any(_swaps(load(folder, cameras=())) for folder in closed_episodes(path)[1:])

    episodes = session(
        "correct", "patience_steps:=10", learn, during=swapped, purpose="correct", episodes=200, tasks=[task]
    )
    first = episodes[0]
    table = steps(first)
    assert set(table.source) == {"policy", "human"}
    taken = int(table.intervention.argmax())
    assert taken >= 10
    assert next(event.kind for event in first.of(Event)) == "takeover"
    human = table.executed[table.intervention]
    assert np.abs(human[:, :6]).max() > 0.1  # it does something
    assert np.isfinite(table.policy[:taken]).all()
    last = next(episode for episode in reversed(episodes) if _swaps(episode))
    assert last.info.version != first.info.version
    assert versions.current(session.path).version >= 1
    lesson = json.loads((versions.folder_of(session.path, 1) / versions.LESSON).read_text())
    assert lesson["method"] == "imitation"
    assert 0 in lesson["episodes"]


def _swaps(episode):
    return [event for event in episode.of(Event) if event.kind == "swap" and event.reason != "version 0"]


def test_whatever_is_killed_the_session_goes_on(session, tmp_path):
    """One kill -9 of each process in turn, each in another episode."""
    order = ["tgrpo_policy_node", "tgrpo_arm_node", "tgrpo.cli serve", "tgrpo.cli sim-robot",
             "tgrpo_camera_node", "tgrpo_session_node"]  # fmt: skip
    killed = []

    def kill(path):
        opened = list((path / "episodes").glob("*.open")) if path.exists() else []
        if len(killed) < len(order) and opened and opened[0].name not in {name for name, _ in killed}:
            pids = [
                pid for pid, words in parts.processes(session.where["XDG_RUNTIME_DIR"]) if order[len(killed)] in words
            ]
            if pids:
                os.kill(pids[0], signal.SIGKILL)
                killed.append((opened[0].name, order[len(killed)]))
        return False

    session("eval", during=kill, episodes=8, attempts=10)
    assert [what for _, what in killed] == order
    assert recover.problems(session.path) == []
    episodes = [load(folder) for folder in closed_episodes(session.path)]
    assert len(begun(session.path)) == len(episodes)
    outcomes = [episode.result.outcome for episode in episodes]
    assert outcomes.count("failure") == 8  # each of the plan's episodes was played to its end
    assert set(outcomes) <= {"failure", "infrastructure", "interrupted"}


def test_a_session_is_not_continued_with_another_plan(session, tmp_path):
    from tgrpo.session import history
    from tgrpo.session import plan as plans

    plan = plans.load(parts.write_plan(tmp_path))
    history.open_session(session.path, plan).close()
    changed = parts.write_plan(tmp_path, episodes=3)
    process = parts.start(session.where, "eval", changed, session.path)
    assert process.wait(PATIENCE) == 1
    assert "started with another plan" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"purpose": "correct"}, "has purpose: correct"),
        ({"polices": []}, "polices"),
    ],
)
def test_a_wrong_plan_starts_nothing(tmp_path, plan, said):
    from tgrpo.errors import SettingsError
    from tgrpo_ros.session_command import SessionArguments, command

    path = parts.write_plan(tmp_path, **plan)
    with pytest.raises(SettingsError, match=said):
        command(SessionArguments("eval", path))
    assert yaml.safe_load(path.read_text())
