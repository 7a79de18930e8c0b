"""Benchmarks run by hand and rarely: that what they import is still there is tested."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"franka_server"}
"""Runs in an environment of its own."""
BODY = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"


@pytest.mark.slow
def test_everything_that_benchmarks_import_is_there():
    names = [path.stem for path in sorted((ROOT / "benchmarks").glob("*.py")) if path.stem not in ELSEWHERE]
    assert {"methods", "serving", "throughput"} <= set(names)
    # In a process of its own: some set variables of the environment.
    command = [sys.executable, "-c", BODY, *(f"benchmarks.{name}" for name in names)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
