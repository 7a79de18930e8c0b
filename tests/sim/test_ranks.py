"""`tgrpo train` under the real torchrun: two processes train what one does, stop together and fail together."""

import importlib.util
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

from sim import ranks, train
from sim.control import Control
from sim.settings import TrainSettings
from sim.training import Training
from tests.aborted import second_try
from tgrpo.learner import LearnerSettings
from tgrpo.policies import sharding
from tgrpo.record.metrics import read_metrics
from tgrpo.record.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
_path = ROOT / "tests" / "tgrpo" / "policies" / "conftest.py"
_spec = importlib.util.spec_from_file_location("policy_parts", _path)
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

SAME = ("success_rate", "return_mean", "length_mean", "groups", "groups_skipped", "environment_steps", "stages")
CLOSE = ("loss", "entropy", "grad_norm", "ratio_max", "clip_fraction", "kl")
"""Processes add up in another order: a thousandth, or 1e-5 where a figure may be 0."""


@pytest.fixture(scope="module")
def settings(tiny_folder):
    learner = LearnerSettings(kl=0.01, learning_rate=1e-3, epochs=2, minibatch=6, lora_rank=4, lora_alpha=16)
    return TrainSettings(
        suite="libero_object",
        task=0,
        policy=str(tiny_folder),
        seed=11,
        iterations=2,
        groups=2,
        group_size=4,
        temperature=1.0,
        max_steps=16,
        train_states="0-5",
        held_out_states="6-7",
        evaluate_every=0,
        workers=2,
        learner=learner,
    )


def options(settings, prefix="--"):
    for name, value in msgspec.structs.asdict(settings).items():
        if isinstance(value, msgspec.Struct):
            yield from options(value, f"--{name}.")
        elif value is not None and value is not False:  # off is the default of every switch
            yield from (prefix + name.replace("_", "-"), str(value))


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tgrpo.cli"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, "train", *arguments], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=-1
    )


def ended(process, seconds=300):
    try:
        return process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:  # torchrun takes its processes along
            process.terminate()
            process.wait(60)


class StopsAfterOne(Control):
    """Asks for a stop once an iteration is done."""

    def __init__(self, folder):
        super().__init__()
        self._folder = folder

    @property
    def stopping(self):
        return bool(read_metrics(self._folder))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, settings, pool):
    """A run of one process, which was stopped after one iteration and continued; and what it was at the stop."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    with train._begun(folder, settings) as opened:
        Training(settings, opened, StopsAfterOne(folder), Console(quiet=True)).execute(pool)
    stopped = shutil.copytree(folder, folder.parent / "stopped", symlinks=True)
    with RunFolder.resume(folder) as opened:
        Training(settings, opened, Control(), Console(quiet=True)).execute(pool)
    return folder, stopped


def assert_alike(row, other):
    assert {name: row[name] for name in SAME} == {name: other[name] for name in SAME}
    for name in CLOSE:
        assert row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


@second_try
def test_two_processes_continue_what_one_began(alone, tmp_path):
    finished, stopped = alone
    folder = shutil.copytree(stopped, tmp_path / "run", symlinks=True)
    process = torchrun("--run-dir", str(folder), "--resume")
    said, errors = ended(process)
    assert process.returncode == 0, errors[-3000:]
    assert said.count("Resuming after iteration 1") == said.count("Held-out success") == 1
    rows, wanted = read_metrics(folder), read_metrics(finished)
    assert len(rows) == len(wanted) == 2
    assert_alike(rows[1], wanted[1])
    assert rows[1]["useful_steps"] == pytest.approx(1.0)  # those of both processes are counted
    ours, theirs = (json.loads((run / "eval_after.json").read_text()) for run in (folder, finished))
    assert [episode["init_state"] for episode in ours["episodes"]] == [6, 7]
    assert ours["successes"] == theirs["successes"]
    assert not list(folder.glob(".tmp*"))


@second_try
def test_two_processes_begin_alike_and_ctrl_c_stops_both_with_a_checkpoint(alone, settings, tmp_path):
    """Ctrl-C in the middle of the training: torchrun passes it on to all processes."""
    folder = tmp_path / "run"
    # The first iteration has the whole learning rate, however many follow.
    long = msgspec.structs.replace(settings, iterations=50)
    process = torchrun("--run-dir", str(folder), *options(long))
    while not read_metrics(folder) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, errors = ended(process)
    rows = read_metrics(folder)
    assert 1 <= len(rows) < 50, errors[-3000:]
    assert_alike(rows[0], read_metrics(alone[0])[0])
    assert "Stopped with a checkpoint" in said
    assert RunFolder(folder).checkpoints()[-1] == len(rows)
    assert not list(folder.glob(".tmp*"))
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"


@second_try
def test_an_openvla_is_sharded_in_updates_and_whole_in_rollouts(tmp_path):
    parts.save_talkative(tmp_path)
    words = f"--policy openvla --checkpoint {tmp_path} --suite libero_spatial --task 2 --iterations 2 --groups 2"
    words += " --group-size 2 --max-steps 2 --train-states 0-1 --held-out-states 2-3 --evaluate-every 0 --workers 2"
    words += " --temperature 1.0 --learner.lora-rank 2 --learner.epochs 1 --learner.learning-rate 1e-3 --learner.shard"
    process = torchrun("--run-dir", str(tmp_path / "run"), *words.split())
    said, errors = ended(process)
    assert process.returncode == 0, errors[-3000:]
    assert "Held-out success" in said
    rows = read_metrics(tmp_path / "run")
    assert [row["episodes"] for row in rows] == [4, 8]
    # What acted was gathered again after each update: the learner finds its log-probabilities.
    assert all(row["reproduction_error"] < 1e-4 for row in rows)
    assert all(row["grad_norm"] > 0 for row in rows)


def test_help_is_no_failure():
    process = torchrun("--help")
    usage, _ = ended(process)
    assert process.returncode == 0
    assert "usage: tgrpo train" in usage


@pytest.mark.parametrize(("words", "why"), [("--suite libero_moon", "libero_moon"), ("--learner.adapter full", "lora")])
def test_what_process_0_refuses_ends_all_with_one_message(tmp_path, words, why):
    process = torchrun("--run-dir", str(tmp_path / "run"), *words.split())
    _, errors = ended(process)
    assert process.returncode != 0
    assert errors.count("tgrpo: ") == 1
    assert why in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_all_there_is_in_order(monkeypatch, count):
    monkeypatch.setattr(sharding, "world", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(sharding, "rank", lambda rank=rank: rank)
        shares.append(ranks.share_of(range(count)))
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
