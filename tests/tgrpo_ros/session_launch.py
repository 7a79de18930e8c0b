"""Starts a session as a user does, from this checkout, with a place of its own for sockets."""

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
NODES = ("camera", "arm", "policy", "teleop", "session", "operator")
WORDS = "pick up the ketchup and place it in the basket"
TASK = {"suite": "libero_object", "task": 4, "instruction": WORDS}


def installed(folder, nodes=NODES):
    """Variables with which this checkout is found as an installed package is."""
    prefix = folder / "prefix"
    for name in ("share/ament_index/resource_index/packages", "share/tgrpo_ros", "lib/tgrpo_ros"):
        (prefix / name).mkdir(parents=True)
    (prefix / "share/ament_index/resource_index/packages/tgrpo_ros").touch()
    for name in ("launch", "robot_configs"):
        (prefix / "share/tgrpo_ros" / name).symlink_to(ROOT / name)
    for node in nodes:
        program(prefix / f"lib/tgrpo_ros/tgrpo_{node}_node")
    script(folder / "command", "-m tgrpo.cli")
    return {
        "AMENT_PREFIX_PATH": str(prefix),
        "TGRPO_COMMAND": str(folder / "command"),
        "XDG_RUNTIME_DIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }


def environment(folder):
    """The same, in a ROS domain of its own, which no other process of tests draws."""
    mine = int(os.environ["ROS_DOMAIN_ID"])
    domain = random.SystemRandom().choice([one for one in range(1, 101) if one != mine and one % 10 == mine % 10])
    return {**os.environ, **installed(folder), "ROS_DOMAIN_ID": str(domain)}


def program(path):
    """A node's program as pip writes it."""
    path.write_text(f"#!{sys.executable}\nimport sys\nfrom tgrpo_ros.nodes import main\nsys.exit(main())\n")
    path.chmod(0o755)


def script(path, words):
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
    path.chmod(0o755)


def free_ports():
    """The first of two free ports that follow each other."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def write_plan(folder, **changes):
    """A short plan on one task; what is asked is whether all of it is played, not whether it is solved."""
    plan = {
        "name": "rehearsal",
        "episodes": 2,
        "policies": [{"name": "tiny", "checkpoint": "tiny-libero"}],
        "tasks": [{**TASK, "time_limit": 1.2, "starts": [0, 1]}],
        **changes,
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def start(where, what, plan, session, *options):
    """Runs `tgrpo session`; its messages go to a file."""
    main = "import sys; from tgrpo_ros.session_command import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", main, what, str(plan), f"--session={session}"]
    log = (plan.parent / "log.txt").open("a")
    with log:
        return subprocess.Popen(
            [*words, f"port:={free_ports()}", "page:=0", *options], env=where, stdout=log, stderr=log
        )


def processes(mark):
    """Process ids and command lines of whatever has a mark in its environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended meanwhile
            continue
