"""Demonstrations on disk: our format and LIBERO's."""

import json
import shutil

import h5py
import numpy as np
import pytest

from tgrpo.errors import CheckpointError, RecordingError, SettingsError, UnknownNameError
from tgrpo.record.demo_file import Demonstration, DemoWriter, load


def demonstration(init_state=3, seed=1, steps=5):
    rng = np.random.default_rng(init_state)
    return Demonstration(
        suite="libero_object",
        task=2,
        task_name="pick_it",
        instruction="pick it",
        actions=rng.uniform(-1, 1, (steps, 7)).astype(np.float32),
        executed=rng.uniform(-1, 1, (steps, 7)).astype(np.float32),
        proprio=rng.normal(size=(steps, 8)).astype(np.float32),
        frames=np.array([0, 4], np.int32),
        images={"agentview": rng.integers(0, 256, (2, 6, 8, 3), np.uint8)},
        init_state=init_state,
        seed=seed,
        fixtures=4,
        sigma=0.25,
        candidate=(1, 2),
    )


def test_a_demonstration_comes_back_as_it_was(tmp_path):
    wanted = demonstration()
    with DemoWriter(tmp_path / "sub" / "a.hdf5", {"who": "test"}) as writer:
        writer.add(wanted)
        assert writer.done() == {"03_1"}
        assert (writer.successes(), writer.steps()) == (1, 5)
    (found,) = load(tmp_path / "sub" / "a.hdf5")
    for name in ("actions", "executed", "proprio", "frames"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    assert np.array_equal(found.images["agentview"], wanted.images["agentview"])
    for name in ("suite", "task", "task_name", "instruction", "init_state", "seed", "fixtures", "sigma", "candidate"):
        assert getattr(found, name) == getattr(wanted, name)
    assert found.success


def test_a_file_is_continued_and_remembers_failures(tmp_path):
    path = tmp_path / "a.hdf5"
    with DemoWriter(path, {}) as writer:
        writer.add(demonstration(3))
        writer.fail("04_0")
    with DemoWriter(path, {}) as writer:
        assert writer.done() == {"03_1", "04_0"}
        writer.add(demonstration(1))
    assert [demo.init_state for demo in load(path, cameras=())] == [1, 3]


def test_a_writer_that_is_killed_before_its_first_demonstration_can_be_continued(tmp_path):
    """What a killed process leaves behind is what is in the file before anything else is written or closed."""
    with DemoWriter(tmp_path / "a.hdf5", {}):
        shutil.copy(tmp_path / "a.hdf5", tmp_path / "left.hdf5")
    with DemoWriter(tmp_path / "left.hdf5", {}) as writer:
        assert writer.done() == set()


def test_pictures_are_decoded_on_demand(tmp_path):
    with DemoWriter(tmp_path / "a.hdf5", {}) as writer:
        writer.add(demonstration())
    assert load(tmp_path / "a.hdf5", cameras=())[0].images == {}
    with pytest.raises(UnknownNameError, match="agentview"):
        load(tmp_path / "a.hdf5", cameras=("agent_view",))


def test_a_file_made_with_other_settings_is_not_continued(tmp_path):
    with DemoWriter(tmp_path / "a.hdf5", {}) as writer:
        writer.require_recipe({"size": 96, "cameras": ("agentview",)})
    with DemoWriter(tmp_path / "a.hdf5", {}) as writer:
        writer.require_recipe({"size": 96, "cameras": ("agentview",)})
        with pytest.raises(SettingsError, match="size 96, now 128"):
            writer.require_recipe({"size": 128, "cameras": ("agentview",)})


def test_a_damaged_picture_is_named(tmp_path):
    with DemoWriter(tmp_path / "a.hdf5", {}) as writer:
        writer.add(demonstration())
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["demos/03_1/images/agentview"][1] = np.zeros(10, np.uint8)
    with pytest.raises(RecordingError, match="picture is damaged"):
        load(tmp_path / "a.hdf5")


def libero_file(path, **attributes):
    """A file as LIBERO's ``create_dataset.py`` writes it, with four steps; picture k is filled with k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": "pick the soup"})
        for name, value in attributes.items():
            data.attrs[name] = value
        for number in (10, 2):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = np.arange(28, dtype=np.float64).reshape(4, 7) + number
            pictures = np.repeat(np.arange(4, dtype=np.uint8), 2 * 3 * 3).reshape(4, 2, 3, 3)
            pictures[:, 0] += 100
            demo["obs/agentview_rgb"] = pictures
            demo["obs/eye_in_hand_rgb"] = pictures
            demo["obs/ee_states"] = np.arange(24, dtype=np.float64).reshape(4, 6)
            demo["obs/gripper_states"] = np.arange(8, dtype=np.float64).reshape(4, 2)


def test_liberos_own_files_are_aligned_and_turned_upright(tmp_path):
    path = tmp_path / "libero_object" / "pick_up_the_soup_demo.hdf5"
    libero_file(path, macros_image_convention="opengl")
    first, second = load(path)
    assert (first.suite, first.task_name, first.instruction) == ("libero_object", "pick_up_the_soup", "pick the soup")
    # What was seen after action k is stored with it, so it belongs to action k + 1.
    assert first.actions[:, 0].tolist() == [9, 16, 23]
    assert second.actions[0, 0] == 17
    assert first.proprio[:, 0].tolist() == [0, 6, 12]
    assert first.proprio[1].tolist() == [6, 7, 8, 9, 10, 11, 2, 3]
    picture = first.images["agentview"][1]
    assert picture[1, 0, 0] == 101
    assert picture[0, 0, 0] == 1
    assert set(first.images) == {"agentview", "robot0_eye_in_hand"}


def test_regenerated_libero_files_need_no_shift(tmp_path):
    libero_file(tmp_path / "libero_object" / "a_demo.hdf5")
    first = load(tmp_path / "libero_object" / "a_demo.hdf5", cameras=("agentview",))[0]
    assert len(first.actions) == 4
    assert first.images["agentview"][0, 1, 0, 0] == 100


def test_what_is_no_demonstration_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load(tmp_path / "missing.hdf5")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["x"] = 1
    with pytest.raises(CheckpointError, match="neither"):
        load(tmp_path / "other.hdf5")
    with pytest.raises(CheckpointError, match="not a demonstration file"):
        DemoWriter(tmp_path / "other.hdf5", {})
