"""`tgrpo demos` from end to end."""

import json

import pytest

pytest.importorskip("libero")

from sim.demos import main
from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.record.demo_file import load

SMALL = ["--tasks", "2", "--size", "32", "--every", "50", "--workers", "1"]


@pytest.mark.slow
def test_demonstrations_are_made_once_counted_and_readable(tmp_path, capsys):
    command = ["--suite", "libero_object", *SMALL, "--out", str(tmp_path), "--noise.sigma", "0.1"]
    assert main([*command, "--init-states", "0-0"]) == 0
    assert "1/1" in capsys.readouterr().out
    written = (tmp_path / "libero_object_2.hdf5").stat().st_mtime_ns
    (demo,) = load(tmp_path / "libero_object_2.hdf5")
    assert demo.images["agentview"].shape[1:] == (32, 32, 3)
    assert demo.sigma == 0.1

    assert main([*command, "--init-states", "0-1"]) == 0
    index = json.loads((tmp_path / "libero_object.json").read_text())
    assert index["schema"] == "tgrpo/demo-index/1"
    assert index["provenance"]["schema"] == "tgrpo/provenance/1"
    (task,) = index["tasks"]
    assert (task["task"], task["successes"], task["n"], task["failures"]) == (2, 2, 2, [])
    assert (tmp_path / "libero_object_2.hdf5").stat().st_mtime_ns > written
    assert [demo.init_state for demo in load(tmp_path / "libero_object_2.hdf5", cameras=())] == [0, 1]

    with pytest.raises(SettingsError, match="other settings"):
        main([*command, "--noise.sigma", "0.2"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--suite", "libero_objects"], UnknownNameError, "libero_object"),
        (["--tasks", "10"], UnknownNameError, "task"),
        (["--init-states", "7"], SettingsError, "init_states"),
        (["--noise.sigma", "2"], SettingsError, "sigma"),
        (["--repeats", "0"], SettingsError, "repeats"),
        (["--cameras", "--every", "5"], SettingsError, "no cameras"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        main([*arguments, "--out", str(tmp_path / "none")])
    assert not list(tmp_path.rglob("*.hdf5"))
