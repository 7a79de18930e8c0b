"""Provenance: a real git repository in its three states, and a machine without one."""

import hashlib
import json
import subprocess
import sys

import pytest

from tgrpo.record import provenance


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    (root / "tgrpo").mkdir(parents=True)
    (root / "tgrpo" / "__init__.py").write_text("")
    (root / "requirements").mkdir()
    (root / "requirements" / "lock.txt").write_text("numpy==2.0\n")

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", "-C", root, *identity, *arguments], check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    return root


def test_clean_checkout(checkout):
    state = provenance.git_state(checkout)
    assert len(state["commit"]) == 40
    assert (state["dirty"], state["diff_sha256"], state["untracked"]) == (False, None, [])


def test_changes_are_hashed_and_saved(checkout, tmp_path):
    (checkout / "tgrpo" / "__init__.py").write_text("changed = True\n")
    (checkout / "new.py").write_text("")
    collected = provenance.collect({"run": 3}, checkout)
    assert collected["git"]["dirty"]
    assert collected["git"]["untracked"] == ["new.py"]
    provenance.save(tmp_path / "run", collected, checkout)
    diff = (tmp_path / "run" / "provenance.diff").read_text()
    assert "+changed = True" in diff
    assert hashlib.sha256(diff.encode()).hexdigest() == collected["git"]["diff_sha256"]
    assert json.loads((tmp_path / "run" / "provenance.json").read_text()) == collected


def test_no_checkout(tmp_path):
    assert provenance.git_state(tmp_path) is None


def test_installed_inside_a_foreign_repository(checkout):
    installed = checkout / ".venv" / "site-packages"
    (installed / "tgrpo").mkdir(parents=True)
    (installed / "tgrpo" / "__init__.py").write_text("")
    assert provenance.git_state(installed) is None


def test_everything_is_described(checkout):
    collected = provenance.collect({"run": 3}, checkout)
    assert collected["seeds"] == {"run": 3}
    assert collected["locks"] == {"lock.txt": hashlib.sha256(b"numpy==2.0\n").hexdigest()}
    assert collected["packages"]["numpy"]
    assert collected["cpu"]["cores"] >= 1
    assert collected["python"].startswith("3.")


def test_torch_is_not_imported():
    modules = "compare, eval_result, files, metrics, provenance, report, run_folder, stats, video"
    code = f"import sys; from tgrpo.record import {modules}; provenance.collect(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
