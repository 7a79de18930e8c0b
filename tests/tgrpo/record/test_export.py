"""What others read from our recordings: LIBERO's format and LeRobot's, and the replay."""

import json
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.tgrpo.record.episodes import action, info, picture, write_session
from tgrpo.errors import RecordingError, SettingsError
from tgrpo.record import demo_file, export, replay
from tgrpo.record.episode import load
from tgrpo.record.session import closed_episodes

STEPS = 20


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return write_session(
        tmp_path_factory.mktemp("sessions") / "session",
        [
            (info(pair=0), "success", {"steps": STEPS}),
            (info(pair=1), "failure", {"steps": 12, "human": range(3, 7), "hold": (8,), "reason": "dropped"}),
            (info(pair=2, task=1, task_name="open_the_drawer", instruction="open the drawer"), "success", {"steps": 9}),
            (info(pair=3), "interrupted", {"steps": 5, "human": (4,)}),
        ],
    )


def run(session, out, *options, kind="hdf5"):
    return export.main([kind, str(session), "--out", str(out), *options])


def test_libero_file_reads_as_it_was_recorded(session, tmp_path):
    assert run(session, tmp_path / "libero_spatial") == 0
    names = sorted(path.name for path in (tmp_path / "libero_spatial").iterdir())
    assert names == ["open_the_drawer_demo.hdf5", "put_the_bowl_on_the_plate_demo.hdf5"]
    (demo,) = demo_file.load(tmp_path / "libero_spatial" / names[1])
    assert (demo.suite, demo.task_name) == ("libero_spatial", "put_the_bowl_on_the_plate")
    assert demo.instruction == "put the bowl on the plate"
    np.testing.assert_allclose(demo.actions, [action(step) for step in range(STEPS)], atol=1e-6)
    assert demo.proprio.shape == (STEPS, 8)
    np.testing.assert_allclose(demo.proprio[:, 6:], [[0.04, -0.04]] * STEPS)
    # Lossless and upright, and each beside the action that followed it.
    np.testing.assert_array_equal(demo.images["agentview"], [picture(step) for step in range(STEPS)])


def test_libero_file_says_what_libero_does_not_know(session, tmp_path):
    run(session, tmp_path, "--outcomes", "success", "failure")
    with h5py.File(tmp_path / "put_the_bowl_on_the_plate_demo.hdf5") as file:
        first, second = file["data/demo_0"], file["data/demo_1"]
        assert file["data"].attrs["total"] == STEPS + 12
        assert first["rewards"][:].tolist() == [0] * (STEPS - 1) + [1]
        assert not second["rewards"][:].any()
        assert second["intervention"][:].nonzero()[0].tolist() == [3, 4, 5, 6]
        assert second["source"][3] == b"human"
        np.testing.assert_allclose(second["actions"][3] - second["policy_actions"][3], np.ones(7))
        assert second["obs/joint_states"].shape == (12, 7)


def test_only_the_corrections(session, tmp_path):
    run(session, tmp_path, "--part", "human")
    first, second = demo_file.load(tmp_path / "put_the_bowl_on_the_plate_demo.hdf5")
    assert [len(first.actions), len(second.actions)] == [4, 1]
    np.testing.assert_array_equal(first.images["agentview"][0], picture(3))
    np.testing.assert_allclose(first.actions[0], np.array(action(3)) + 1, atol=1e-6)


def test_refusals_say_what_to_do(session, tmp_path):
    run(session, tmp_path)
    with pytest.raises(SettingsError, match="exists already"):
        run(session, tmp_path)
    with pytest.raises(SettingsError, match="no demonstration can be made"):
        run(session, tmp_path / "none", "--outcomes", "aborted")
    with pytest.raises(SettingsError, match="neither a session"):
        run(tmp_path, tmp_path / "out")
    with pytest.raises(SettingsError, match=r"unknown export format 'hdf'.*Did you mean 'hdf5'"):
        run(session, tmp_path, kind="hdf")


def test_a_lerobot_dataset_has_no_part_of_an_episode(session, tmp_path):
    pytest.importorskip("pyarrow", reason="pip install '.[lerobot-export]'")
    with pytest.raises(SettingsError, match="column 'intervention'"):
        run(session, tmp_path / "set", "--part", "human", kind="lerobot")


@pytest.fixture(scope="module")
def dataset(session, tmp_path_factory):
    pytest.importorskip("pyarrow", reason="pip install '.[lerobot-export]'")
    out = tmp_path_factory.mktemp("lerobot") / "set"
    assert run(session, out, "--outcomes", "success", "failure", kind="lerobot") == 0
    return out


def table(path):
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(path)


def test_lerobot_layout(dataset):
    about = json.loads((dataset / "meta/info.json").read_text())
    assert about["codebase_version"] == "v3.0"
    assert (about["total_episodes"], about["total_frames"], about["total_tasks"]) == (3, STEPS + 12 + 9, 2)
    assert about["fps"] == 20
    assert about["features"]["action"] == {
        "dtype": "float32",
        "shape": [7],
        "names": ["dx", "dy", "dz", "drx", "dry", "drz", "gripper"],
    }
    assert about["features"]["timestamp"]["dtype"] == "float32"
    assert about["features"]["index"]["dtype"] == "int64"
    assert about["features"]["observation.images.agentview"]["shape"] == [32, 32, 3]
    for number in range(3):
        video = about["video_path"].format(video_key="observation.images.agentview", chunk_index=0, file_index=number)
        assert (dataset / video).stat().st_size > 0
    tasks = table(dataset / "meta/tasks.parquet")
    assert tasks.to_pylist() == [
        {"task_index": 0, "task": "put the bowl on the plate"},
        {"task_index": 1, "task": "open the drawer"},
    ]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_lerobot_rows(dataset):
    rows = table(dataset / "data/chunk-000/file-000.parquet").to_pydict()
    total = STEPS + 12 + 9
    assert rows["index"] == list(range(total))
    assert rows["episode_index"] == [0] * STEPS + [1] * 12 + [2] * 9
    assert rows["frame_index"][STEPS : STEPS + 3] == [0, 1, 2]
    assert rows["task_index"][-1] == 1
    np.testing.assert_allclose(rows["timestamp"][:3], [0, 0.05, 0.1], atol=1e-7)
    np.testing.assert_allclose(rows["action"][5], action(5), atol=1e-6)
    assert [i for i, human in enumerate(rows["intervention"]) if human] == [STEPS + step for step in range(3, 7)]
    np.testing.assert_allclose(rows["policy_action"][STEPS + 3], action(3), atol=1e-6)


def test_lerobot_episodes_and_statistics(dataset):
    rows = table(dataset / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["length"] for row in rows] == [STEPS, 12, 9]
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [(0, 20), (20, 32), (32, 41)]
    assert rows[2]["tasks"] == ["open the drawer"]
    assert rows[1]["videos/observation.images.agentview/file_index"] == 1
    assert rows[1]["videos/observation.images.agentview/to_timestamp"] == pytest.approx(0.6)
    assert rows[0]["stats/action/count"] == [STEPS]
    whole = json.loads((dataset / "meta/stats.json").read_text())
    np.testing.assert_allclose(whole["action"]["min"], np.min([row["stats/action/min"] for row in rows], axis=0))
    assert np.shape(whole["observation.images.agentview"]["mean"]) == (3, 1, 1)
    assert 0 < whole["observation.images.agentview"]["mean"][0][0][0] < 1


def test_lerobot_reads_it_back(dataset):
    """With lerobot itself, which needs Python 3.12 and other versions than ours: name its Python to run this."""
    python = os.environ.get("TGRPO_LEROBOT_PYTHON")
    if not python:
        pytest.skip("TGRPO_LEROBOT_PYTHON does not name a Python that has lerobot[dataset] 0.6 or newer")
    script = Path(__file__).with_name("read_lerobot.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # A local dataset must not be looked for on the network.
    environment["HF_HUB_OFFLINE"] = "1"
    done = subprocess.run(
        [python, str(script), str(dataset)], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["frames"], found["episodes"]) == (41, 3)
    assert found["task"] == "put the bowl on the plate"
    np.testing.assert_allclose(found["action"], action(5), atol=1e-6)
    # H.264 changes a flat grey by little.
    assert abs(found["grey"] - picture(5)[-1, 0, 0] / 255) < 0.03


def test_replay_tells_what_happened(session, tmp_path, capsys):
    folder = closed_episodes(session)[1]
    assert replay.main([str(folder), "--video", str(tmp_path / "film.mp4"), "--speed", "1000"]) == 0
    out = capsys.readouterr().out
    for words in (
        "episode 1: failure",
        "dropped",
        "human in control from step 3",
        "policy in control from step 7",
        "hold  stale_frame  no picture for 200 ms",
        "stage 1 complete  grasp",
        "4 of 12 steps",
    ):
        assert words in out
    assert (tmp_path / "film.mp4").stat().st_size > 1000
    with pytest.raises(RecordingError, match="no pictures of camera 'side'; recorded: agentview"):
        replay.main([str(folder), "--video", str(tmp_path / "film.mp4"), "--camera", "side"])


def test_sparkline():
    assert replay.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert replay.sparkline([1, 1]) == "▁▁"
    assert len(replay.sparkline([float(i) for i in range(1000)])) == 72


def test_an_episode_without_states_says_so(session, tmp_path):
    episode = load(closed_episodes(session)[0], cameras=())
    assert episode.cameras() == []
    with pytest.raises(RecordingError, match="no pictures of camera 'agentview'; recorded: none"):
        next(iter(replay.film(episode, "agentview")))
