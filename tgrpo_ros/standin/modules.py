"""Puts the stand-in under launch's names, and loads launch files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from tgrpo_ros.standin import actions, events, processes, substitutions
from tgrpo_ros.standin.actions import LaunchDescription

EXPORTS: dict[str, tuple[ModuleType, str]] = {
    "launch": (actions, "Action LaunchDescription"),
    "launch.actions": (
        actions,
        "DeclareLaunchArgument GroupAction IncludeLaunchDescription LogInfo OpaqueFunction RegisterEventHandler "
        "SetEnvironmentVariable SetLaunchConfiguration Shutdown",
    ),
    "launch.conditions": (actions, "IfCondition UnlessCondition"),
    "launch.event_handlers": (events, "OnProcessExit OnProcessStart OnShutdown"),
    "launch.launch_description_sources": (actions, "PythonLaunchDescriptionSource"),
    "launch.substitutions": (
        substitutions,
        "EnvironmentVariable LaunchConfiguration PathJoinSubstitution PythonExpression TextSubstitution",
    ),
    "launch_ros": (processes, ""),
    "launch_ros.actions": (processes, "LifecycleNode Node PushRosNamespace SetParameter"),
    "launch_ros.parameter_descriptions": (processes, "ParameterValue"),
    "launch_ros.substitutions": (substitutions, "FindPackageShare"),
}


def install() -> None:
    """Makes ``import launch`` and ``import launch_ros`` give the stand-in; other names raise ImportError."""
    for name, (source, exported) in EXPORTS.items():
        module = ModuleType(name, "tgrpo_ros.standin")
        module.__path__ = []
        for item in exported.split():
            setattr(module, item, getattr(source, item))
        sys.modules[name] = module
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
    sys.modules["launch.actions"].ExecuteProcess = processes.ExecuteProcess  # type: ignore[attr-defined]


def load(path: str) -> LaunchDescription:
    """Runs a launch file's ``generate_launch_description``.

    Raises:
        ImportError: It imports something that the stand-in does not have.
    """
    scope = {"__file__": path, "__name__": "launch_file"}
    exec(compile(Path(path).read_text(encoding="utf-8"), path, "exec"), scope)  # a launch file is code
    description = scope["generate_launch_description"]()  # type: ignore[operator]
    if not isinstance(description, LaunchDescription):
        raise TypeError(f"{path}: generate_launch_description() must return a LaunchDescription")
    return description
