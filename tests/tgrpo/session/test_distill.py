"""One policy out of several specialists' sessions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tgrpo.record.episodes import info, write_session
from tgrpo import policies
from tgrpo.errors import SettingsError
from tgrpo.session.distill import Shown, chosen, main

SHAPE = {"cameras": ("agentview", "robot0_eye_in_hand")}
FAST = ["--imitation.steps", "12", "--imitation.batch", "12", "--imitation.learning-rate", "3e-3"]


def of_task(task, outcomes, steps=None, **more):
    """Episodes of one task."""
    lengths = steps or [12] * len(outcomes)
    return [
        (info(task=task, pair=pair), outcome, SHAPE | {"steps": length} | more)
        for pair, (outcome, length) in enumerate(zip(outcomes, lengths, strict=True))
    ]


def run(policy, out, *sessions, more=FAST):
    return main([*map(str, sessions), "--policy", str(policy), "--out", str(out), *more])


def test_two_specialists_teach_one_policy(tmp_path, policy_folder, capsys):
    outcomes = ["success"] * 7 + ["failure", "infrastructure"]
    first = write_session(tmp_path / "first", of_task(0, outcomes, [12] * 6 + [40, 12, 12]))
    helped = of_task(1, ["success"], human=range(3, 6))
    second = write_session(tmp_path / "second", [*of_task(1, ["success"] * 5), *helped])
    assert run(policy_folder, tmp_path / "out", first, second) == 0
    record = json.loads((tmp_path / "out" / "distillation.json").read_text())
    # Of the first: 6 successes, one wandered; of the second: 5, one was helped; as many of each.
    assert sorted(record["episodes"].values()) == [5, 5]
    assert "accepted: loss" in record["verdict"]
    said = capsys.readouterr().out
    before, after = (float(word) for word in said.partition("loss ")[2].split(" on ")[0].split(" -> "))
    assert after < before
    assert said.count(" -> ") == 3  # all of it, and each task
    policies.load(tmp_path / "out")


def test_what_is_worse_is_not_written(tmp_path, policy_folder, monkeypatch, capsys):
    session = write_session(tmp_path / "session", of_task(0, ["success"] * 5))
    # Of the task before, all before, all after, and the task after.
    said = iter([1.0, 1.0, 1.1, 1.0])
    monkeypatch.setattr("tgrpo.apprentice.Apprentice.score", lambda apprentice, lessons: next(said))
    assert run(policy_folder, tmp_path / "out", session) == 1
    assert not (tmp_path / "out").exists()
    assert "refused: loss 1.000 -> 1.100" in capsys.readouterr().out


def test_what_cannot_be_distilled(tmp_path, policy_folder):
    failed = write_session(tmp_path / "failed", of_task(0, ["failure"]))
    with pytest.raises(SettingsError, match="nobody has succeeded by itself"):
        run(policy_folder, tmp_path / "out", failed)
    empty = write_session(tmp_path / "empty", [])
    with pytest.raises(SettingsError, match="no episode was played by a policy alone"):
        run(policy_folder, tmp_path / "out", empty)
    with pytest.raises(SettingsError, match="is no session"):
        run(policy_folder, tmp_path / "out", tmp_path)
    with pytest.raises(SettingsError, match="exists"):
        run(policy_folder, empty, failed)


def test_curated_successes_are_those_that_recover():
    """The worked example of TopoCurate: the second of these has a recovery, so it is kept before the shorter one."""

    def played(number, task, success, *stages):
        return Shown(Path(str(number)), task, success, 10, stages)

    found = [
        played(0, "a", True, "reach", "grasp", "place"),
        played(1, "a", True, "reach", "miss", "reach", "grasp", "place"),
        played(2, "a", False, "reach", "miss", "drop"),
        played(3, "a", False, "push", "drop"),
        played(4, "b", True, "reach"),
    ]
    kept = chosen(found, 1.2, np.random.default_rng(0), curate=True)
    assert kept == {"a": [Path("1")], "b": [Path("4")]}
    # By lot it depends on the draw alone.
    lots = {chosen(found, 1.2, np.random.default_rng(seed))["a"][0] for seed in range(20)}
    assert lots == {Path("0"), Path("1")}
    # What wandered is not kept, whatever it recovered from.
    found[1] = replace(found[1], length=30)
    found.append(played(5, "a", True, "reach", "grasp", "place"))
    assert chosen(found, 1.2, np.random.default_rng(0), curate=True)["a"] == [Path("0")]
