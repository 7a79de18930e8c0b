"""`tgrpo session`: starts the launch file of an evaluation or a correction, with ROS 2 where it knows this package."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tgrpo.errors import SettingsError
from tgrpo.session import plan as plans
from tgrpo_ros.child import find_command

FILES = {"eval": "evaluate.launch.py", "correct": "correct.launch.py"}


@dataclass(frozen=True)
class SessionArguments:
    """Plays the episodes of a plan at an arm, real or simulated, and records them; see docs/sessions.md."""

    what: Annotated[Literal["eval", "correct"], tyro.conf.Positional]
    """``eval`` measures; in ``correct`` the policy learns, and new versions are swapped in: from a person who takes
    over, or with ``purpose: collect`` from groups of episodes."""
    plan: Annotated[Path, tyro.conf.Positional]
    """YAML file of what is played."""
    session: Path | None = None
    """Session folder; by default one beside the plan that has its name. One that is there is continued."""
    options: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Further launch arguments, as in ``robot:=fr3 attended:=true``; ``--show-args`` of the launch file lists them."""


def command(arguments: SessionArguments) -> list[str]:
    """What is run.

    Raises:
        SettingsError: The plan cannot be played, or an option is no launch argument.
    """
    plan = plans.load(arguments.plan)
    if (plan.purpose == "eval") is not (arguments.what == "eval"):
        raise SettingsError(
            f"{arguments.plan} has purpose: {plan.purpose}, which 'tgrpo session {arguments.what}' does not play. "
            "Change the plan's purpose, or the command."
        )
    for option in arguments.options:
        if ":=" not in option:
            raise SettingsError(f"{option!r} is no launch argument; write NAME:=VALUE, as in robot:=fr3.")
    session = arguments.session or arguments.plan.with_suffix("")
    words = [f"plan:={arguments.plan.resolve()}", f"session:={session.resolve()}", *arguments.options]
    return [*_launcher(), "tgrpo_ros", FILES[arguments.what], *words]


def main(argv: list[str]) -> int:
    """``tgrpo session``."""
    words = command(tyro.cli(SessionArguments, prog="tgrpo session", args=argv))
    # A session of its own: whoever interrupts this process, the launch hears it once.
    process = subprocess.Popen(words, env={**os.environ, "TGRPO_COMMAND": find_command()}, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: process.send_signal(signal.SIGINT))
    return process.wait()


def _launcher() -> list[str]:
    """``ros2 launch`` where ROS 2 knows this package, the stand-in elsewhere."""
    known = (
        shutil.which("ros2")
        and not subprocess.run(["ros2", "pkg", "prefix", "tgrpo_ros"], check=False, capture_output=True).returncode
    )
    return ["ros2", "launch"] if known else [sys.executable, "-m", "tgrpo_ros.standin.cli"]
