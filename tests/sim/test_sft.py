"""Imitation on a handful of made-up demonstrations."""

import h5py
import numpy as np
import pytest
from rich.console import Console

from sim import sft
from tgrpo import cli
from tgrpo.errors import SettingsError
from tgrpo.policies import bins, load
from tgrpo.record.demo_file import Demonstration

CAMERAS = ("agentview", "robot0_eye_in_hand")


def demonstration(seed=0, steps=20, instruction="turn on the stove", success=True, size=32):
    """The brightness of the pictures tells which way to go."""
    rng = np.random.default_rng(seed)
    direction = np.float32(rng.uniform(-0.8, 0.8))
    actions = np.zeros((steps, 7), np.float32)
    actions[:, 0] = direction
    actions[:, 6] = np.where(np.arange(steps) < steps // 2, -1, 1)
    frames = np.arange(0, steps, 8, dtype=np.int32)
    picture = np.full((len(frames), size, size, 3), int(127 + 120 * direction), np.uint8)
    proprio = np.tile(np.array([0, 0, 1, 3.1, 0, 0, 0.04, -0.04], np.float32), (steps, 1))
    proprio += rng.normal(0, 0.01, proprio.shape).astype(np.float32)
    return Demonstration(
        suite="libero_goal",
        task=0,
        task_name="task",
        instruction=instruction,
        actions=actions,
        executed=actions,
        proprio=proprio,
        frames=frames,
        images=dict.fromkeys(CAMERAS, picture),
        success=success,
    )


def settings(tmp_path, **keywords):
    return sft.SftSettings(**{"demos": (), "out": tmp_path / "out", "steps": 60, "batch": 8, "shift": 1} | keywords)


def test_labels_are_the_next_actions_and_rest_behind_the_end():
    data = sft.examples([demonstration(steps=20)], chunk=8)
    demo = demonstration(steps=20)
    assert data.pictures.shape == (3, 2, 32, 32, 3)
    assert np.array_equal(data.targets[1], bins.encode(demo.actions[8:16]))
    assert np.array_equal(data.targets[2][:4], bins.encode(demo.actions[16:20]))
    rest = bins.encode([0, 0, 0, 0, 0, 0, 1])
    assert (data.targets[2][4:].numpy() == rest).all()


def test_failures_and_what_is_beyond_the_limit_are_left_out():
    demos = [demonstration(0), demonstration(1, success=False), demonstration(2), demonstration(3, instruction="stop")]
    data = sft.examples(demos, chunk=8, per_task=1)
    assert data.demonstrations == {"turn on the stove": 1, "stop": 1}
    assert data.tasks.tolist() == [0, 0, 0, 1, 1, 1]


def test_nothing_to_learn_from():
    with pytest.raises(SettingsError, match="tgrpo demos"):
        sft.examples([demonstration(success=False)], chunk=8)


def test_the_loss_falls_and_the_seed_decides(tmp_path):
    data = sft.examples([demonstration(seed) for seed in range(6)], chunk=8)
    losses = []
    for _ in range(2):
        policy = sft.new_policy(data, CAMERAS, seed=1)
        losses.append(sft.fit(policy, data, settings(tmp_path, steps=40), Console(quiet=True)))
    assert losses[0] == losses[1]
    assert np.mean(losses[0][-5:]) < 0.75 * losses[0][0]


def libero_file(path, demos=2, steps=20, size=32):
    """The layout of LIBERO's published demonstrations; their pictures are upside down."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = '{"language_instruction": "turn on the stove"}'
        data.attrs["bddl_file_name"] = "libero_goal/turn_on_the_stove.bddl"
        for index in range(demos):
            demo = data.create_group(f"demo_{index}")
            demo["actions"] = rng.uniform(-1, 1, (steps, 7))
            views = demo.create_group("obs")
            for name in ("agentview_rgb", "eye_in_hand_rgb"):
                views[name] = rng.integers(0, 256, (steps, size, size, 3), dtype=np.uint8)
            views["ee_pos"] = rng.normal(size=(steps, 3))
            views["ee_ori"] = rng.normal(size=(steps, 3))
            views["ee_states"] = rng.normal(size=(steps, 6))
            views["gripper_states"] = rng.normal(size=(steps, 2))
            views["joint_states"] = rng.normal(size=(steps, 7))
    return path


def test_the_command_trains_on_a_libero_file_and_says_how(tmp_path):
    file, out = libero_file(tmp_path / "turn_on_the_stove_demo.hdf5"), tmp_path / "out"
    assert cli.main(["sft", "--demos", str(file), "--out", str(out), "--steps", "3", "--batch", "4"]) == 0
    policy = load(out)
    assert policy.spec.observation.size == 32
    assert policy.spec.observation.cameras == CAMERAS
    assert "turn on the stove" in (out / "training.json").read_text()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--demos", "nowhere/*.hdf5", "--out", "{new}"], "nowhere"),
        (["--demos", "nowhere/*.hdf5", "--out", "{old}"], "exists"),
        (["--demos", "x", "--out", "{new}", "--steps", "0"], "steps"),
    ],
)
def test_wrong_options_are_one_message(tmp_path, capsys, options, word):
    options = [option.format(new=tmp_path / "new", old=tmp_path) for option in options]
    assert cli.main(["sft", *options]) == 2
    assert word in capsys.readouterr().err
