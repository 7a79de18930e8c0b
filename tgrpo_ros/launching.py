"""What the launch files of the robot share. Launch's own Python reads them, so this needs only launch and PyYAML."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tgrpo_ros.child import find_command as find_command

OLD_DISTROS = ("humble", "jazzy")
Argument = tuple[str, str, str, Sequence[str] | None]
"""Name, default, description and valid values of a launch argument."""


def describe(file: str, arguments: Sequence[Argument], start: Callable[[Any], Any], *first: Any) -> Any:
    """The description of a launch file.

    Args:
        file: Its path.
        arguments: What may be set on its command line.
        start: Called with the launch context; returns the actions that the arguments ask for.
        first: Actions before those.

    Returns:
        ``launch.LaunchDescription``.
    """
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    from launch import LaunchDescription

    names = [name for name, *_ in arguments]
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=d, description=t, choices=c) for n, d, t, c in arguments),
            OpaqueFunction(function=lambda context: refuse_unknown_arguments(file, names)),
            *first,
            OpaqueFunction(function=start),
        ]
    )


def values(context: Any, arguments: Sequence[Argument]) -> dict[str, str]:
    """Launch argument to its value."""
    return {name: str(context.launch_configurations[name]) for name, *_ in arguments}


def include(file: str, other: str, arguments: Iterable[tuple[str, str]]) -> Any:
    """An action that runs another launch file of the same folder.

    Args:
        file: Path of the one that includes it.
        other: Its name.
        arguments: What it is given.
    """
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(Path(file).with_name(other)))
    return IncludeLaunchDescription(source, launch_arguments=list(arguments))


def refuse_unknown_arguments(file: str, known: Iterable[str]) -> None:
    """Refuses launch arguments that a launch file does not declare, which launch itself accepts silently.

    Args:
        file: Path of the launch file; only the command line that names it is looked at.
        known: Its arguments.

    Raises:
        RuntimeError: There is another one.
    """
    named = [place for place, word in enumerate(sys.argv) if Path(word).name == Path(file).name]
    words = sys.argv[named[0] + 1 :] if named else []
    valid = list(known)
    for name in [word.split(":=")[0] for word in words if ":=" in word]:
        if name not in valid:
            close = difflib.get_close_matches(name, valid, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise RuntimeError(f"unknown launch argument '{name}'.{hint} Valid: {', '.join(valid)}.")


def look_up(robot: str, configs: Path) -> tuple[str, list[str]]:
    """Driver of a robot's arm, and names of its cameras.

    Args:
        robot: Name of a shipped configuration, or path of a file.
        configs: Folder of the shipped ones.

    Raises:
        RuntimeError: There is no such configuration.
    """
    import yaml

    path = Path(robot) if Path(robot).is_file() else configs / f"{robot}.yaml"
    if not path.is_file():
        shipped = sorted(found.stem for found in configs.glob("*.yaml"))
        raise RuntimeError(f"unknown robot '{robot}'. Valid: {', '.join(shipped)}, or the path of a YAML file.")
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return str(data["arm"]["driver"]), [str(camera["name"]) for camera in data.get("cameras", ())]
    except (KeyError, TypeError) as error:
        raise RuntimeError(f"{path}: arm.driver or the name of a camera is missing.") from error


def profile_variable() -> str:
    """Environment variable that names Fast DDS's profile file: newer distributions renamed it."""
    old = os.environ.get("ROS_DISTRO", "") in OLD_DISTROS
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE"


def scene_address(namespace: str = "") -> str:
    """Where a simulated scene listens that is started together with the nodes."""
    from tgrpo import private_folder

    folder = private_folder.ensure(private_folder.path())
    parts = ["scene", os.environ.get("ROS_DOMAIN_ID", "0") or "0", *namespace.strip("/").split("/")]
    return f"ipc://{folder / '-'.join(part for part in parts if part)}"


def read_plan(path: str) -> dict[str, Any]:
    """The plan of a session, only to know what to start; the session node checks it.

    Raises:
        RuntimeError: There is none.
    """
    import yaml

    if not path:
        raise RuntimeError("no plan; name one with plan:=FILE, see docs/sessions.md")
    try:
        plan = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise RuntimeError(f"plan:={path} cannot be read: {error}") from error
    if not (isinstance(plan, dict) and plan.get("policies") and plan.get("tasks")):
        raise RuntimeError(f"{path} is no plan: it has no policies or no tasks; see docs/sessions.md")
    return plan
