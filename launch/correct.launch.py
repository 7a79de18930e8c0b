"""A session in which a person takes over whenever the policy errs, and the policy learns between the episodes.

    ros2 launch tgrpo_ros correct.launch.py plan:=plan.yaml session:=sessions/bowl robot:=fr3 workspace:=cell.yaml \
        attended:=true teleop:=spacemouse
    ros2 launch tgrpo_ros correct.launch.py plan:=plan.yaml session:=sessions/rehearsal

It is evaluate.launch.py with a learner beside it; each new version of the policy is loaded before the next episode. In
simulation without `teleop` a scripted operator stands in for the person.
"""

from launch.actions import ExecuteProcess
from launch_ros.actions import Node

from tgrpo_ros.launching import describe, find_command, include, read_plan, scene_address, values

# Name, default, description, choices.
ARGUMENTS = [
    ("plan", "", "YAML file of what is played, with purpose: correct or collect; see docs/sessions.md", None),
    ("session", "", "session folder; one that is there is continued", None),
    ("robot", "sim", "robot configuration: sim, fr3, panda, or the path of a YAML file", None),
    ("workspace", "", "YAML file with low and high of the box that the tool may be in; real robots need it", None),
    ("attended", "false", "a person says go and labels; a real arm is not run without", ["true", "false"]),
    ("operator", "", "who that is, for the record", None),
    ("start", "", "scene, guided, or empty for what fits the robot; see docs/sessions.md", ["", "scene", "guided"]),
    ("page", "8080", "port of the page of the session, on this machine only; 0: none", None),
    ("teleop", "", "what a person takes over with; robot:=sim without one: a scripted operator", None),
    ("teleop_translation", "0.3", "translation action at full deflection of that device", None),
    ("teleop_rotation", "0.1", "rotation action at full deflection of that device", None),
    ("patience_steps", "60", "scripted operator: control steps without a new stage before it takes over", None),
    ("stages", "1", "scripted operator: stages that it completes before it hands back; 0: all", None),
    ("learn", "true", "start the learner beside the session", ["true", "false"]),
    ("lesson_wait", "", "how long an episode waits for the learner [s]; empty: robot:=sim 120, at an arm 0", None),
    ("learn_args", "", "further options of `tgrpo learn`, without blanks in their values", None),
    ("mode", "fast", "robot:=sim: exact equals stock LIBERO, fast simplifies pictures", ["exact", "fast"]),
    ("pace", "fast", "robot:=sim: fast: the scene waits for the policy; real: in real time", ["fast", "real"]),
    ("size", "64", "robot:=sim: height and width of pictures [px], as the policies want them", None),
    ("port", "5757", "port of the policy server", None),
    ("namespace", "", "ROS namespace of the nodes", None),
]
PASSED = (
    "plan", "session", "robot", "workspace", "attended", "operator", "start", "page", "lesson_wait", "teleop",
    "teleop_translation", "teleop_rotation", "mode", "pace", "size", "port", "namespace",
)  # fmt: skip


def start(context):
    """The evaluation, who corrects, and who learns."""
    text = values(context, ARGUMENTS)
    plan = read_plan(text["plan"])
    if not text["lesson_wait"]:
        text["lesson_wait"] = "120.0" if text["robot"] == "sim" and text["learn"] == "true" else "0.0"
    again = {"output": "screen", "respawn": True, "respawn_delay": 1.0}
    started = []
    if text["robot"] == "sim" and not text["teleop"] and plan.get("purpose") == "correct":
        # Its device is a SpaceMouse that reaches as far as the expert does.
        text |= {"teleop": "joy", "teleop_translation": "1.0", "teleop_rotation": "1.0"}
        operator = {
            "scene": scene_address(text["namespace"]),
            "patience_steps": int(text["patience_steps"]),
            "stages": int(text["stages"]),
        }
        started.append(
            Node(
                package="tgrpo_ros",
                executable="tgrpo_operator_node",
                name="tgrpo_operator",
                namespace=text["namespace"],
                parameters=[operator],
                **again,
            )
        )
    started.insert(0, include(__file__, "evaluate.launch.py", [(name, text[name]) for name in PASSED]))
    if text["learn"] == "true":
        method = "imitation" if plan.get("purpose") == "correct" else "tgrpo"
        policy = str(plan["policies"][0].get("checkpoint") or plan["policies"][0]["name"])
        options = ["--policy", policy, "--method", method, "--watch", *text["learn_args"].split()]
        started.append(ExecuteProcess(cmd=[find_command(), "learn", text["session"], *options], **again))
    return started


def generate_launch_description():
    """Arguments and processes."""
    return describe(__file__, ARGUMENTS, start)
