"""A policy server, the simulated arm and all nodes play a task and end: `ros2 launch tgrpo_ros demo.launch.py`.

    ros2 launch tgrpo_ros demo.launch.py suite:=libero_spatial task:=2 states:=0-4 json:=result.json

Ends with 0 when every episode was played; `tgrpo compare` sets the result beside one of `tgrpo eval`.
"""

from launch.actions import ExecuteProcess, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit, OnShutdown
from launch_ros.actions import Node

from tgrpo_ros.launching import describe, find_command, include, scene_address, values

# Name, default, description, choices.
ARGUMENTS = [
    ("policy", "tiny-libero", "checkpoint: a folder, or the name of one that ships with the package", None),
    ("suite", "libero_object", "LIBERO suite of the scene", None),
    ("task", "4", "task of the suite, by number or by name", None),
    ("states", "0-0", "initial states to start from, as in 0-19", None),
    ("max_steps", "0", "step limit of an episode; 0: the suite's own", None),
    ("mode", "fast", "simulator: exact equals stock LIBERO, fast simplifies pictures", ["exact", "fast"]),
    ("pace", "fast", "fast: the scene waits for the policy; real: in real time", ["fast", "real"]),
    ("size", "64", "height and width of pictures [px], as the policy wants them", None),
    ("json", "", "file for the result", None),
    ("port", "5757", "port of the policy server", None),
    ("namespace", "", "ROS namespace of the nodes", None),
]
PASSED = ("suite", "task", "mode", "pace", "size", "namespace")
finished = []


def on_server_exit(event, context):
    """Without a server nobody would ever act."""
    if event.returncode != 0 and not finished:
        raise RuntimeError(f"the policy server failed with exit code {event.returncode}")


def on_finish(event, context):
    """Ends the launch with the episodes; their failure becomes the launch's own, unless somebody stopped it."""
    if finished:
        return []
    finished.append(True)
    if event.returncode != 0:
        raise RuntimeError(f"the episodes failed with exit code {event.returncode}")
    return [Shutdown(reason="all episodes were played")]


def start(context):
    """The server, the robot, and who plays the episodes."""
    text = values(context, ARGUMENTS)
    server = ExecuteProcess(cmd=[find_command(), "serve", text["policy"], "--port", text["port"]], output="screen")
    robot = include(
        __file__,
        "robot.launch.py",
        [
            ("robot", "sim"),
            ("policy_server", f"tcp://127.0.0.1:{text['port']}"),
            *((name, text[name]) for name in PASSED),
        ],
    )
    episodes = Node(
        package="tgrpo_ros",
        executable="tgrpo_episodes_node",
        name="tgrpo_episodes",
        namespace=text["namespace"],
        parameters=[
            {
                "scene": scene_address(text["namespace"]),
                "states": text["states"],
                "max_steps": int(text["max_steps"]),
                "policy": text["policy"],
                "mode": text["mode"],
                "json": text["json"],
            }
        ],
        output="screen",
    )
    watched = [
        RegisterEventHandler(OnShutdown(on_shutdown=lambda event, context: finished.append(True))),
        RegisterEventHandler(OnProcessExit(target_action=server, on_exit=on_server_exit)),
        RegisterEventHandler(OnProcessExit(target_action=episodes, on_exit=on_finish)),
    ]
    return [*watched, server, robot, episodes]


def generate_launch_description():
    """Arguments and processes."""
    return describe(__file__, ARGUMENTS, start)
