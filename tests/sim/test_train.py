"""Whole training runs in the real simulator, very small: to the end, interrupted, damaged and continued.

The figures of one of them are compared with ``tests/golden/tgrpo_tiny.json``. After a change that is meant to change
them: ``TGRPO_WRITE_GOLDEN=1 python -m pytest tests/sim/test_train.py -k golden``
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from sim import train, training
from sim.control import Control
from sim.settings import PRESETS, TrainSettings
from sim.train import START, Training
from tgrpo import cli
from tgrpo.errors import CheckpointError
from tgrpo.learner import LearnerSettings
from tgrpo.policies import load
from tgrpo.record import files
from tgrpo.record.metrics import read_metrics
from tgrpo.record.run_folder import RunFolder
from tgrpo.settings import from_builtins

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "tgrpo_tiny.json"
TIMES = {"seconds", "steps_per_second", "rollout_seconds", "update_seconds"}
VARIES = {*TIMES, "simulated_steps", "useful_steps", "useful_observations", "rollouts_lost", "rollouts_left_out"}
"""Columns of the metrics that no two runs share: times, and what was lost on the way."""
TOLERANCE = {"loss": 3e-4, "kl": 1e-5, "clip_fraction": 0.02, "reproduction_error": 1e-4, "ratio_max": 0.05}
"""Absolute, for figures that may be 0; the others may differ by a hundredth."""


@pytest.fixture(scope="module")
def settings(tiny_folder):
    """Every choice of the recipe is spelled out, so that a better default does not change these runs."""
    return TrainSettings(
        suite="libero_object",
        task=0,
        policy=str(tiny_folder),
        seed=11,
        iterations=4,
        schedule="linear",
        groups=2,
        group_size=4,
        temperature=1.0,
        exploration="token",
        stop="synchronised",
        max_steps=16,
        train_states="0-5",
        held_out_states="6-7",
        evaluate_every=0,
        checkpoint_every=2,
        workers=2,
        learner=LearnerSettings(
            ratio="token",
            clip_low=0.2,
            clip_high=0.28,
            kl=0.01,
            entropy=0.0,
            learning_rate=1e-3,
            epochs=2,
            minibatch=8,
            adapter="lora",
            lora_rank=4,
            lora_alpha=16,
        ),
    )


def options(settings, prefix="--"):
    """The same settings as words of a command line."""
    for name, value in msgspec.structs.asdict(settings).items():
        if isinstance(value, msgspec.Struct):
            yield from options(value, f"--{name}.")
        elif isinstance(value, bool):
            yield prefix + ("" if value else "no-") + name.replace("_", "-")
        elif value is not None:
            yield from (prefix + name.replace("_", "-"), str(value))


class Stopping(Control):
    """Asks for something once some iterations are done."""

    def __init__(self, folder, after, command="stop"):
        super().__init__()
        self._folder, self._after, self._command = folder, after, command

    @property
    def stopping(self):
        if len(read_metrics(self._folder)) >= self._after:
            self.obey(self._command)
        return super().stopping


def run(folder, settings, pool, control=None):
    """Begins a run or continues it, as the command does."""
    with RunFolder.resume(folder) if folder.exists() else train._begun(folder, settings) as opened:
        stored = from_builtins(opened.read_settings(), TrainSettings)
        job = Training(stored, opened, control or Control(), Console(quiet=True))
        return job.execute(pool)


def figures(folder):
    return [{name: value for name, value in row.items() if name not in VARIES} for row in read_metrics(folder)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, settings, pool):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(folder, settings, pool)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def unfinish(folder):
    """As if the process had been killed in the last iteration's checkpoint."""
    for name in ("eval_after.json", "summary.json", "report.html"):
        (folder / name).unlink()


def test_a_run_leaves_everything_that_is_promised(finished, settings):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["finished"]
    assert summary["before"]["n"] == summary["after"]["n"] == 2
    assert summary["init_states"] == {"train": [0, 1, 2, 3, 4, 5], "held_out": [6, 7]}
    assert summary["episodes"] == 32
    assert summary["environment_steps"] == 32 * 16
    assert 0 <= summary["mcnemar_p"] <= 1
    assert summary["seconds"]["total"] == pytest.approx(sum(summary["seconds"][n] for n in ("training", "evaluation")))
    assert json.loads((finished / "status.json").read_text())["state"] == "finished"
    assert from_builtins(RunFolder(finished).read_settings(), TrainSettings) == settings
    assert {file.name for file in (finished / "videos").glob("*.mp4")} == {
        f"{when}_task0_init0{state}.mp4" for when in ("before", "after") for state in (6, 7)
    }
    assert [folder.name for folder in sorted((finished / "checkpoints").iterdir())] == ["000002", "000004", "latest"]
    assert (finished / "live" / "frame.jpg").stat().st_size > 500
    assert not list(finished.glob(".tmp*"))


def test_rows_of_metrics(finished):
    rows = read_metrics(finished)
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
    assert [row["episodes"] for row in rows] == [8, 16, 24, 32]
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])
    for row in rows:
        assert row["reproduction_error"] < 1e-5
        assert row["groups"] == 2
        assert len(row["stages"]) == 5
        assert row["stages"][0] == 1.0
        assert sum(row["terms"].values()) * row["length_mean"] == pytest.approx(row["return_mean"])


def test_films_tell_the_stages(finished):
    info = json.loads((finished / "videos" / "before_task0_init06.json").read_text())
    assert len(info["stages"]) == 16
    assert info["stage_names"]
    assert info["label"] == "before"


def test_evaluations_say_where_they_come_from(finished, settings):
    before, after = (json.loads((finished / f"eval_{when}.json").read_text()) for when in ("before", "after"))
    assert before["policy"] == settings.policy
    assert after["policy"].endswith("000004")
    assert before["provenance"]["seeds"] == {"seed": 11}
    assert [episode["init_state"] for episode in before["episodes"]] == [6, 7]


def test_the_trained_policy_keeps_how_it_was_evaluated(settings, pool, tmp_path):
    chosen = msgspec.structs.replace(settings, iterations=1, mean_temperature=0.7)
    run(tmp_path / "run", chosen, pool)
    assert json.loads((tmp_path / "run" / "eval_before.json").read_text())["mean_temperature"] == 0.7
    assert load(RunFolder(tmp_path / "run").latest_checkpoint()).mean_temperature == 0.7


def test_the_policy_changed_and_the_start_did_not(finished, tiny_folder):
    start, end = load(finished / START), load(finished / "checkpoints" / "000004")
    given = load(tiny_folder)
    weights = [policy.model.state_dict()["head.weight"] for policy in (start, given, end)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_golden_run(finished):
    """Seeded policy, real libero_object task 0; the module's docstring says how to write the file anew."""
    rows = figures(finished)[:2]
    if os.environ.get("TGRPO_WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(rows, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    for row, wanted in zip(rows, golden, strict=True):
        for name, value in wanted.items():
            assert row[name] == pytest.approx(value, rel=1e-2, abs=TOLERANCE.get(name, 1e-3)), name


def test_a_stopped_run_continues_bit_for_bit(finished, settings, pool, tmp_path):
    folder = tmp_path / "run"
    summary = run(folder, settings, pool, Stopping(folder, 2))
    assert not summary["finished"]
    assert summary["after"] is None
    assert len(figures(folder)) == 2
    assert "--resume" in json.loads((folder / "status.json").read_text())["message"]
    assert run(folder, settings, pool)["finished"]
    assert figures(folder) == figures(finished)


def test_a_damaged_checkpoint_costs_two_iterations_and_no_difference(finished, copy, pool, settings, caplog):
    """Rows beyond the checkpoint that is left are dropped and written again."""
    unfinish(copy)
    weights = copy / "checkpoints" / "000004" / "learner.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    assert run(copy, settings, pool)["finished"]
    assert figures(copy) == figures(finished)
    assert "damaged checkpoint" in caplog.text


def test_a_worker_killed_during_the_training_changes_nothing(finished, settings, pool, tmp_path):
    class Killing(Stopping):
        def obey(self, command):
            if command == "kill" and self._after < 99:
                os.kill(pool.processes()[0], signal.SIGKILL)
                self._after = 99

    folder = tmp_path / "run"
    run(folder, settings, pool, Killing(folder, 1, "kill"))
    assert figures(folder) == figures(finished)


def test_ctrl_c_stops_with_a_checkpoint_and_resume_continues(finished, settings, pool, tmp_path):
    """Ctrl-C as a terminal sends it: to the whole process group, workers included."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "tgrpo.cli", "train", "--run-dir", str(folder), *options(settings)]
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        while not read_metrics(folder) and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    done = len(read_metrics(folder))
    assert RunFolder(folder).checkpoints()[-1] == done
    assert run(folder, settings, pool)["finished"]
    assert figures(folder) == figures(finished)


def test_a_stop_cuts_an_evaluation_short(settings, pool, tmp_path):
    long = msgspec.structs.replace(settings, held_out_states="6-49")
    control = Control()
    control.obey("stop")
    summary = run(tmp_path / "run", long, pool, control)
    assert summary["before"] is None
    assert (tmp_path / "run" / "report.html").exists()


def test_pause_checkpoint_and_resume(settings, pool, tmp_path, monkeypatch):
    folder, control, seen = tmp_path / "run", Stopping(tmp_path / "run", 1, "pause"), []

    def wait(seconds):
        seen.append(json.loads((folder / "status.json").read_text())["state"])
        control._after = 99
        control.obey("checkpoint") if len(seen) == 1 else control.obey("resume")

    monkeypatch.setattr(control, "wait_while_paused", wait)
    run(folder, msgspec.structs.replace(settings, iterations=3, checkpoint_every=50), pool, control)
    assert seen == ["paused", "paused"]
    assert RunFolder(folder).checkpoints() == [2, 3]


def test_a_failure_keeps_the_iteration_and_the_last_checkpoint(settings, pool, tmp_path, monkeypatch):
    folder, original = tmp_path / "run", training.loop.iterate

    def full(*arguments):
        if len(read_metrics(folder)) == 3:
            raise CheckpointError("the disk is full")
        return original(*arguments)

    monkeypatch.setattr(training.loop, "iterate", full)
    with pytest.raises(CheckpointError):
        run(folder, settings, pool)
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["iteration"], status["message"]) == ("failed", 3, "the disk is full")
    assert files.verify_folder(RunFolder(folder).latest_checkpoint())


def test_resume_without_the_first_evaluation_is_refused(copy, pool, settings):
    unfinish(copy)
    (copy / "eval_before.json").unlink()
    with pytest.raises(CheckpointError, match=r"eval_before\.json is missing"):
        run(copy, settings, pool)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--suite", "libero_moon"], 2, ["libero_moon", "libero_object"]),
        (["--task", "17"], 2, ["17", "9: "]),
        (["--task", "pick_up_the_milk"], 2, ["pick_up_the_milk", "7: "]),
        (["--preset", "slow"], 2, ["'slow'", "fast, paper"]),
        (["--policy", "no/such/folder"], 2, ["no/such/folder"]),
        (["--iterations", "0"], 2, ["iterations", ">= 1"]),
        (["--temperature", "0.01"], 2, ["temperature", ">= 0.05"]),
        (["--train-states", "0-30"], 2, ["25 to 30"]),
        (["--held-out-states", "40-50"], 2, ["0-49"]),
        (["--held-out-states", "9-3"], 2, ["9-3"]),
        (["--execute", "9"], 2, ["execute is 9", "8 actions"]),
        (["--suite", "libero_90"], 2, ["libero_90", "stage"]),
    ],
)
def test_wrong_settings_are_one_message_and_leave_nothing(tiny_folder, tmp_path, capsys, options, code, words):
    folder = tmp_path / "run"
    policy = [] if "--policy" in options else ["--policy", str(tiny_folder)]
    assert cli.main(["train", "--run-dir", str(folder), *policy, *options]) == code
    error = capsys.readouterr().err
    assert error.startswith("tgrpo: ")
    assert all(word in error for word in words), error
    assert not folder.exists()


def test_a_replay_has_nothing_to_train(replay_folder, tmp_path, capsys):
    assert cli.main(["train", "--run-dir", str(tmp_path / "run"), "--policy", str(replay_folder)]) == 2
    assert "ReplayPolicy" in capsys.readouterr().err


def test_a_full_disk_is_noticed_before_the_start(tiny_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "SPACE", 10**18)
    assert cli.main(["train", "--run-dir", str(tmp_path / "run"), "--policy", str(tiny_folder)]) == 1
    assert "MB are needed" in capsys.readouterr().err


def without_seals(run):
    for manifest in (run / "checkpoints").glob("*/manifest.json"):
        manifest.unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (shutil.rmtree, "no run to resume"),
        (lambda run: shutil.rmtree(run / START), START),
        (lambda run: (run / "settings.yaml").write_text("colour: red\n"), "colour"),
        (without_seals, "no intact checkpoint"),
    ],
)
def test_resume_of_what_is_not_there_or_damaged(copy, capsys, harm, words):
    harm(copy)
    assert cli.main(["train", "--run-dir", str(copy), "--resume"]) in (1, 2)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--iterations", "9"], "iterations is 4 there and 9 here"),
        (["--learner.kl", "0.5"], "learner.kl is 0.01 there and 0.5 here"),
        (["--preset", "paper"], "preset is 'fast' there and 'paper' here"),
    ],
)
def test_resume_with_other_settings_is_refused(copy, capsys, asked, words):
    assert cli.main(["train", "--run-dir", str(copy), "--resume", *asked]) == 2
    assert words in capsys.readouterr().err


def test_resume_with_the_settings_that_a_run_has_is_no_change(settings):
    train.refuse_changes(settings, settings)
    train.refuse_changes(PRESETS["paper"], PRESETS["paper"])
    train.refuse_changes(TrainSettings(), PRESETS["paper"])
