"""Run folders: refusals, locks, atomic files, checkpoints that stay and that are skipped."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from tgrpo.errors import CheckpointError, SettingsError
from tgrpo.record.run_folder import RunFolder
from tgrpo.settings import Strict


class _Settings(Strict, frozen=True):
    suite: str = "libero_object"
    rates: tuple[float, ...] = (0.1, 0.2)


def _write(folder):
    (folder / "weights").write_bytes(b"weights")


@pytest.fixture
def run(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        run.write_settings(_Settings())
        yield run


def test_settings_round_trip(run):
    assert run.read_settings() == {"suite": "libero_object", "rates": [0.1, 0.2]}


def test_create_refuses_a_folder_with_content(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"not empty.*--resume"):
        RunFolder.create(tmp_path)
    with pytest.raises(SettingsError, match="not empty"):
        RunFolder.create(tmp_path / "file")


def test_resume_needs_a_run(tmp_path):
    with pytest.raises(CheckpointError, match="no run to resume"):
        RunFolder.resume(tmp_path / "nothing")


def test_a_second_writer_is_refused_until_the_first_closes(run):
    with pytest.raises(SettingsError, match="another process is writing"):
        RunFolder.resume(run.path)
    run.close()
    RunFolder.resume(run.path).close()


def test_resume_removes_leftovers(run):
    run.close()
    (run.path / "checkpoints" / ".tmp-000010-abc").mkdir(parents=True)
    (run.path / ".tmp-status.json-abc").touch()
    RunFolder.resume(run.path).close()
    assert not list(run.path.rglob(".tmp-*"))


def test_status(run):
    run.write_status("training", 3, 10, "12 episodes/s")
    assert json.loads((run.path / "status.json").read_text()) == {
        "state": "training",
        "iteration": 3,
        "iterations": 10,
        "message": "12 episodes/s",
    }


def test_frame_is_a_picture(run):
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, 24:, 0] = 255
    run.write_frame(image[:, ::-1])
    picture = np.asarray(Image.open(run.path / "live" / "frame.jpg"))
    assert picture.shape == (32, 48, 3)
    assert picture[16, 4, 0] > 200
    assert picture[16, 44, 0] < 50


def test_json(run):
    assert run.read_json("summary.json") is None
    run.write_json("summary.json", {"gained": 3})
    assert run.read_json("summary.json") == {"gained": 3}
    (run.path / "summary.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        run.read_json("summary.json")


def test_checkpoints(run):
    for iteration in (5, 10, 20):
        path = run.save_checkpoint(iteration, _write)
    assert path == run.path / "checkpoints" / "000020"
    assert run.checkpoints() == [5, 10, 20]
    assert (run.path / "checkpoints" / "latest").read_text() == "000020\n"
    assert run.latest_checkpoint() == path


def test_a_damaged_checkpoint_is_skipped_and_named(run, caplog):
    run.save_checkpoint(5, _write)
    run.save_checkpoint(10, _write)
    (run.checkpoint(10) / "weights").write_bytes(b"weightz")
    with caplog.at_level(logging.WARNING):
        assert run.latest_checkpoint() == run.checkpoint(5)
    assert "000010: weights is damaged" in caplog.text


def test_no_checkpoint_is_an_error(run):
    with pytest.raises(CheckpointError, match="no intact checkpoint"):
        run.latest_checkpoint()


def test_a_failed_checkpoint_leaves_latest(run):
    run.save_checkpoint(5, _write)

    def fail(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="the disk is full"):
        run.save_checkpoint(10, fail)
    assert run.checkpoints() == [5]
    assert (run.path / "checkpoints" / "latest").read_text() == "000005\n"


def test_prune_keeps_the_last_and_the_best(run):
    for iteration in (1, 2, 3, 4, 5):
        run.save_checkpoint(iteration, _write)
    run.prune(keep_last=2, best=2)
    assert run.checkpoints() == [2, 4, 5]
    with pytest.raises(SettingsError, match="at least 1"):
        run.prune(keep_last=0)
