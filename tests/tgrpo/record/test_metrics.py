"""The metrics file survives kills and resumes; TensorBoard reads the same numbers."""

import resource

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tgrpo.errors import CheckpointError
from tgrpo.record.metrics import FILE, MetricsWriter, flatten, read_metrics


def _write(folder, iterations, **keywords):
    with MetricsWriter(folder, **keywords) as metrics:
        for iteration in iterations:
            metrics.write(
                {"iteration": iteration, "loss": iteration / 2, "terms": {"reach": 0.1}, "stages": [1.0, 0.5]}
            )


def test_rows_round_trip(tmp_path):
    _write(tmp_path, [1, 2])
    assert read_metrics(tmp_path)[1] == {"iteration": 2, "loss": 1.0, "terms": {"reach": 0.1}, "stages": [1.0, 0.5]}
    assert read_metrics(tmp_path / FILE) == read_metrics(tmp_path)


def test_a_missing_file_has_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


def test_a_row_is_on_disk_before_the_next(tmp_path):
    metrics = MetricsWriter(tmp_path)
    metrics.write({"iteration": 1})
    assert read_metrics(tmp_path) == [{"iteration": 1}]
    metrics.close()


def test_numbers_that_are_not_finite_become_null(tmp_path):
    with MetricsWriter(tmp_path) as metrics:
        metrics.write({"iteration": np.int64(1), "kl": float("nan"), "ratio": np.float32(np.inf), "x": np.ones(2)})
    assert read_metrics(tmp_path) == [{"iteration": 1, "kl": None, "ratio": None, "x": [1.0, 1.0]}]


def test_resume_drops_later_rows_and_the_torn_one(tmp_path):
    _write(tmp_path, [1, 2, 3])
    before = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    with (tmp_path / FILE).open("ab") as stream:
        stream.write(b'{"iteration": 4, "lo')
    assert len(read_metrics(tmp_path)) == 3
    _write(tmp_path, [3, 4], resume_after=2)
    assert [row["iteration"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4]
    assert (tmp_path / FILE).read_bytes().splitlines(keepends=True)[:2] == before[:2]


def test_tensorboard_reads_the_curves_and_forgets_what_was_resumed_over(tmp_path):
    _write(tmp_path, [1, 2, 3])
    with MetricsWriter(tmp_path, resume_after=1) as metrics:
        metrics.write({"iteration": 2, "loss": 9.0})
    curves = EventAccumulator(str(tmp_path)).Reload()
    assert set(curves.Tags()["scalars"]) >= {"loss", "terms/reach", "stages/1"}
    assert [(event.step, event.value) for event in curves.Scalars("loss")] == [(1, 0.5), (2, 9.0)]


def test_full_disk_names_the_file_and_keeps_whole_rows(tmp_path):
    metrics = MetricsWriter(tmp_path)
    metrics.write({"iteration": 1, "loss": 0.5})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl: the disk is full"):
            metrics.write({"iteration": 2, "text": "x" * 400})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    metrics.write({"iteration": 3})
    metrics.close()
    assert read_metrics(tmp_path) == [{"iteration": 1, "loss": 0.5}, {"iteration": 3}]


def test_flatten_names_nested_numbers():
    assert flatten({"a": 1, "b": {"c": 2.0}, "d": [3, 4], "e": "text", "f": None}) == {
        "a": 1.0,
        "b/c": 2.0,
        "d/0": 3.0,
        "d/1": 4.0,
    }
