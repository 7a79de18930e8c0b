"""A LIBERO scene as a robot, in a process of its own: `tgrpo sim-robot`.

It takes absolute targets as a Cartesian controller does. A target becomes LIBERO's own action, the difference to the
measured pose, so an arm that is given ``measured + action`` moves exactly as in training and evaluation.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
import tyro
import zmq
from rich.console import Console

from sim.adviser import Adviser
from sim.libero import LiberoEnv, Mode, make
from tgrpo import rotation, sim_link
from tgrpo.errors import SettingsError, SimulationError, TgrpoError, UnknownNameError
from tgrpo.rewards import StageMachine, load_stages
from tgrpo.settings import Strict, validated
from tgrpo.types import FloatArray

# Not those of sim.settings, which loads everything that training needs: a scene has to be there in seconds.
Index = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
_NO_TURN = 1e-9
"""A smaller rotation is none [rad]: for exactly none, LIBERO's controller keeps its old goal."""
_OPEN, _CLOSE = -1.0, 1.0


class SimRobotSettings(Strict, frozen=True):
    """One simulated robot."""

    suite: str = "libero_object"
    """LIBERO suite of the scene."""
    task: int | str = 0
    """Index or name of the task."""
    init_state: Index = 0
    """Recorded initial state to start from."""
    seed: Index = 0
    """Seed of fixture poses."""
    cameras: tuple[str, ...] = ("agentview",)
    """Views that are rendered when somebody looks."""
    size: Count = 224
    """Height and width of the pictures [px]."""
    mode: Mode = "fast"
    """Simulator: `exact` equals stock LIBERO in pixels and states, `fast` simplifies pictures."""
    pace: sim_link.Pace = "real"
    """`real` advances in real time, `fast` with each command."""
    address: Annotated[str, msgspec.Meta(pattern=r"^(ipc://.+|tcp://127\.0\.0\.1:\d+)$")] = "tcp://127.0.0.1:5570"
    """Where to listen: on this machine only."""
    with_parent: bool = False
    """End when standard input ends: whoever holds its other end watches over this process."""


class Scene:
    """The scene, its arm's target, and the pictures of the newest step.

    Attributes:
        step: Control steps done so far; a reset counts as one.
        period: Time of a control step [s].
    """

    def __init__(self, env: LiberoEnv, settings: SimRobotSettings) -> None:
        """Resets the scene.

        Args:
            env: The task.
            settings: Of this process.
        """
        self._env, self._settings = env, settings
        self._adviser = Adviser(env)
        self._machine = stages(env)
        self._stage = 0
        self.step, self.period = 0, 1.0 / env.action_spec.rate
        self._episode = 0
        self._success = False
        self._frames: sim_link.Frames | None = None
        self.reset(settings.init_state, settings.seed)

    def describe(self) -> sim_link.Description:
        """What the scene is."""
        env = self._env
        return sim_link.Description(
            suite=env.suite,
            task=env.task,
            name=env.name,
            instruction=env.instruction,
            cameras=env.cameras,
            size=env.size,
            pace=self._settings.pace,
            rate=env.action_spec.rate,
            max_steps=env.max_steps,
            init_states=env.n_init_states,
            stages=() if self._machine is None else self._machine.names,
            fields_of_view=tuple(math.radians(env.model.camera(name).fovy[0]) for name in env.cameras),
        )

    def reset(self, init_state: int, seed: int) -> None:
        """Starts an episode; the arm stays where it then is."""
        self._env.reset(init_state, seed)
        self._gripper = _OPEN
        self._episode += 1
        self._success, self._stage = self._env.success(), 0
        self._adviser.forget()
        if self._machine is not None:
            self._machine.reset(self._env.quantities())
        self._done(1)  # so that whoever waits for the next picture sees the new episode
        self.stay()

    def stay(self) -> None:
        """Makes the present pose the target."""
        self._target = self._env.tool_pose()

    def aim(self, position: FloatArray, quaternion: FloatArray) -> None:
        """Sets the target.

        Args:
            position: ``(3,)`` [m].
            quaternion: ``(4,)``, x y z w.

        Raises:
            SimulationError: It is not finite or no rotation.
        """
        if not np.isfinite(position).all():
            raise SimulationError(f"target position {position.tolist()} is not finite")
        try:
            self._target = (position, rotation.normalised(quaternion))
        except ValueError as error:
            raise SimulationError(str(error)) from error

    def grip(self, close: bool) -> None:
        """Closes or opens the gripper from the next step on."""
        self._gripper = _CLOSE if close else _OPEN

    def advance(self) -> None:
        """Does one control step towards the target."""
        self._success = self._env.step(self._action())
        if self._machine is not None:
            self._stage = self._machine.step(self._env.quantities()).stage
        self._done(1)

    def advise(self, *, afresh: bool) -> sim_link.Advice:
        """What the scripted expert would do next; where it knows no way it stays silent."""
        action = self._adviser.action(afresh=afresh)
        return sim_link.Advice(action=() if action is None else tuple(action.tolist()))

    def state(self) -> sim_link.State:
        """The arm and the task now."""
        position, quaternion = self._env.tool_pose()
        joints, velocities, fingers = self._env.joint_state()
        return sim_link.State(
            step=self.step,
            time=self.step * self.period,
            stamp=self._stamp,
            episode=self._episode,
            position=tuple(position.tolist()),
            quaternion=tuple(quaternion.tolist()),
            joints=tuple(joints.tolist()),
            joint_velocities=tuple(velocities.tolist()),
            fingers=tuple(fingers.tolist()),
            proprio=tuple(self._env.proprio().tolist()),
            success=self._success,
            stage=self._stage,
        )

    def frames(self, draw: bool = True) -> sim_link.Frames:
        """Pictures of the newest step, drawn once for everybody who looks; none without ``draw``."""
        if draw and self._frames is None:
            images = {name: image.tobytes() for name, image in self._env.render().items()}
            self._frames = self._pictures(images)
        return self._frames if draw and self._frames else self._pictures({})

    def _pictures(self, images: dict[str, bytes]) -> sim_link.Frames:
        time_now = self.step * self.period
        return sim_link.Frames(step=self.step, time=time_now, stamp=self._stamp, size=self._env.size, images=images)

    def _action(self) -> FloatArray:
        spec = self._env.action_spec
        position, quaternion = self._env.tool_pose()
        turn = rotation.difference(self._target[1], quaternion)
        if float(np.abs(turn).max()) < _NO_TURN:
            turn = np.zeros(3)
        translation = (self._target[0] - position) / spec.position_scale
        return np.concatenate([translation, turn / spec.rotation_scale, [self._gripper]])

    def _done(self, steps: int) -> None:
        self.step += steps
        self._stamp = time.monotonic()
        self._frames = None


def stages(env: LiberoEnv) -> StageMachine | None:
    """The stage machine of a task; None where the task has no stage file."""
    try:
        return StageMachine(load_stages(env.suite, env.name))
    except UnknownNameError:
        return None


@dataclass
class _Waiting:
    client: bytes
    after: int
    until: float


class Server:
    """Answers requests between control steps."""

    def __init__(self, scene: Scene, settings: SimRobotSettings, socket: zmq.Socket[bytes]) -> None:
        """Starts the clock.

        Args:
            scene: What it serves.
            settings: Of this process.
            socket: A bound ROUTER.
        """
        self._scene, self._socket = scene, socket
        self._real = settings.pace == "real"
        self._due = time.monotonic() + scene.period
        self._waiting: list[_Waiting] = []
        self._poller = zmq.Poller()
        self._poller.register(socket, zmq.POLLIN)
        self._parent = sys.stdin.fileno() if settings.with_parent else None
        if self._parent is not None:
            self._poller.register(self._parent, zmq.POLLIN)

    def turn(self) -> bool:
        """Waits for the next request or step and does it.

        Returns:
            False when the parent is gone.
        """
        now = time.monotonic()
        if self._real and now >= self._due:
            self._scene.advance()
            # A machine that is too slow makes the scene slow; it does not catch up in a burst.
            self._due = max(self._due + self._scene.period, time.monotonic() - self._scene.period)
        self._serve_waiting()
        ready = dict(self._poller.poll(int(self._patience() * 1000.0)))
        if self._parent is not None and self._parent in ready and not os.read(self._parent, 4096):
            return False
        if self._socket in ready:
            frames = self._socket.recv_multipart()
            self._answer(frames[0], frames[-1])
        return True

    def _patience(self) -> float:
        ends = [waiting.until for waiting in self._waiting]
        if self._real:
            ends.append(self._due)
        return max(0.0, min([*ends, time.monotonic() + 1.0]) - time.monotonic())

    def _answer(self, client: bytes, data: bytes) -> None:
        try:
            request = sim_link.decode_request(data)
            if isinstance(request, sim_link.Look):
                self._waiting.append(_Waiting(client, request.after, time.monotonic() + min(request.patience, 10.0)))
                return
            reply: sim_link.Message = self._do(request)
        except TgrpoError as error:
            reply = sim_link.Refused(reason=str(error))
        self._socket.send_multipart([client, sim_link.encode(reply)])

    def _do(self, request: sim_link.Request) -> sim_link.Message:
        scene = self._scene
        if isinstance(request, sim_link.Describe):
            if request.version != sim_link.VERSION:
                raise SettingsError(f"client speaks version {request.version}, this is {sim_link.VERSION}")
            return scene.describe()
        if isinstance(request, sim_link.Follow):
            scene.aim(np.array(request.position), np.array(request.quaternion))
            if not self._real:
                scene.advance()
        elif isinstance(request, sim_link.Grip):
            scene.grip(request.close)
        elif isinstance(request, sim_link.Stay):
            scene.stay()
        elif isinstance(request, sim_link.Advise):
            return scene.advise(afresh=request.afresh)
        elif isinstance(request, sim_link.Reset):
            scene.reset(request.init_state, request.seed)
        return scene.state()

    def _serve_waiting(self) -> None:
        now, scene = time.monotonic(), self._scene
        rest = []
        for waiting in self._waiting:
            new = scene.step > waiting.after
            if not new and now < waiting.until:
                rest.append(waiting)
                continue
            self._socket.send_multipart([waiting.client, sim_link.encode(scene.frames(draw=new))])
        self._waiting = rest


def main(argv: list[str]) -> int:
    """``tgrpo sim-robot``: a LIBERO scene that is driven like an arm, until it is interrupted."""
    settings = validated(tyro.cli(SimRobotSettings, prog="tgrpo sim-robot", args=argv))
    console = Console(stderr=True)
    env = make(settings.suite, settings.task, settings.mode, settings.cameras, settings.size)
    context = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    socket.linger, socket.maxmsgsize = 0, sim_link.LIMIT
    try:
        try:
            socket.bind(settings.address)
        except zmq.ZMQError as error:
            raise SettingsError(f"cannot listen at {settings.address}: {error}. Choose another --address.") from error
        scene = Scene(env, settings)
        scene.frames()  # the first pictures take seconds; nobody waits for them yet
        server = Server(scene, settings, socket)
        console.print(f"simulated arm at {settings.address}: {env.instruction}", highlight=False)
        with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
            while server.turn():
                pass
    finally:
        socket.close()
        context.term()
        env.close()
    return 0
