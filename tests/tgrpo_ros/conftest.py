import subprocess
import sys
import time
from pathlib import Path

import pytest

FAKE = Path(__file__).parent / "fake_tgrpo.py"


@pytest.fixture
def fake_tgrpo(tmp_path, monkeypatch):
    """An executable that stands in for `tgrpo`, named by the environment as a user would."""
    path = tmp_path / "bin" / "tgrpo"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("TGRPO_COMMAND", str(path))
    return path


@pytest.fixture
def start(fake_tgrpo):
    """Starts a trainer node as a process of its own; whatever is left is killed at the end."""
    started = []

    def begin(*parameters):
        words = [word for parameter in parameters for word in ("-p", parameter)]
        command = [sys.executable, "-m", "tgrpo_ros.trainer_node", "--ros-args", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition, seconds=30.0):
    """Polls until a condition holds; a hang is a failure, slowness is not."""
    limit = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)
    return result


@pytest.fixture
def wait():
    return wait_for
