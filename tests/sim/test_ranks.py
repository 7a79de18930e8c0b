"""`tgrpo train` under the real torchrun: two processes train what one does, stop together and fail together."""

import json
import os
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
from tgrpo.learner import LearnerSettings
from tgrpo.policies import sharding
from tgrpo.record.metrics import read_metrics
from tgrpo.record.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
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
        elif value is not None:
            yield from (prefix + name.replace("_", "-"), str(value))


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tgrpo.cli"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, "train", *arguments], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=-1
    )


def ended(process, seconds=120):
    try:
        return process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:  # torchrun takes its processes along
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, settings, pool):
    """The same run in one process."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    with train._begun(folder, settings) as opened:
        Training(settings, opened, Control(), Console(quiet=True)).execute(pool)
    return folder


def assert_alike(folder, wanted):
    rows, others = read_metrics(folder), read_metrics(wanted)
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert {name: row[name] for name in SAME} == {name: other[name] for name in SAME}
        for name in CLOSE:
            assert row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


def test_two_processes_train_what_one_does(alone, settings, tmp_path):
    folder = tmp_path / "run"
    process = torchrun("--run-dir", str(folder), *options(settings))
    said, errors = ended(process)
    assert process.returncode == 0, errors[-3000:]
    assert said.count("Held-out success") == 1
    assert_alike(folder, alone)
    assert read_metrics(folder)[-1]["useful_steps"] == pytest.approx(1.0)  # those of both processes are counted
    for when in ("before", "after"):
        ours, theirs = (json.loads((run / f"eval_{when}.json").read_text()) for run in (folder, alone))
        assert [episode["init_state"] for episode in ours["episodes"]] == [6, 7]
        assert ours["successes"] == theirs["successes"]
    assert not list(folder.glob(".tmp*"))


def test_a_stop_of_torchrun_ends_all_with_a_checkpoint_that_continues(settings, tmp_path):
    """Ctrl-C in the middle of the training: torchrun passes it on to all processes."""
    folder = tmp_path / "run"
    long = msgspec.structs.replace(settings, iterations=50, schedule="constant", held_out_states="6-6")
    process = torchrun("--run-dir", str(folder), *options(long))
    while not read_metrics(folder) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = ended(process)
    done = len(read_metrics(folder))
    assert 1 <= done < 50
    assert "Stopped with a checkpoint" in said
    assert RunFolder(folder).checkpoints()[-1] == done
    assert not list(folder.glob(".tmp*"))
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"


def test_what_process_0_refuses_ends_all_with_one_message(tmp_path):
    process = torchrun("--run-dir", str(tmp_path / "run"), "--suite", "libero_moon")
    _, errors = ended(process)
    assert process.returncode != 0
    assert errors.count("tgrpo: ") == 1
    assert "libero_moon" in errors
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
