"""Killed recorders and damaged files: closed episodes stay whole, open ones are kept to the last flush (D1, D3, D6)."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tgrpo.record.episodes import INFO, messages, picture, write_episode, write_session
from tgrpo.errors import RecordingError
from tgrpo.record import files, mcap_file, recover, streams
from tgrpo.record.episode import JSON, MCAP, OPEN, load, write_header
from tgrpo.record.recover import EPISODES, close_open
from tgrpo.record.session import SessionFolder, SessionInfo
from tgrpo.record.streams import Action

ROOT = Path(__file__).resolve().parents[3]
SEED = 20
KILLS = 5


def start(session, steps=40):
    script = Path(__file__).with_name("recording_process.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(script), str(session), str(steps)], stdout=subprocess.PIPE, text=True, env=environment
    )


def read_lines(process, count):
    """The first ``count`` lines that the process prints."""
    return [line.split() for line in (process.stdout.readline() for _ in range(count)) if line]


def consistent(episode):
    """Every picture and action is the one of its step."""
    for step, (_, image) in enumerate(episode.frames("agentview")):
        np.testing.assert_array_equal(image, picture(step))
    assert [action.step for action in episode.of(Action)] == list(range(len(episode.of(Action))))


def read_torn(path):
    """All messages before the damage, and what was said about it; None if the file is whole."""
    source, got = mcap_file.read(path), []
    while True:
        try:
            got.append(next(source))
        except StopIteration:
            return got, None
        except RecordingError as error:
            return got, str(error)


@pytest.mark.slow
def test_kill_the_recorder_again_and_again(tmp_path):
    """D1: nothing that was flushed is lost, and the next start closes what was open by itself."""
    rng = random.Random(SEED)
    session = tmp_path / "session"
    closed, flushed, last = set(), {}, None
    for _ in range(KILLS):
        process = start(session)
        words = read_lines(process, rng.randrange(4, 40))
        process.send_signal(signal.SIGKILL)
        words += [line.split() for line in process.stdout.read().splitlines()]
        process.wait()
        for what, number in words:
            if what == "begun":
                last = int(number)
            elif what == "flushed":
                flushed[last] = max(flushed.get(last, 0), int(number))
            else:
                closed.add(int(number))
    with SessionFolder.resume(session) as resumed:
        episodes = [load(folder) for folder in resumed.episodes()]
    assert recover.problems(session) == []
    assert [episode.number for episode in episodes] == list(range(len(episodes)))
    assert len(episodes) >= last + 1
    for episode in episodes:
        consistent(episode)
        count = sum(episode.result.messages.values())
        assert count >= flushed.get(episode.number, 0)
        if episode.number in closed:
            assert (episode.result.outcome, count) == ("success", 81)
    interrupted = [episode.result for episode in episodes if episode.result.outcome == "interrupted"]
    assert 1 <= len(interrupted) <= KILLS
    assert all(result.reason == "the recorder was killed" for result in interrupted)


@pytest.mark.slow
def test_sigterm_closes_at_once(tmp_path):
    """D6: nothing is left to finish, so the process ends by itself and no recovery is needed."""
    process = start(tmp_path / "session", steps=1_000_000)
    read_lines(process, 6)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert recover.problems(tmp_path / "session") == []
    (folder,) = (tmp_path / "session" / EPISODES).iterdir()
    result = load(folder).result
    assert (result.outcome, result.reason) == ("interrupted", "SystemExit: 0")


@pytest.fixture
def session(tmp_path):
    return write_session(tmp_path / "session", [])


def reopen(session, number=0, labelled=False, **shape):
    """An episode as a killed recorder leaves it: no manifest, and no result unless ``labelled``."""
    place = write_episode(session, number, INFO, "success", **shape)
    result = load(place).result
    (place / files.MANIFEST).unlink()
    write_header(place, number, INFO, result if labelled else None)
    folder = place.with_name(place.name + OPEN)
    place.rename(folder)
    return folder, place


def test_killed_between_the_label_and_the_seal(session):
    folder, place = reopen(session, labelled=True)
    assert close_open(folder, place).outcome == "success"
    assert load(place).result.incomplete == ""
    assert not folder.exists()


def test_killed_while_the_recovery_ran(session):
    folder, place = reopen(session)
    shutil.copytree(folder, folder.with_name("again"))
    close_open(folder, place)
    seal = files.seal_of(place)
    folder.with_name("again").rename(folder)
    assert close_open(folder, place).outcome == "interrupted"
    assert files.seal_of(place) == seal


def test_killed_in_the_middle_of_a_line_of_the_journal(session):
    recover.append_index(session, "begun", 0)
    with (session / recover.INDEX).open("a") as stream:
        stream.write('{"episode":1,"ev')
    recover.append_index(session, "begun", 2)
    assert recover.begun(session) == [0, 2]


def test_killed_before_the_first_byte(session):
    folder, place = reopen(session)
    (folder / MCAP).unlink()
    result = close_open(folder, place)
    assert (result.outcome, result.messages) == ("interrupted", {})
    assert "no such file" in result.incomplete
    assert load(place).raw == ()


def test_truncated_anywhere(session):
    """D3: what is recovered is always the beginning of what was written."""
    folder, _ = reopen(session, steps=12)
    whole = list(mcap_file.read(folder / MCAP))
    writer = mcap_file.McapWriter(session / "flushed.mcap")
    sizes = []
    for index, raw in enumerate(whole):
        writer.write(raw)
        if index % 5 == 4:
            writer.flush()
            sizes.append((writer._sink.tell(), index + 1))
    writer.finish()
    data = (session / "flushed.mcap").read_bytes()
    torn = session / "torn.mcap"
    for length in range(0, len(data), 37):
        torn.write_bytes(data[:length])
        got, error = read_torn(torn)
        assert "ends early or is damaged" in error
        assert got == whole[: len(got)]
        assert len(got) >= max((count for size, count in sizes if size <= length), default=0)


def test_one_flipped_bit_is_never_a_wrong_message(session):
    """D3: an open recording is read up to the damage, or is whole where the bit did not matter."""
    folder, _ = reopen(session, steps=8)
    data = (folder / MCAP).read_bytes()
    whole = list(mcap_file.read(folder / MCAP))
    rng = random.Random(SEED)
    damaged = session / "damaged.mcap"
    refused = 0
    for _ in range(400):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        damaged.write_bytes(changed)
        got, error = read_torn(damaged)
        refused += error is not None
        assert got == (whole if error is None else whole[: len(got)])
    assert refused > 100


def test_a_chunk_that_is_cut_out_is_noticed(session):
    writer = mcap_file.McapWriter(session / "whole.mcap")
    marks = []
    for raw in map(to_raw, messages(steps=6)):
        writer.write(raw)
        writer.flush()
        marks.append(writer._sink.tell())
    writer.finish()
    data = (session / "whole.mcap").read_bytes()
    (session / "cut.mcap").write_bytes(data[: marks[9]] + data[marks[10] :])
    got, error = read_torn(session / "cut.mcap")
    assert "message 10 is missing" in error
    assert len(got) == 10


def to_raw(message):
    return mcap_file.Raw(streams.topic_of(message), message.at.steady, streams.encode(message))


@pytest.mark.parametrize("name", [MCAP, JSON, files.MANIFEST])
def test_a_closed_episode_with_a_flipped_bit_is_refused(session, name):
    place = write_episode(session, 0, INFO, "success", steps=4)
    file = place / name
    data = file.read_bytes()
    rng = random.Random(SEED)
    for _ in range(40):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        try:
            episode = load(place)
        except RecordingError:
            continue
        # A blank between two JSON values of the manifest may change without a meaning.
        assert name == files.MANIFEST
        consistent(episode)


def test_the_command_recovers_and_checks(session, capsys):
    reopen(session, 0)
    write_episode(session, 1, INFO, "failure")
    assert recover.main([str(session), "--check"]) == 1
    assert "episode 000000 is still open" in capsys.readouterr().out
    assert recover.main([str(session)]) == 0
    out = capsys.readouterr().out
    assert "episode 0: interrupted, " in out
    assert "2 episodes begun, all closed and intact." in out
    (session / EPISODES / "000001" / MCAP).write_bytes(b"")
    assert recover.main([str(session)]) == 1
    assert "checksum differs" in capsys.readouterr().out


def test_a_session_in_use_is_not_recovered(tmp_path):
    session = SessionFolder.create(tmp_path / "session", SessionInfo())
    with session, pytest.raises(ValueError, match="a program is recording into it"):
        recover.main([str(session.path)])
    with pytest.raises(ValueError, match="is not a session"):
        recover.main([str(tmp_path)])
