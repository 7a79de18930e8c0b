"""``tgrpo doctor --robot fr3``: what must be right before an arm moves. Nothing here moves anything.

`tgrpo doctor` finds this through the entry point group ``tgrpo.robot_checks``, as the core knows no robots.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tgrpo import keys
from tgrpo.doctor import Check, in_python
from tgrpo.errors import TgrpoError
from tgrpo_ros.robot_config import CameraConfig, RobotConfig, load

FCI_PORT = 1337
"""libfranka's own; it cannot be changed."""
REACH = 2.0
"""How long a control unit may take to answer [s]."""
LATE = 0.005
"""A wake-up this late costs a tick of the safety layer [s]."""
REALTIME = Path("/sys/kernel/realtime")
SERIALS = "import pyrealsense2 as rs; print(*(d.get_info(rs.camera_info.serial_number) for d in rs.context().devices))"
DISCOVERY = """
import time, rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
ends = []
for name in ("one", "other"):
    context = Context(); rclpy.init(context=context)
    ends.append((context, rclpy.create_node("tgrpo_doctor_" + name, context=context)))
heard = []
ends[1][1].create_subscription(String, "/tgrpo_doctor", heard.append, 1)
executor = SingleThreadedExecutor(context=ends[1][0]); executor.add_node(ends[1][1])
publisher, until = ends[0][1].create_publisher(String, "/tgrpo_doctor", 1), time.monotonic() + 10
while not heard and time.monotonic() < until:
    publisher.publish(String(data="hello")); executor.spin_once(timeout_sec=0.1)
executor.shutdown()
for context, node in ends:
    node.destroy_node(); context.try_shutdown()
if not heard:
    raise SystemExit("two nodes on this machine do not hear each other")
"""


def checks(robot: str, workspace: str | None = None, key_folder: str = "keys") -> list[Callable[[], Check]]:
    """The checks of one robot.

    Args:
        robot: Name or path of its configuration.
        workspace: File with its box, if the configuration has none.
        key_folder: Where `tgrpo keys` wrote to.
    """
    try:
        config = load(robot, None if workspace is None else Path(workspace))
    except TgrpoError as error:
        remedy = "see the message; name the file of the box with --workspace"
        failed = Check("robot configuration", "failed", str(error), remedy)
        return [lambda: failed, clock, wake_up, kernel, discovery, partial(key_files, Path(key_folder))]
    franka: list[Callable[[], Check]] = [partial(fci, config.arm.host), franky]
    return [
        partial(configuration, robot, config),
        *(franka if config.arm.driver == "franky" else []),
        *(partial(camera, one) for one in config.cameras),
        clock,
        wake_up,
        kernel,
        discovery,
        partial(key_files, Path(key_folder)),
    ]


def configuration(robot: str, config: RobotConfig) -> Check:
    """The limits that would apply."""
    box, motion = config.safety.workspace, config.safety.motion
    detail = f"{robot}: {config.arm.driver}, box {box.low} to {box.high} m, at most {motion.linear_speed} m/s"
    return Check("robot configuration", "ok", detail)


def fci(host: str, port: int = FCI_PORT) -> Check:
    """Whether the robot's control unit takes connections."""
    begun = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=REACH):
            took = time.monotonic() - begun
    except ConnectionRefusedError:
        remedy = "activate FCI in Desk (menu, 'Activate FCI'), with the brakes open and no other program connected"
        return Check("FCI", "failed", f"{host} is there but refuses port {port}", remedy)
    except OSError as error:
        remedy = f"check the cable to the control unit and that this machine has an address beside {host}: ip addr"
        return Check("FCI", "failed", f"{host}:{port}: {error}", remedy)
    if took > 0.001:
        remedy = "connect by cable, directly to the control unit, not through a switch or radio"
        return Check("FCI", "warning", f"{host}:{port} answers only after {took * 1e3:.1f} ms", remedy)
    return Check("FCI", "ok", f"{host}:{port} answers in {took * 1e3:.2f} ms")


def franky() -> Check:
    """Whether the FR3's library loads, in a process of its own."""
    problem = in_python("import franky")
    if problem is None:
        return Check("franky-control", "ok", "it loads")
    return Check("franky-control", "failed", problem, "pip install 'franky-control>=2.0,<3'; it needs glibc 2.34")


def camera(config: CameraConfig) -> Check:
    """Whether one camera is there."""
    name = f"camera {config.name}"
    if config.file:
        if Path(config.file).is_file():
            return Check(name, "ok", f"plays {config.file}")
        return Check(name, "failed", f"{config.file} does not exist", "correct cameras[].file")
    if config.driver != "realsense":
        return Check(name, "ok", "rendered with the simulated arm")
    if importlib.util.find_spec("pyrealsense2") is None:
        return Check(name, "failed", "no pyrealsense2", "pip install 'pyrealsense2>=2.55'")
    found = _output(SERIALS)
    if found is None:
        return Check(name, "failed", "pyrealsense2 does not load", "sudo apt-get install -y libusb-1.0-0")
    if config.serial in found.split():
        return Check(name, "ok", f"serial {config.serial}")
    remedy = "check its cable (USB 3) and cameras[].serial; permissions: librealsense's udev rules"
    return Check(name, "failed", f"serial {config.serial} is not connected; there are: {found or 'none'}", remedy)


def clock() -> Check:
    """Whether the wall clock is kept right: records of several machines are compared by it. No safety depends on it."""
    tool = shutil.which("timedatectl")
    if tool is None:
        return Check("wall clock", "warning", "no timedatectl", "keep it right with chrony or systemd-timesyncd")
    asked = subprocess.run(
        [tool, "show", "-p", "NTPSynchronized", "--value"], capture_output=True, text=True, timeout=10, check=False
    )
    if asked.stdout.strip() == "yes":
        return Check("wall clock", "ok", "synchronised")
    return Check("wall clock", "warning", "not synchronised", "sudo timedatectl set-ntp true, or install chrony")


def wake_up(ticks: int = 250) -> Check:
    """How late this machine wakes a loop at 250 Hz; the safety layer holds after 3 missed ticks."""
    late = []
    for _ in range(ticks):
        due = time.monotonic() + 0.004
        time.sleep(0.004)
        late.append(time.monotonic() - due)
    worst = sorted(late)[int(0.99 * len(late))]
    detail = f"99 of 100 wake-ups of a 250 Hz loop come within {worst * 1e3:.2f} ms, the last {max(late) * 1e3:.2f} ms"
    if worst < LATE:
        return Check("wake-ups", "ok", detail)
    return Check("wake-ups", "warning", detail, "close other programs; run the policy on another machine")


def kernel() -> Check:
    """Real-time kernel and the right to its priorities."""
    realtime = REALTIME.exists() and REALTIME.read_text(encoding="ascii").strip() == "1"
    permitted = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] != 0
    if realtime and permitted:
        return Check("real time", "ok", "PREEMPT_RT, and priorities are permitted")
    wrong, remedies = [], []
    if not realtime:
        wrong.append("no PREEMPT_RT kernel")
        remedies.append("install one (Ubuntu: sudo pro enable realtime-kernel)")
    if not permitted:
        wrong.append("no right to real-time priorities")
        remedies.append("add '@realtime - rtprio 99' to /etc/security/limits.conf and yourself to that group")
    return Check("real time", "warning", ", ".join(wrong), "; ".join(remedies))


def discovery() -> Check:
    """Whether two nodes hear each other, and who else could."""
    if importlib.util.find_spec("rclpy") is None:
        remedy = "source ROS 2, or in the checkout: pip install '.[ros-wheels]'"
        return Check("ROS discovery", "failed", "no rclpy", remedy)
    problem = in_python(DISCOVERY)
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    where = f"domain {os.environ.get('ROS_DOMAIN_ID', '0')}, range {reach}"
    if problem is not None:
        remedy = "check ROS_AUTOMATIC_DISCOVERY_RANGE, a firewall on the loopback interface, and free space in /dev/shm"
        return Check("ROS discovery", "failed", f"{where}: {problem}", remedy)
    if reach not in ("LOCALHOST", "OFF"):
        remedy = "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST, unless nodes of other machines belong to this robot"
        return Check("ROS discovery", "warning", f"{where}: the whole network can command this robot", remedy)
    return Check("ROS discovery", "ok", where)


def key_files(folder: Path) -> Check:
    """Keys for a policy server on another machine; one on this machine needs none."""
    secrets = sorted(folder.glob("*.key")) if folder.is_dir() else []
    if not secrets:
        detail = f"none in {folder}; a policy server on this machine needs none"
        return Check("key files", "ok", detail)
    try:
        for path in secrets:
            keys.secret_key(path)
    except TgrpoError as error:
        return Check("key files", "failed", str(error), "see the message")
    return Check("key files", "ok", ", ".join(path.name for path in secrets))


def _output(code: str) -> str | None:
    """What a Python of its own prints; None if it fails."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30.0, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
