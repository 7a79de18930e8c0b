"""ROS 2 node that runs a session: it plays the episodes of a plan, records them, and goes on where it was stopped.

It uses the nodes' own topics and services, as a person would. For each episode: reset, check, wait for go, rollout,
label, record. What has been played stands in the session's folder alone, so whatever is killed, it goes on with the
next episode. Ends with 0 when the plan is done.

Services (std_srvs/Trigger): ``~/go``, ``~/label_success``, ``~/label_failure``, ``~/abort``, ``~/pause``, ``~/resume``.
Subscribes ``~/say`` (std_msgs/String): the same words, as in ``failure: dropped the bowl``.
Publishes ``~/state`` (std_msgs/String, latched): JSON of what goes on; the parameter ``page`` serves it as a page.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from tgrpo import jpeg, rotation, sim_link
from tgrpo.errors import RobotFault, SettingsError, WireError
from tgrpo.record.episode import Outcome
from tgrpo.record.recorder import EpisodeRecorder
from tgrpo.record.session import SessionFolder
from tgrpo.session import history
from tgrpo.session import plan as plans
from tgrpo.session.flow import Flow
from tgrpo.session.live import LivePage
from tgrpo.session.reference import Look, Reference, StartTolerance
from tgrpo.types import Image
from tgrpo_ros import robot_config, traffic
from tgrpo_ros.arm_client import ArmClient, PolicySwitch
from tgrpo_ros.board import Board
from tgrpo_ros.drivers.sim_scene import wait_for_scene
from tgrpo_ros.episode_driver import EpisodeDriver, Job, Start
from tgrpo_ros.frames import FrameReceiver, address_of
from tgrpo_ros.managed import LATCHED, run_plain
from tgrpo_ros.messages import command_message, pose_of, proprio_of
from tgrpo_ros.motion import Command, Pose
from tgrpo_ros.parameters import ROBOT, Option
from tgrpo_ros.serving_watch import Served
from tgrpo_ros.starts import GuidedStart, ResetDriver, SimStart
from tgrpo_ros.tape import Tape
from tgrpo_ros.words import Words

OPTIONS = (
    *ROBOT,
    Option("arm", "tgrpo_arm", "name of the arm node"),
    Option("policy", "tgrpo_policy", "name of the policy node"),
    Option("plan", "", "YAML file of what is played"),
    Option("session", "", "session folder; one that is there is continued"),
    Option("server", "tcp://127.0.0.1:5757", "policy server of policies that name none; one port more for the second"),
    Option("attended", False, "a person says go and labels; without, only a simulated arm is run"),
    Option("operator", "", "who that is, for the record"),
    Option("start", "", "scene: a recorded state of a simulated scene; guided: laid out by a person; empty: what fits"),
    Option("page", 0, "port of the page on this machine; 0: none", high=65535),
    Option(
        "lesson_wait", 0.0, "how long an episode waits for the learner to have studied the last one [s]", high=3600.0
    ),
    Option("patience", 300.0, "how long nodes may take to be ready [s]", low=1.0, high=86400.0),
)

RECOVERY = 3.0
"""Pause after a fault of the infrastructure [s]."""


class SessionNode(Node):
    """Plays a plan."""

    def __init__(self) -> None:
        super().__init__("tgrpo_session")
        for option in OPTIONS:
            self.declare_parameter(option.name, option.default, option.descriptor())
        workspace = Path(self.value("workspace")) if self.value("workspace") else None
        self._config = robot_config.load(self.value("robot"), workspace)
        simulated = self._config.arm.driver == "sim"
        if not (simulated or self.value("attended")):
            raise SettingsError("a real arm is not run without a person: set attended to true, and stay with it.")
        if not self.value("plan") or not self.value("session"):
            raise SettingsError("a session needs a plan and a folder: set the parameters plan and session.")
        self._plan = plans.load(Path(self.value("plan")).expanduser())
        self._start_kind = self.value("start") or ("scene" if simulated else "guided")
        if self._start_kind not in ("scene", "guided") or (self._start_kind == "scene" and not simulated):
            raise SettingsError(
                f"start {self._start_kind!r} does not fit this robot; use guided, or scene if simulated."
            )
        self._words = Words()
        self._board = Board(self._plan.name, len(plans.order(self._plan)), [c.name for c in self._config.cameras])
        self._images: dict[str, Image] = {}
        self._at = 0.0
        self._where: Pose | None = None
        self._tape: Tape | None = None
        self._client = ArmClient(self, self.value("arm"), self.value("patience"))
        self._client.listeners.append(lambda status: None if self._tape is None else self._tape.status(status))
        self._policy = PolicySwitch(self, self.value("policy"), self._client)
        self._driver = EpisodeDriver(self._client, self._policy, self._words, self._say)
        cameras = {camera.name: address_of(camera.name, self.get_namespace()) for camera in self._config.cameras}
        self._receiver = FrameReceiver(cameras, images=True)
        self._listen()
        self._page = self._open_page()

    def value(self, name: str) -> Any:
        """A parameter's value."""
        return self.get_parameter(name).value

    def play_all(self) -> None:
        """Plays what is left of the plan.

        Raises:
            SettingsError: The folder holds another session, or the plan does not fit the scene.
            RobotFault: Something that a session needs is not there.
        """
        self._scene = self._simulation()
        with history.open_session(Path(self.value("session")).expanduser(), self._plan) as folder:
            for number, result in folder.recovered:
                self._say(f"episode {number} had been left open and is closed as {result.outcome}")
            self._served = Served(folder.path)
            self._path = folder.path
            while (chosen := plans.upcoming(self._plan, history.played(folder.path))) is not None:
                self._board.count(history.played(folder.path))
                while self._words.paused:
                    self._client.look(0.1)
                if self._play(folder, chosen) == "infrastructure":
                    self._rest()
            self._say(f"the plan is done: {len(history.played(folder.path))} episodes")

    def _rest(self) -> None:
        """Gives what has died time to be noticed and started again, before that costs another attempt."""
        until = time.monotonic() + RECOVERY
        while time.monotonic() < until:
            self._client.look(0.1)

    def _play(self, folder: SessionFolder, chosen: plans.Next) -> Outcome:
        """Plays and records one episode; returns how it ended."""
        slot, task = chosen.slot, self._plan.tasks[chosen.slot.task]
        server = self._server(slot.policy)
        self._wait_for_arm()
        self._served.wait_for_lesson(self.value("lesson_wait"), lambda: self._client.look(0.1))
        patience = self.value("patience")
        version = self._served.version(server, patience, lambda: self._client.look(0.0))
        swapped = self._served.update(server, version)
        if swapped:
            version = self._served.version(server, patience, lambda: self._client.look(0.0))
        spec = self._config.action
        info = history.episode_info(
            self._plan,
            chosen,
            version=version,
            rate=spec.rate,
            scale=spec.position_scale,
            robot=self.value("robot") if self._scene is None else "simulation",
            operator=self.value("operator"),
        )
        info = msgspec.structs.replace(
            info,
            cameras=tuple(camera.name for camera in self._config.cameras),
            stage_names=task.stages or (() if self._scene is None else self._scene.stages),
        )
        steps = math.ceil(task.time_limit * spec.rate)
        job = Job(server, task.instruction, self._plan.temperature, steps, spec.rate)
        attended = self.value("attended")
        flow = Flow(task.time_limit, confirm_start=attended, confirm_label=attended)
        with folder.begin(info) as recorder:
            waits = self._client.status.waits
            self._tape = Tape(recorder, info.policy, info.stage_names, waits=waits)
            if swapped:
                self._tape.event("swap", f"version {self._served.number}", swapped)
            self._board.episode, self._board.task = slot.number + 1, task.instruction
            self._say(f"{plans.alias(self._plan, slot.number)}, attempt {chosen.attempt}: {task.instruction}")
            try:
                self._driver.play(flow, job, self._start(slot, steps), self._tape, lambda: recorder.problem)
            finally:
                self._tape = None
            return self._close(flow, recorder)

    def _wait_for_arm(self) -> None:
        """Waits until the arm node reports and a person has ended its fault, however long that takes them.

        Raises:
            RobotFault: The arm node does not report.
        """
        self._client.until(lambda: not self._client.silent, "the arm node does not report; is it running?")
        if self._client.status.level == "FAULT":
            self._say(f"the arm has a fault: {self._client.status.detail}. Acknowledge it, and the session goes on")
        while self._client.status.level == "FAULT":
            self._client.look(0.1)

    def _close(self, flow: Flow, recorder: EpisodeRecorder) -> Outcome:
        if flow.outcome is None:
            raise RobotFault("the episode ended without an outcome")
        result = recorder.close(flow.outcome, reason=flow.reason, labelled_by=flow.labelled_by)
        why = f": {result.reason}" if result.reason else ""
        self._say(f"episode {recorder.number} is recorded as {result.outcome}{why}, {result.duration:.1f} s")
        return flow.outcome

    def _start(self, slot: plans.Slot, steps: int) -> Start:
        if self._start_kind == "scene":
            return SimStart(self._client, slot.start, self._plan.seed, steps)
        config = self._config
        driver = ResetDriver(self._client, self._command, config.action, config.safety.workspace)
        reference = Reference(self._path, slot.task, slot.start)
        return GuidedStart(reference, StartTolerance(), driver, self._policy, self._look, self._ask)

    def _look(self) -> tuple[float, Look]:
        """The arm's clock [s], where the tool is and what the cameras see.

        Raises:
            RobotFault: The arm node does not report.
        """
        self._client.until(lambda: self._where is not None and bool(self._at), "the arm node reports no pose")
        assert self._where is not None  # noqa: S101  (waited for)
        return self._at, Look(self._where.position, self._where.quaternion, dict(self._images))

    def _ask(self, text: str) -> None:
        """Asks the person for something and waits until they say go, however long that takes.

        Raises:
            RobotFault: The person gives up.
        """
        self._say(text)
        while self.value("attended") and not self._words.went():
            self._client.look(0.05)

    def _command(self, command: Command) -> None:
        self._commands.publish(command_message(command))

    def _server(self, policy: int) -> str:
        """Address of a policy's server."""
        own = self._plan.policies[policy].server
        base, _, port = str(self.value("server")).rpartition(":")
        return own or f"{base}:{int(port) + policy}"

    def _simulation(self) -> sim_link.Description | None:
        """The scene, if the arm is simulated.

        Raises:
            SettingsError: It is of another task than the plan's.
        """
        if self._config.arm.driver != "sim":
            return None
        scene = wait_for_scene(self.value("scene"), self.value("patience"), lambda: self._client.look(0.0))
        for task in self._plan.tasks:
            if (task.suite, task.task) != (scene.suite, scene.task):
                raise SettingsError(
                    f"the plan has task {task.task} of {task.suite!r}, the scene is task {scene.task} of "
                    f"{scene.suite!r}: a simulated session plays the tasks of one scene; write a plan for each task."
                )
            if unknown := [start for start in task.starts if start >= scene.init_states]:
                raise SettingsError(f"starts {unknown} do not exist: the task has 0 to {scene.init_states - 1}.")
        return scene

    def _listen(self) -> None:
        arm = self.value("arm")
        self.create_subscription(String, f"{arm}/executed", self._executed, 200)
        self.create_subscription(String, f"{self.value('policy')}/reply", self._reply, 200)
        self.create_subscription(Float64MultiArray, f"{arm}/proprio", self._proprio, 100)
        self.create_subscription(JointState, f"{arm}/joint_states", self._joints, 100)
        self.create_subscription(PoseStamped, f"{arm}/reference", self._reference, 100)
        self.create_subscription(PoseStamped, f"{arm}/pose", self._pose, 10)
        self._commands = self.create_publisher(Float64MultiArray, f"{arm}/command", 10)
        self.create_subscription(String, "~/say", self._said, 10)
        self._state = self.create_publisher(String, "~/state", LATCHED)
        for name in ("go", "success", "failure", "abort", "pause", "resume"):
            service = f"label_{name}" if name in ("success", "failure") else name
            self.create_service(Trigger, f"~/{service}", lambda _, response, word=name: self._word(word, response))
        self.create_timer(0.02, self._frames, clock=_steady())

    def _word(self, word: str, response: Trigger.Response) -> Trigger.Response:
        self._words.say(word)
        response.success, response.message = True, f"heard: {word}"
        return response

    def _said(self, message: String) -> None:
        word, _, reason = message.data.partition(":")
        try:
            self._words.say(word.strip(), reason.strip())
        except SettingsError as error:
            self.get_logger().warning(str(error))

    def _frames(self) -> None:
        for sighting in self._receiver.arrivals(0.0):
            if sighting.image is None:
                continue
            self._images[sighting.header.camera] = sighting.image
            if self._tape is not None:
                self._tape.frame(sighting.header.camera, sighting.image, sighting.header.captured)

    def _executed(self, message: String) -> None:
        if self._tape is not None:
            self._heed(lambda tape: tape.executed(traffic.decode(message.data, traffic.Executed)))

    def _reply(self, message: String) -> None:
        if self._tape is not None:
            self._heed(lambda tape: tape.reply(traffic.decode(message.data, traffic.Reply)))

    def _proprio(self, message: Float64MultiArray) -> None:
        try:
            self._at, values = proprio_of(message)
        except WireError as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)
            return
        if self._tape is not None:
            self._tape.proprio(self._at, values)

    def _pose(self, message: PoseStamped) -> None:
        self._where = pose_of(message)

    def _joints(self, message: JointState) -> None:
        if self._tape is not None:
            self._tape.joints(list(message.position[:7]), list(message.velocity[:7]))

    def _reference(self, message: PoseStamped) -> None:
        if self._tape is not None:
            pose = pose_of(message)
            self._tape.reference(pose.position.tolist(), rotation.to_vector(pose.quaternion).tolist())

    def _heed(self, work: Any) -> None:
        if self._tape is None:
            return
        try:
            work(self._tape)
        except WireError as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)

    def _say(self, text: str) -> None:
        self.get_logger().info(text)
        self._board.text = text
        self._state.publish(String(data=msgspec.json.encode(self._shown()).decode()))

    def _shown(self) -> dict[str, Any]:
        status = self._client.status if self._client.reports else None
        return self._board.show(self._driver.flow, status, paused=self._words.paused)

    def _open_page(self) -> LivePage | None:
        if not self.value("page"):
            return None
        page = LivePage(self.value("page"), self._shown, self._picture, self._words.say)
        self.get_logger().info(f"the page of this session: {page.address}")
        return page

    def _picture(self, camera: str) -> bytes | None:
        image = self._images.get(camera)
        return None if image is None or not jpeg.available() else jpeg.encode(image)


def _steady() -> rclpy.clock.Clock:
    return rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)


def main(args: list[str] | None = None) -> int:
    """Entry point of ``tgrpo_session_node``."""
    return run_plain("tgrpo_session", SessionNode, SessionNode.play_all, args)


if __name__ == "__main__":
    sys.exit(main())
