import json
import sys

import pytest

from tgrpo import doctor


def test_this_machine_passes(capsys):
    code = doctor.main(["--json"])
    report = json.loads(capsys.readouterr().out)
    status = {check["name"]: check["status"] for check in report["checks"]}
    assert report["schema"] == "tgrpo/doctor/1"
    assert status["Python"] == status["packages: core"] == status["ZeroMQ"] == status["package sim"] == "ok"
    assert code == ("failed" in status.values())


def test_missing_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(doctor.PACKAGES, "train", ("numpy", "no-such-package"))
    check = doctor.packages("train")
    assert (check.status, check.detail) == ("warning", "no-such-package is missing")
    assert "pip install '.[train]'" in check.remedy


def test_wrong_pin_is_told(monkeypatch):
    monkeypatch.setitem(doctor.PINNED, "mujoco", "1.0")
    assert "instead of 1.0" in doctor.packages("sim").detail


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", None),
        ("raise ValueError('why')", "ValueError: why"),
        ("import os; os.abort()", "ended with exit code -6"),
    ],
)
def test_a_dying_interpreter_is_a_message(code, expected):
    assert doctor.in_python(code) == expected


def test_a_hanging_interpreter_is_a_message():
    assert doctor.in_python("import time; time.sleep(60)", timeout=0.5) == "no answer after 0 s"


def test_broken_rendering_fails_with_a_remedy(monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr(doctor, "RENDER", "raise ImportError('no libOSMesa')")
    check = doctor.rendering()
    assert check.status == "failed"
    assert "apt-get install" in check.remedy


def test_full_disk_fails(monkeypatch):
    monkeypatch.setattr(doctor, "RUN_SPACE", 1e18)
    assert doctor.disk().status == "failed"


def test_foreign_sim_fails(monkeypatch, tmp_path):
    (tmp_path / "sim.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sim", raising=False)
    assert str(tmp_path / "sim.py") in doctor.own_sim().detail


def test_sourced_ros_over_wheels_is_a_warning(monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setattr(doctor, "_has", lambda name: True)
    assert doctor.ros().status == "warning"


def test_a_failed_check_is_the_exit_code(monkeypatch, capsys):
    bad = doctor.Check("disk", "failed", "0 GB [free]", "free some")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: bad,))
    assert doctor.main([]) == 1
    output = capsys.readouterr().out
    assert "0 GB [free]" in output
    assert "do: free some" in output


def test_wrong_use_is_refused():
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--jsn"])
    assert stop.value.code == 2


def test_a_robot_is_checked_too(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", ())
    code = doctor.main(["--json", "--robot", "fr3"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert code == 1
    assert checks["robot configuration"]["status"] == "failed"
    assert "--workspace" in checks["robot configuration"]["remedy"]
    assert {"wall clock", "wake-ups", "real time", "ROS discovery", "key files"} <= set(checks)
