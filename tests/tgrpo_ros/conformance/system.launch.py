"""Uses every part of launch that the stand-in has, in the ways in which they interact."""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    SetLaunchConfiguration,
    Shutdown,
)
from launch.conditions import IfCondition, UnlessCondition
from launch.event_handlers import OnProcessExit, OnProcessStart
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (
    EnvironmentVariable,
    LaunchConfiguration,
    PathJoinSubstitution,
    PythonExpression,
    TextSubstitution,
)
from launch_ros.actions import LifecycleNode, Node, PushRosNamespace, SetParameter
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

HERE = Path(__file__).parent


def probe(name, **rest):
    return Node(package="tgrpo_ros", executable="probe", name=name, **rest)


def chosen(context):
    return [probe("opaque_" + LaunchConfiguration("mode").perform(context))]


def on_exit(event, context):
    if event.returncode != 0:
        raise RuntimeError(f"failed with {event.returncode}")
    return [probe("after_last"), LogInfo(msg=["exit of ", event.process_name])]


def generate_launch_description():
    number, mode = LaunchConfiguration("number"), LaunchConfiguration("mode")
    first = probe("first", arguments=["--plain", ["a", "b"], number], ros_arguments=["--log-level", "warn"])
    program = PathJoinSubstitution([FindPackageShare("tgrpo_ros"), "..", "..", "lib", "tgrpo_ros", "probe"])
    last = probe("last", arguments=["--exit", LaunchConfiguration("exit")])
    return LaunchDescription(
        [
            DeclareLaunchArgument("mode", default_value="plain", choices=["plain", "fancy"], description="which"),
            DeclareLaunchArgument("number", default_value="3"),
            DeclareLaunchArgument("exit", default_value="0"),
            DeclareLaunchArgument("fancy", default_value=PythonExpression(["'", mode, "' == 'fancy'"])),
            SetEnvironmentVariable("CONFORMANCE_A", ["value of ", mode]),
            first,
            probe(
                "typed",
                parameters=[
                    {
                        "integer": 3,
                        "float": 0.5,
                        "switch": True,
                        "text": "plain",
                        "list": [1, 2],
                        "texts": ["x", "y"],
                        "nested": {"deep": {"er": 1.5}},
                        "from_argument": number,
                        "joined": ["1", number],
                        "as_text": ParameterValue(number, value_type=str),
                        "as_integer": ParameterValue(number, value_type=int),
                        "as_float": ParameterValue(number, value_type=float),
                        "as_switch": ParameterValue(LaunchConfiguration("fancy"), value_type=bool),
                        "empty": ParameterValue(TextSubstitution(text=""), value_type=str),
                        "expression": PythonExpression([number, " * math.pi > 6"]),
                    },
                    {"second": "file"},
                    str(HERE / "parameters.yaml"),
                ],
                remappings=[("chatter", "/talk"), ("in", [mode, "/out"])],
                additional_env={"CONFORMANCE_B": number},
            ),
            GroupAction(
                [
                    PushRosNamespace("outer"),
                    SetParameter("shared", 7),
                    SetEnvironmentVariable("CONFORMANCE_A", "inside"),
                    SetLaunchConfiguration("number", "8"),
                    GroupAction(
                        [PushRosNamespace("inner"), probe("nested", namespace="own", parameters=[{"n": number}])]
                    ),
                    probe("absolute", namespace="/elsewhere"),
                    probe("empty_namespace", namespace=TextSubstitution(text=""), parameters=[{"a": 1}]),
                    LifecycleNode(package="tgrpo_ros", executable="probe", name="managed", namespace=""),
                    IncludeLaunchDescription(
                        PythonLaunchDescriptionSource(str(HERE / "included.launch.py")),
                        launch_arguments=[("label", "included")],
                    ),
                ]
            ),
            probe("outside", namespace="", parameters=[{"n": number}]),
            probe("fancy", condition=IfCondition(LaunchConfiguration("fancy"))),
            probe("not_fancy", condition=UnlessCondition(LaunchConfiguration("fancy"))),
            OpaqueFunction(function=chosen),
            ExecuteProcess(
                cmd=[program, "process"],
                cwd=str(HERE),
                additional_env={"CONFORMANCE_C": EnvironmentVariable("CONFORMANCE_UNSET", default_value="default")},
                output="screen",
            ),
            RegisterEventHandler(OnProcessStart(target_action=first, on_start=[probe("after_start")])),
            RegisterEventHandler(OnProcessExit(target_action=last, on_exit=on_exit)),
            last,
            probe("unwanted", condition=IfCondition("false")),
            GroupAction([Shutdown(reason="never")], condition=IfCondition("false")),
        ]
    )
