"""`requirements/install.sh` on machines that lack something: one message that says what to type."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("sh", "dirname", "tr", "env", "mktemp", "grep", "sed", "rm")


@pytest.fixture
def machine(tmp_path):
    """A copy of the script on a machine with a few tools, this Python and an ordinary user without sudo."""
    folder, tools = tmp_path / "checkout" / "requirements", tmp_path / "bin"
    folder.mkdir(parents=True)
    tools.mkdir()
    shutil.copy(ROOT / "requirements" / "install.sh", folder)
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))

    def fake(name, script):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)

    def run(*words, **variables):
        command = [str(tools / "sh"), str(folder / "install.sh"), *words]
        environment = {"PATH": str(tools), **variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    fake("id", "echo 1000")
    fake("apt-get", "exit 100")
    fake("ldconfig", "echo libOSMesa.so.8 libGL.so.1 libgthread-2.0.so.0")
    run.fake = fake
    run.python = lambda: fake("python3", f'exec {sys.executable} "$@"')
    return run


def test_no_python(machine):
    done = machine("packages")
    assert done.returncode == 1
    assert "no Python 3.10 to 3.12 found" in done.stderr
    assert "sudo apt-get install" in done.stderr


def test_too_old_python(machine):
    machine.fake("python3", "exit 1")
    assert "no Python 3.10 to 3.12 found" in machine("packages").stderr
    assert "tried python3.9" in machine("packages", PYTHON="python3.9").stderr


def test_no_rendering_library_and_no_permission(machine):
    machine.python()
    machine.fake("ldconfig", "echo libGL.so.1 libgthread-2.0.so.0")
    done = machine("packages")
    assert done.returncode == 1
    assert "sudo apt-get install -y --no-install-recommends libosmesa6" in done.stderr
    assert "libgl1" not in done.stderr


def test_refusing_apt_is_named(machine):
    machine.python()
    machine.fake("id", "echo 0")
    machine.fake("ldconfig", "true")
    done = machine("packages")
    assert done.returncode == 1
    assert "apt-get could not install: libosmesa6 libgl1 libglib2.0-0" in done.stderr


def test_wrong_use(machine):
    assert "usage" in machine("everything").stderr
