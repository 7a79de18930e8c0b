"""The recorder: everything arrives, nothing makes the caller wait, and a short disk ends it cleanly (D2, D4, D5)."""

import base64
import json
import logging
import shutil
import subprocess
import threading
from collections import namedtuple

import jsonschema
import numpy as np
import pytest
from mcap.reader import make_reader

from tests.tgrpo.record.episodes import INFO, picture
from tgrpo.errors import RecordingError, SettingsError
from tgrpo.record import pictures, recover
from tgrpo.record import recorder as recorder_module
from tgrpo.record.episode import MCAP, EpisodeInfo, load
from tgrpo.record.recorder import RecorderSettings
from tgrpo.record.session import SessionFolder, SessionInfo
from tgrpo.record.streams import Action, Event, Label, PolicyReply, now, vector

SMALL = RecorderSettings(reserve_mb=0, encoding="png")


@pytest.fixture
def session(tmp_path):
    with SessionFolder.create(tmp_path / "session", SessionInfo(), SMALL) as session:
        yield session


def step(number, **fields):
    return Action(at=now(), step=number, source="policy", executed=[0.1 * number], **fields)


def test_everything_arrives_unchanged(session):
    with session.begin(INFO) as recorder:
        for number in range(30):
            assert recorder.frame("agentview", picture(number))
            assert recorder.put(step(number, policy=[1.0], intervention=number > 20))
        recorder.event("takeover", "operator", "the bowl was slipping")
        result = recorder.close("failure", reason="dropped", notes="twice")
    episode = load(session.episodes()[0])
    assert episode.info == INFO
    assert episode.result == result
    assert result.messages == {"/camera/agentview": 30, "/action": 30, "/event": 1, "/label": 1}
    assert [one.step for one in episode.of(Action)] == list(range(30))
    assert sum(one.intervention for one in episode.of(Action)) == 9
    assert episode.of(Event)[0].text == "the bowl was slipping"
    assert episode.of(Label)[0].reason == "dropped"
    for number, (_, image) in enumerate(episode.frames("agentview")):
        np.testing.assert_array_equal(image, picture(number))


def test_what_is_not_finite_is_on_record(session):
    with session.begin(INFO) as recorder:
        recorder.put(
            PolicyReply(at=now(), request=0, policy="a", version="1", latency=0.1, actions=[[float("nan"), 0.5]])
        )
        recorder.close("failure", reason="policy answered NaN")
    reply = load(session.episodes()[0]).of(PolicyReply)[0]
    np.testing.assert_array_equal(vector(reply.actions[0]), [np.nan, 0.5])


def test_other_tools_read_the_file(session):
    """With mcap's own reader: an index, one schema for each topic, and Foxglove's own one for pictures."""
    with session.begin(INFO) as recorder:
        recorder.frame("agentview", picture(0))
        recorder.put(step(0))
        recorder.close("success")
    with (session.episodes()[0] / MCAP).open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        found = {channel.topic: (schema, json.loads(one.data)) for schema, channel, one in reader.iter_messages()}
    assert summary.statistics.message_count == 3
    schema, frame = found["/camera/agentview"]
    assert (schema.name, schema.encoding) == ("foxglove.CompressedImage", "jsonschema")
    assert frame["timestamp"].keys() == {"sec", "nsec"}
    assert frame["format"] == "png"
    np.testing.assert_array_equal(pictures.decode(base64.b64decode(frame["data"])), picture(0))
    for schema, message in found.values():
        jsonschema.validate(message, json.loads(schema.data))


def test_the_caller_may_reuse_its_picture(session):
    image = picture(0)
    with session.begin(INFO) as recorder:
        recorder.frame("agentview", image)
        image[:] = 0
        recorder.close("success")
    _, stored = next(load(session.episodes()[0]).frames("agentview"))
    np.testing.assert_array_equal(stored, picture(0))


def test_a_picture_of_the_wrong_kind_is_refused(session):
    with session.begin(INFO) as recorder:
        with pytest.raises(SettingsError, match=r"shape \(4, 4\).*expected uint8"):
            recorder.frame("agentview", np.zeros((4, 4), np.uint8))
        recorder.close("aborted")


def test_one_episode_at_a_time_and_one_process(session):
    recorder = session.begin(INFO)
    with pytest.raises(SettingsError, match="episode 0 is still open"):
        session.begin(INFO)
    with pytest.raises(SettingsError, match="another process"):
        SessionFolder.resume(session.path)
    recorder.close("success")
    with pytest.raises(SettingsError, match="closed already"):
        recorder.close("success")
    assert session.begin(INFO).number == 1


def test_an_episode_that_could_not_be_begun_does_not_block_the_next(session, monkeypatch):
    def fail(*_):
        raise RecordingError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("tgrpo.record.session.append_index", fail)
        with pytest.raises(RecordingError, match="disk is full"):
            session.begin(INFO)
    with session.begin(INFO) as recorder:
        assert recorder.number == 1
        recorder.close("success")
    assert recover.problems(session.path) == ["episode 000000 is still open"]


def test_leaving_the_block_marks_the_episode_interrupted(session):
    with pytest.raises(ZeroDivisionError), session.begin(INFO):
        1 / 0  # noqa: B018  (a driver that fails)
    result = load(session.episodes()[0]).result
    assert result.outcome == "interrupted"
    assert "ZeroDivisionError" in result.reason


def test_what_comes_during_the_last_flush_is_written(session, monkeypatch):
    """The episode is closed while the thread waits for the disk."""
    flushing, gate = threading.Event(), threading.Event()
    flush = recorder_module.McapWriter.flush

    def slow(self):
        flushing.set()
        gate.wait()
        flush(self)

    monkeypatch.setattr(recorder_module.McapWriter, "flush", slow)
    recorder = session.begin(INFO)
    flushing.wait()
    threading.Timer(0.05, gate.set).start()
    recorder.put(step(0))
    result = recorder.close("success")
    assert result.messages == {"/action": 1, "/label": 1}
    assert result.dropped == {}


def test_a_slow_recorder_drops_and_counts_and_never_blocks(session, monkeypatch):
    """D4: the disk stands still; the caller still returns and events of other streams find room."""
    gate = threading.Event()
    write = recorder_module.McapWriter.write

    def slow(self, raw):
        gate.wait()
        write(self, raw)

    monkeypatch.setattr(recorder_module.McapWriter, "write", slow)
    session._settings = RecorderSettings(reserve_mb=0, queue=8, queue_frames=4)
    with session.begin(INFO) as recorder:
        kept = [recorder.frame("agentview", picture(number)) for number in range(40)]
        assert [recorder.put(step(number)) for number in range(8)] == [True] * 8
        assert not recorder.put(step(8))
        assert recorder.event("hold", "stale_frame")
        gate.set()
        result = recorder.close("success")
    # The thread may have taken one picture before it stood still.
    assert sum(kept) in (4, 5)
    assert result.dropped == {"/camera/agentview": 40 - sum(kept), "/action": 1}
    assert result.messages == {"/camera/agentview": sum(kept), "/action": 8, "/event": 1, "/label": 1}
    assert load(session.episodes()[0]).result == result


def test_the_reserve_ends_the_recording_and_the_episode_goes_on(session, monkeypatch, caplog):
    """D2: what was recorded before is whole, the operator is told, and the label is kept."""
    usage = namedtuple("usage", "total used free")
    free = [2_000_000_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, free[0]))
    session._settings = RecorderSettings(reserve_mb=512, flush_seconds=0.01)
    with caplog.at_level(logging.ERROR), session.begin(INFO) as recorder:
        recorder.put(step(0))
        recorder.event("note")
        while recorder._waiting["/event"]:
            threading.Event().wait(0.01)
        free[0] = 500_000_000
        while not recorder.problem:
            threading.Event().wait(0.01)
        assert not recorder.put(step(1))
        result = recorder.close("success")
    assert "500 MB are free" in result.incomplete
    assert "512 MB are kept in reserve" in caplog.text
    assert result.outcome == "success"
    assert result.dropped == {"/action": 1, "/label": 1}
    assert load(session.episodes()[0]).result == result
    with pytest.raises(RecordingError, match="are needed and 500 MB are free"):
        session.begin(INFO)


def test_a_disk_that_is_really_full(tmp_path):
    """D2 without patches: a file system of 1 MB fills up; once there is space, the label and the messages are there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no permission to mount a small file system")
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    try:
        session = SessionFolder.create(disk / "session", SessionInfo(), SMALL)
        recorder = session.begin(INFO)
        while not recorder.problem:
            recorder.frame("agentview", noise)
            threading.Event().wait(0.001)
        assert "No space left" in recorder.problem
        with pytest.raises(RecordingError, match=r"disk is full.*tgrpo recover"):
            recorder.close("success")
        with pytest.raises(RecordingError, match="could not be closed"):
            session.close()
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        with SessionFolder.resume(disk / "session", SMALL) as session:
            assert [number for number, _ in session.recovered] == [0]
            episode = load(session.episodes()[0])
        assert episode.result.outcome == "interrupted"
        assert episode.result.messages["/camera/agentview"] >= 10
        assert all(np.array_equal(image, noise) for _, image in episode.frames("agentview"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_as_many_episodes_in_the_files_as_were_begun(session):
    """D5: counted from the files; one that is missing is noticed."""
    for number in range(6):
        with session.begin(EpisodeInfo(policy="a", pair=number)) as recorder:
            recorder.put(step(0))
            recorder.close("success" if number % 2 else "failure")
    assert [load(folder).number for folder in session.episodes()] == list(range(6))
    assert recover.problems(session.path) == []
    shutil.rmtree(session.episodes()[5])
    shutil.rmtree(session.episodes()[2])
    found = recover.problems(session.path)
    assert found == ["episode 000002 was begun and is not there", "episode 000005 was begun and is not there"]
    assert session.next_number() == 6
