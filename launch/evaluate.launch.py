"""Plays the plan of an evaluation and records it: policy servers, the robot, and the node that runs the session.

    ros2 launch tgrpo_ros evaluate.launch.py plan:=plan.yaml session:=sessions/monday
    ros2 launch tgrpo_ros evaluate.launch.py plan:=plan.yaml session:=sessions/monday robot:=fr3 workspace:=cell.yaml \
        attended:=true

What dies is started again, and the session goes on with the next episode. The same command continues a session that was
stopped. In simulation nobody is needed; at a real arm a person says go and labels.
"""

from launch.actions import ExecuteProcess, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit, OnShutdown
from launch_ros.actions import Node

from tgrpo_ros.launching import describe, find_command, include, read_plan, scene_address, values

SWITCH = ["true", "false"]

# Name, default, description, choices.
ARGUMENTS = [
    ("plan", "", "YAML file of what is played, see docs/sessions.md", None),
    ("session", "", "session folder; one that is there is continued", None),
    ("robot", "sim", "robot configuration: sim, fr3, panda, or the path of a YAML file", None),
    ("workspace", "", "YAML file with low and high of the box that the tool may be in; real robots need it", None),
    ("attended", "false", "a person says go and labels; a real arm is not run without", SWITCH),
    ("operator", "", "who that is, for the record", None),
    ("start", "", "scene, guided, or empty for what fits the robot; see docs/sessions.md", ["", "scene", "guided"]),
    ("lesson_wait", "0.0", "how long an episode waits for the learner to have studied the last one [s]", None),
    ("page", "8080", "port of the page of the session, on this machine only; 0: none", None),
    ("teleop", "", "what a person takes over with", None),
    ("teleop_translation", "0.3", "translation action at full deflection of that device", None),
    ("teleop_rotation", "0.1", "rotation action at full deflection of that device", None),
    ("mode", "fast", "robot:=sim: exact equals stock LIBERO, fast simplifies pictures", ["exact", "fast"]),
    ("pace", "fast", "robot:=sim: fast: the scene waits for the policy; real: in real time", ["fast", "real"]),
    ("size", "64", "robot:=sim: height and width of pictures [px], as the policies want them", None),
    ("port", "5757", "port of the first policy server", None),
    ("namespace", "", "ROS namespace of the nodes", None),
]
PASSED = (
    "robot", "workspace", "teleop", "teleop_translation", "teleop_rotation", "mode", "pace", "size", "namespace",
)  # fmt: skip
ended = []


def on_session_exit(event, context):
    """Ends the launch with the session: 0 its plan is done, 2 its settings are wrong; otherwise it is started again."""
    if ended or event.returncode not in (0, 2):
        return []
    ended.append(True)
    if event.returncode == 2:
        raise RuntimeError("the session could not begin; see its messages")
    return [Shutdown(reason="the plan is done")]


def start(context):
    """The servers, the robot, and who runs the session."""
    text = values(context, ARGUMENTS)
    plan = read_plan(text["plan"])
    task = (plan.get("tasks") or [{}])[0]
    port = int(text["port"])
    again = {"output": "screen", "respawn": True, "respawn_delay": 1.0}
    servers = [
        ExecuteProcess(cmd=[find_command(), "serve", policy["checkpoint"], "--port", str(port + place)], **again)
        for place, policy in enumerate(plan.get("policies", ()))
        if policy.get("checkpoint")
    ]
    robot = include(
        __file__,
        "robot.launch.py",
        [
            ("policy_server", f"tcp://127.0.0.1:{port}"),
            ("suite", str(task.get("suite") or "libero_object")),
            ("task", str(task.get("task", 0))),
            ("instruction", str(task.get("instruction", ""))),
            ("respawn", "true"),
            *((name, text[name]) for name in PASSED),
        ],
    )
    session = Node(
        package="tgrpo_ros",
        executable="tgrpo_session_node",
        name="tgrpo_session",
        namespace=text["namespace"],
        parameters=[
            {
                "robot": text["robot"],
                "workspace": text["workspace"],
                "scene": scene_address(text["namespace"]),  # only a simulated arm has one
                "plan": text["plan"],
                "session": text["session"],
                "server": f"tcp://127.0.0.1:{port}",
                "attended": text["attended"] == "true",
                "operator": text["operator"],
                "start": text["start"],
                "page": int(text["page"]),
                "lesson_wait": float(text["lesson_wait"]),
            }
        ],
        sigterm_timeout="15",
        **again,
    )
    watched = [
        RegisterEventHandler(OnShutdown(on_shutdown=lambda event, context: ended.append(True))),
        RegisterEventHandler(OnProcessExit(target_action=session, on_exit=on_session_exit)),
    ]
    return [*watched, *servers, robot, session]


def generate_launch_description():
    """Arguments and processes."""
    return describe(__file__, ARGUMENTS, start)
