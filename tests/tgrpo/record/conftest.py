"""Evaluations and a run folder that look like the real ones, made from fixed numbers."""

import msgspec
import numpy as np
import pytest

from tgrpo.record import provenance
from tgrpo.record.compare import compare
from tgrpo.record.eval_result import EpisodeResult, summarise
from tgrpo.record.metrics import MetricsWriter
from tgrpo.record.run_folder import RunFolder
from tgrpo.record.video import VideoInfo, annotate_rollout, save_rollout
from tgrpo.settings import Strict

TASK = "pick_up_the_cream_cheese_and_place_it_in_the_basket"
STAGES = ["approach", "grasp", "move", "place"]
BEFORE = "11010010011010010110010010111001001101"
AFTER = "11101011011111011110101011111101101111"
ITERATIONS = 40


class FakeSettings(Strict, frozen=True):
    """The shape of a training's settings."""

    suite: str = "libero_object"
    task: int = 1
    preset: str = "fast"
    seed: int = 7
    iterations: int = ITERATIONS
    algo: dict[str, float] = msgspec.field(
        default_factory=lambda: {"group_size": 8, "clip_low": 0.2, "clip_high": 0.28, "learning_rate": 5e-5}
    )


def evaluation(bits, *, task=1, first=12, suite="libero_object", **keywords):
    """An evaluation whose episodes succeed where ``bits`` has a 1."""
    episodes = [
        EpisodeResult(task=task, init_state=first + index, success=bit == "1", steps=90 if bit == "1" else 280)
        for index, bit in enumerate(bits)
    ]
    return summarise(episodes, **{"policy": "checkpoints/tiny", "suite": suite, "names": {task: TASK}} | keywords)


def metrics_row(iteration, rng):
    """One row of metrics.jsonl with every key that a training writes."""
    progress = iteration / ITERATIONS
    success = float(np.clip(0.45 + 0.4 * progress + rng.normal(0, 0.06), 0, 1))
    noise = rng.normal(0, 0.03, 3)
    reached = [1.0, *np.clip(np.array([0.8, 0.7, 0.55]) + np.array([0.15, 0.2, 0.3]) * progress + noise, 0, 1), success]
    row = {
        "iteration": iteration,
        "seconds": 11.5 * iteration,
        "success_rate": success,
        "groups_solved": success,
        "return_mean": 1.2 + 1.5 * progress + float(rng.normal(0, 0.15)),
        "length_mean": 180 - 70 * progress + float(rng.normal(0, 8)),
        "loss": float(rng.normal(0, 0.01)),
        "kl": 0.002 + 0.02 * progress + float(rng.normal(0, 0.001)),
        "clip_fraction": 0.03 + 0.02 * float(rng.random()),
        "ratio_max": 1.4 + float(rng.random()),
        "entropy": 2.1 - 0.5 * progress + float(rng.normal(0, 0.03)),
        "grad_norm": 0.8 + 0.2 * float(rng.random()),
        "learning_rate": 5e-5,
        "groups": 4,
        "groups_skipped": int(rng.integers(0, 2)),
        "episodes": 32 * iteration,
        "environment_steps": 4500 * iteration,
        "steps_per_second": 520 + float(rng.normal(0, 20)),
        "rollout_seconds": 9.0,
        "update_seconds": 2.5,
        "terms": {
            "reach": 0.004 + 0.001 * progress,
            "grasp": 0.002 + 0.002 * progress,
            "place": 0.001 + 0.005 * progress + float(rng.normal(0, 0.0003)),
        },
        "stages": reached,
    }
    if iteration % 10 == 0:
        row["eval"] = {"successes": int(BEFORE.count("1") + progress * 10), "n": len(BEFORE)}
    return row


def frames(success, size=128, count=60):
    """A block that moves towards a basket and, on success, gets there."""
    reach = 76 if success else 40
    for index in range(count):
        picture = np.full((size, size, 3), (196, 186, 170), np.uint8)
        picture[60:96, 80:116] = (120, 84, 56)
        x = 12 + reach * index // count
        picture[70:86, x : x + 16] = (70, 130, 180)
        yield picture


def add_videos(path):
    """Videos of two initial states, before and after."""
    for init_state, before, after in ((14, False, True), (17, False, True)):
        for label, success in (("before", before), ("after", after)):
            last = 4 if success else 1
            stages = [min(last, step // 12) for step in range(60)]
            info = VideoInfo(
                label=label, task=1, init_state=init_state, success=success, stages=stages, stage_names=STAGES
            )
            save_rollout(path, annotate_rollout(frames(success), info), info)


def build_run(path, *, finished=True, iterations=ITERATIONS):
    """Fills a run folder; an unfinished one stops in the middle, without its second evaluation."""
    rng = np.random.default_rng(0)
    with RunFolder.create(path) as run:
        run.write_settings(FakeSettings())
        provenance.save(path, provenance.collect({"run": 7}))
        before = evaluation(BEFORE)
        run.write_json("eval_before.json", before)
        with MetricsWriter(path) as metrics:
            for iteration in range(1, iterations + 1):
                metrics.write(metrics_row(iteration, rng))
        run.write_status("finished" if finished else "training", iterations, ITERATIONS)
        if not finished:
            return path
        after = evaluation(AFTER, policy="runs/demo/checkpoints/000040")
        run.write_json("eval_after.json", after)
        add_videos(path)
        run.write_json("summary.json", summary(before, after))
    return path


def summary(before, after):
    """summary.json of a finished run."""
    result = compare(before, after)
    return {
        "schema": "tgrpo/summary/1",
        "suite": "libero_object",
        "task": 1,
        "task_name": TASK,
        "before": {"successes": before["successes"], "n": before["n"]},
        "after": {"successes": after["successes"], "n": after["n"]},
        "gained": result["gained"],
        "lost": result["lost"],
        "mcnemar_p": result["mcnemar_p"],
        "init_states": {"train": list(range(12)), "held_out": list(range(12, 50))},
        "seed": 7,
        "environment_steps": 4500 * ITERATIONS,
        "episodes": 32 * ITERATIONS,
        "seconds": {"training": 460.0, "evaluation": 95.0, "total": 555.0},
        "finished": True,
    }


@pytest.fixture(name="evaluation")
def evaluation_fixture():
    """Makes an evaluation from a string of 0 and 1."""
    return evaluation


@pytest.fixture
def before():
    """The evaluation before the training."""
    return evaluation(BEFORE)


@pytest.fixture
def after():
    """The evaluation after the training."""
    return evaluation(AFTER)


@pytest.fixture(name="frames")
def frames_fixture():
    """Makes the frames of a rollout."""
    return frames


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A run folder with everything in it."""
    return build_run(tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture(scope="session")
def unfinished_run(tmp_path_factory):
    """A run folder whose training is still going on."""
    return build_run(tmp_path_factory.mktemp("runs") / "unfinished", finished=False, iterations=7)
