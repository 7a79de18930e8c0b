"""Atomic files and sealed folders: nothing half written, no damaged byte unnoticed."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tgrpo.errors import CheckpointError
from tgrpo.record import files


def _weights(value):
    def write(folder):
        save_file({"w": np.full(1000, value, np.float32)}, folder / "weights.safetensors")
        (folder / "nested").mkdir()
        (folder / "nested" / "settings.json").write_text(json.dumps({"value": value}))

    return write


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def small_disk():
    """No file of this process may grow beyond 10 kB while this lasts; pytest's own output may be a file, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "new" / "status.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert _names(path.parent) == ["status.json"]


def test_write_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"a": float("nan")})


def test_full_disk_keeps_the_previous_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "before")
    message = r"a\.txt: the disk is full.*previous state is untouched.*resume"
    with small_disk(), pytest.raises(CheckpointError, match=message):
        files.write_text(path, "x" * 20_000)
    assert path.read_text() == "before"
    assert _names(tmp_path) == ["a.txt"]


def test_full_disk_keeps_the_previous_folder(tmp_path):
    path = tmp_path / "000001"
    files.write_folder(path, _weights(1.0))
    with small_disk(), pytest.raises(CheckpointError, match="the disk is full"):
        files.write_folder(path, lambda folder: (folder / "big").write_bytes(b"x" * 20_000))
    files.verify_folder(path)
    assert _names(tmp_path) == ["000001"]


def test_full_device_is_recognised(tmp_path):
    with pytest.raises(CheckpointError, match="the disk is full"):
        files.write_folder(tmp_path / "a", lambda folder: Path("/dev/full").write_bytes(b"x"))


def test_full_disk_inside_safetensors_is_recognised(tmp_path):
    weights = {"w": np.zeros(10_000, np.float32)}
    with small_disk(), pytest.raises(CheckpointError, match="the disk is full"):
        files.write_folder(tmp_path / "a", lambda folder: save_file(weights, folder / "weights.safetensors"))
    assert _names(tmp_path) == []


def test_other_errors_pass_and_leave_nothing_behind(tmp_path):
    def write(folder):
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_folder(tmp_path / "a", write)
    assert _names(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_every_failing_system_call_keeps_the_previous_folder(tmp_path, monkeypatch, call):
    path = tmp_path / "000001"
    files.write_folder(path, _weights(1.0))
    real = Path.rename if call == "rename" else getattr(os, call)
    for fail_at in range(100):
        calls = iter(range(1000))

        def failing(*args, calls=calls, fail_at=fail_at, **keywords):
            if next(calls) == fail_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(Path if call == "rename" else os, call, failing)
            try:
                files.write_folder(path, _weights(2.0))
            except CheckpointError:
                completed = False
            else:
                completed = True
        files.verify_folder(path)
        assert _names(tmp_path) == ["000001"]
        if completed:
            break
    assert fail_at > 0
    assert load_file(path / "weights.safetensors")["w"][0] == 2.0


def test_verify_lists_the_files(tmp_path):
    files.write_folder(tmp_path / "a", _weights(1.0))
    assert files.verify_folder(tmp_path / "a") == ["nested/settings.json", "weights.safetensors"]


def test_verify_names_the_file_and_the_intact_neighbour(tmp_path):
    for name in ("000010", "000020", "000030"):
        files.write_folder(tmp_path / name, _weights(1.0))
    (tmp_path / "000020" / "weights.safetensors").unlink()
    with (tmp_path / "000030" / "weights.safetensors").open("r+b") as stream:
        stream.seek(2000)
        stream.write(b"!")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged.*intact one beside it is .*000010"):
        files.verify_folder(tmp_path / "000030")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is missing"):
        files.verify_folder(tmp_path / "000020")


def test_verify_says_when_nothing_is_left(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such folder\. No intact one"):
        files.verify_folder(tmp_path / "000001")
    (tmp_path / "000002").mkdir()
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing, so the folder is incomplete"):
        files.verify_folder(tmp_path / "000002")


def test_no_damage_goes_unnoticed(tmp_path):
    path = tmp_path / "a"
    files.write_folder(path, _weights(1.0))
    rng = random.Random(0)
    targets = [file for file in path.rglob("*") if file.is_file()]
    for _ in range(300):
        file = rng.choice(targets)
        good = file.read_bytes()
        position = rng.randrange(len(good))
        kind = rng.choice(["flip", "cut", "zeros"])
        if kind == "flip":
            bad = good[:position] + bytes([good[position] ^ 1 << rng.randrange(8)]) + good[position + 1 :]
        elif kind == "cut":
            bad = good[:position]
        else:
            bad = good[:position] + b"\0" * 8 + good[position + 8 :]
        if bad == good or (file.name == files.MANIFEST and _same_json(bad, good)):
            continue
        file.write_bytes(bad)
        with pytest.raises(CheckpointError):
            files.verify_folder(path)
        file.write_bytes(good)
    files.verify_folder(path)


def _same_json(first, second):
    """White space of the manifest may change without changing its meaning."""
    try:
        return json.loads(first) == json.loads(second)
    except ValueError:
        return False


_WRITER = """
import sys
from pathlib import Path
from tgrpo.record import files
root = Path(sys.argv[1])
for step in range(10_000):
    def write(folder):
        (folder / "a").write_bytes(bytes([step % 256]) * 100_000)
        (folder / "b").write_bytes(bytes([step % 256]) * 100_000)
    files.write_folder(root / f"{step % 3}", write)
    print(step, flush=True)
"""


@pytest.mark.slow
def test_killed_writers_leave_no_torn_folder(tmp_path):
    rng = random.Random(1)
    for trial in range(15):
        root = tmp_path / str(trial)
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(root)], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": "."}
        )
        for _ in range(rng.randrange(1, 6)):
            process.stdout.readline()
        time.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for folder in root.glob("[0-9]"):
            files.verify_folder(folder)
            assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
        assert list(root.glob("[0-9]"))
        files.remove_leftovers(root)
        assert not list(root.glob(".tmp-*"))


def test_newest_intact_ignores_hidden_leftovers(tmp_path):
    files.write_folder(tmp_path / "000001", _weights(1.0))
    files.write_folder(tmp_path / ".tmp-x", _weights(1.0))
    assert files.newest_intact(tmp_path) == tmp_path / "000001"
    assert files.newest_intact(tmp_path / "missing") is None


def test_require_space(tmp_path):
    files.require_space(tmp_path / "not" / "yet" / "there", 1)
    with pytest.raises(CheckpointError, match=r"1000000000000 MB are needed and .* MB are free"):
        files.require_space(tmp_path, 10**18)
