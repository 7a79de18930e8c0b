"""Fine-tunes a policy with TGRPO in LIBERO: `ros2 launch tgrpo_ros sim_train.launch.py task:=3 preset:=paper`.

An argument that is left empty keeps the default of `tgrpo train`; see `tgrpo train --help`.
"""

from launch.actions import RegisterEventHandler, SetEnvironmentVariable, Shutdown
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from tgrpo_ros.launching import describe

SUITES = ["", "libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"]
SWITCH = ["true", "false"]

# Name, type of the node's parameter, default, description, choices.
PARAMETERS = [
    ("suite", str, "", "LIBERO suite of the task", SUITES),
    ("task", str, "", "task of the suite, by number or by name", None),
    ("preset", str, "", "algorithm settings: fast, or paper for the method as published", ["", "fast", "paper"]),
    ("policy", str, "", "checkpoint to start from: a folder, the name of one that ships, or a kind: openvla", None),
    ("checkpoint", str, "", "folder of a checkpoint of that kind", None),
    ("seed", int, "-1", "seed of everything that is drawn; -1: the default", None),
    ("iterations", int, "0", "rounds of rollouts and updates; 0: the default", None),
    ("groups", int, "0", "groups of rollouts in one iteration; 0: the default", None),
    ("group_size", int, "0", "rollouts of one group; 0: the default", None),
    ("mode", str, "", "simulator: exact equals stock LIBERO, fast simplifies pictures", ["", "exact", "fast"]),
    ("train_states", str, "", "initial states that groups start from, as in 0-24", None),
    ("held_out_states", str, "", "initial states of the evaluation, as in 25-49", None),
    ("evaluate_every", int, "0", "iterations between evaluations; 0: only before and after", None),
    ("workers", int, "0", "simulator processes; 0: one for each core", None),
    ("run_dir", str, "", "run folder; empty: a new one in runs/", None),
    ("resume", bool, "false", "continue the run in run_dir", SWITCH),
    ("train_args", str, "", "further options of `tgrpo train`, as in a shell", None),
    ("image_rate", float, "2.0", "greatest rate of the rollout picture [1/s]", None),
]
OTHERS = [
    ("namespace", "", "ROS namespace of the node", None),
    ("log_level", "info", "least severity that the node logs", ["debug", "info", "warn", "error", "fatal"]),
]


def on_trainer_exit(event, context):
    """Ends the launch; a failed trainer becomes the launch's own failure, which Shutdown alone would hide."""
    if event.returncode != 0:
        raise RuntimeError(f"the trainer failed with exit code {event.returncode}")
    return [Shutdown(reason="the trainer has finished")]


def generate_launch_description():
    """One node; it starts the training loop as its child."""
    arguments = [(name, default, text, choices) for name, _, default, text, choices in PARAMETERS] + OTHERS
    trainer = Node(
        package="tgrpo_ros",
        executable="tgrpo_trainer_node",
        name="tgrpo_trainer",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, kind, *_ in PARAMETERS}
        ],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        # A clean stop writes a checkpoint, which may have to wait for the current iteration.
        sigterm_timeout="180",
        sigkill_timeout="20",
    )
    return describe(
        __file__,
        arguments,
        lambda context: [trainer],
        SetEnvironmentVariable("RCUTILS_LOGGING_BUFFERED_STREAM", "1"),
        SetEnvironmentVariable("PYTHONUNBUFFERED", "1"),
        RegisterEventHandler(OnProcessExit(target_action=trainer, on_exit=on_trainer_exit)),
    )
