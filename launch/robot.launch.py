"""Starts a robot: cameras, arm with its safety layer, policy and teleoperation.

    ros2 launch tgrpo_ros robot.launch.py robot:=fr3 workspace:=cell.yaml policy_server:=tcp://127.0.0.1:5757 \
        instruction:="put the bowl on the plate" teleop:=spacemouse

Nothing moves before somebody calls the service `tgrpo_arm/arm`. With `robot:=sim` a LIBERO scene is started too.
"""

import os
from pathlib import Path

from launch.actions import ExecuteProcess, RegisterEventHandler, SetEnvironmentVariable
from launch.event_handlers import OnProcessExit, OnShutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from tgrpo_ros.launching import describe, find_command, look_up, profile_variable, scene_address, values

SWITCH = ["true", "false"]

# Name, default, description, choices.
ARGUMENTS = [
    ("robot", "sim", "robot configuration: sim, fr3, panda, or the path of a YAML file", None),
    ("workspace", "", "YAML file with low and high of the box that the tool may be in; real robots need it", None),
    ("policy_server", "tcp://127.0.0.1:5757", "address of the policy server, see `tgrpo serve`", None),
    ("server_key", "", "public key file of a server that wants keys", None),
    ("client_key", "", "secret key file of this robot", None),
    ("instruction", "", "the task in words; empty: that of the simulated scene", None),
    (
        "strategy",
        "receding_horizon",
        "how chunks of actions are executed",
        ["open_loop", "receding_horizon", "temporal_ensembling"],
    ),
    ("execute", "8", "actions that are executed before the policy is asked again", None),
    ("deadline_ms", "500.0", "time that an answer of the policy may take [ms]", None),
    ("teleop", "", "what a person takes over with; the keyboard needs a node in a terminal of its own", None),
    ("teleop_translation", "0.3", "translation action at full deflection of that device", None),
    ("teleop_rotation", "0.1", "rotation action at full deflection of that device", None),
    ("suite", "libero_object", "robot:=sim: LIBERO suite of the scene", None),
    ("task", "4", "robot:=sim: task of the suite, by number or by name", None),
    ("mode", "fast", "robot:=sim: exact equals stock LIBERO, fast simplifies pictures", ["exact", "fast"]),
    ("pace", "real", "robot:=sim: real, or fast: the scene waits for the policy", ["real", "fast"]),
    ("size", "64", "robot:=sim: height and width of pictures [px], as the policy wants them", None),
    ("rviz", "false", "also start RViz", SWITCH),
    ("foxglove", "false", "also start foxglove_bridge, on this machine only", SWITCH),
    ("autostart", "true", "nodes configure and activate themselves", SWITCH),
    ("respawn", "false", "what dies is started again; without, it ends the launch", SWITCH),
    ("namespace", "", "ROS namespace of the nodes", None),
    ("log_level", "info", "least severity that nodes log", ["debug", "info", "warn", "error", "fatal"]),
]
stopping, died = [], []
WRONG = 2
"""Exit code of a node whose settings do not permit a start."""


def on_exit(event, context):
    """A node that fails ends the launch with an error, which launch alone would hide."""
    first = event.action not in died
    died.append(event.action)
    # What is started again need not end the launch, unless it could not even begin once: its settings are wrong.
    if LaunchConfiguration("respawn").perform(context) == "true" and not (first and event.returncode == WRONG):
        return
    if event.returncode != 0 and not stopping:
        raise RuntimeError(f"{event.process_name} failed with exit code {event.returncode}")


def start(context):
    """The processes, which depend on what the robot's configuration says."""
    text = values(context, ARGUMENTS)
    configs = Path(PathJoinSubstitution([FindPackageShare("tgrpo_ros"), "robot_configs"]).perform(context))
    robot, autostart = text["robot"], text["autostart"] == "true"
    driver, cameras = look_up(robot, configs)
    scene = scene_address(text["namespace"]) if driver == "sim" else ""
    again = {"output": "screen", "respawn": text["respawn"] == "true", "respawn_delay": 1.0}
    common = {"robot": robot, "workspace": text["workspace"], "scene": scene, "autostart": autostart}

    def node(name, executable, more):
        return Node(
            package="tgrpo_ros",
            executable=executable,
            name=name,
            namespace=text["namespace"],
            parameters=[{**common, **more}],
            ros_arguments=["--log-level", text["log_level"]],
            sigterm_timeout="15",  # an orderly stop of an arm is worth waiting for
            **again,
        )

    started = [node(f"tgrpo_camera_{camera}", "tgrpo_camera_node", {"camera": camera}) for camera in cameras]
    started.append(node("tgrpo_arm", "tgrpo_arm_node", {}))
    policy = {
        "server": text["policy_server"],
        "server_key": text["server_key"],
        "client_key": text["client_key"],
        "instruction": text["instruction"],
        "strategy": text["strategy"],
        "execute": int(text["execute"]),
        "deadline_ms": float(text["deadline_ms"]),
    }
    started.append(node("tgrpo_policy", "tgrpo_policy_node", policy))
    if text["teleop"]:
        feel = {name: float(text[f"teleop_{name}"]) for name in ("translation", "rotation")}
        started.append(node("tgrpo_teleop", "tgrpo_teleop_node", {"device": text["teleop"], **feel}))
    if scene:
        started.insert(0, _scene(text, cameras, scene, again))
    if text["rviz"] == "true":
        shown = str(configs / "robot.rviz")
        started.append(Node(package="rviz2", executable="rviz2", arguments=["-d", shown], output="screen"))
    if text["foxglove"] == "true":
        local = {"address": "127.0.0.1"}
        started.append(Node(package="foxglove_bridge", executable="foxglove_bridge", parameters=[local]))
    watched = [RegisterEventHandler(OnProcessExit(target_action=action, on_exit=on_exit)) for action in started]
    variable = profile_variable()
    profile = os.environ.get(variable, str(configs / "fastdds_shm.xml"))
    return [SetEnvironmentVariable(variable, profile), *watched, *started]


def _scene(text, cameras, address, again):
    options = [f"--{name}={text[name]}" for name in ("suite", "task", "mode", "pace", "size")]
    command = [find_command(), "sim-robot", *options, f"--address={address}", "--cameras", *cameras]
    return ExecuteProcess(cmd=command, **again)


def generate_launch_description():
    """Arguments, environment, and the nodes."""
    return describe(
        __file__,
        ARGUMENTS,
        start,
        SetEnvironmentVariable("RCUTILS_LOGGING_BUFFERED_STREAM", "1"),
        SetEnvironmentVariable("PYTHONUNBUFFERED", "1"),
        RegisterEventHandler(OnShutdown(on_shutdown=lambda event, context: stopping.append(True))),
    )
