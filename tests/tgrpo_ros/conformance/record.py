"""Runs launch files and writes down what each process was given; the golden file comes from ROS 2's own launch.

Usage, where `launch` and `launch_ros` are installed: `python tests/tgrpo_ros/conformance/record.py`.
The test runs the same cases with the stand-in and compares.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
GOLDEN = HERE / "golden.json"
SYSTEM, TRAIN = str(HERE / "system.launch.py"), str(ROOT / "launch" / "sim_train.launch.py")
CASES = {
    "system": [SYSTEM],
    "system fancy": [SYSTEM, "mode:=fancy", "number:=2"],
    "system failing node": [SYSTEM, "exit:=3"],
    "system wrong choice": [SYSTEM, "mode:=odd"],
    "train": [TRAIN],
    "train numbers": [TRAIN, "task:=3", "seed:=5", "namespace:=lab/a", "resume:=true", "run_dir:=x y"],
    "train names": [TRAIN, "task:=pick_up_the_milk", "suite:=libero_object", "log_level:=debug", "image_rate:=1"],
    "train unknown argument": [TRAIN, "taks:=3"],
    "train wrong choice": [TRAIN, "preset:=quick"],
    "train wrong type": [TRAIN, "iterations:=many"],
}
REAL = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService(argv=sys.argv[2:], noninteractive=True)
arguments = [tuple(word.split(":=", 1)) for word in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)]))
sys.exit(service.run())
"""


def make_prefix(folder: Path) -> Path:
    """A package `tgrpo_ros` whose executables only write down how they were started."""
    for name in ("share/ament_index/resource_index/packages", "share/tgrpo_ros", "lib/tgrpo_ros"):
        (folder / name).mkdir(parents=True)
    (folder / "share/ament_index/resource_index/packages/tgrpo_ros").touch()
    for name in ("probe", "tgrpo_trainer_node"):
        path = folder / "lib" / "tgrpo_ros" / name
        path.write_text(f"#!{sys.executable}\n" + (HERE / "probe.py").read_text())
        path.chmod(0o755)
    return folder


def observe(launcher: list[str], words: list[str]) -> dict[str, object]:
    """Runs one case and returns the exit code and what every process was given."""
    with tempfile.TemporaryDirectory() as name:
        prefix, out = make_prefix(Path(name) / "prefix"), Path(name) / "out"
        out.mkdir()
        places = {"AMENT_PREFIX_PATH": prefix, "CONFORMANCE_OUT": out, "CONFORMANCE_HERE": HERE}
        environment = {**os.environ, **{variable: str(place) for variable, place in places.items()}}
        for variable in ("RCUTILS_LOGGING_BUFFERED_STREAM", "PYTHONUNBUFFERED"):
            environment.pop(variable, None)
        done = subprocess.run([*launcher, *words], env=environment, cwd=ROOT, capture_output=True, timeout=120)
        processes = {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}
    for process in processes.values():
        for variable in ("CONFORMANCE_OUT", "CONFORMANCE_HERE"):
            process["environment"].pop(variable)
    return {"exit_code": done.returncode, "processes": processes}


if __name__ == "__main__":
    golden = {name: observe([sys.executable, "-c", REAL], words) for name, words in CASES.items()}
    GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
