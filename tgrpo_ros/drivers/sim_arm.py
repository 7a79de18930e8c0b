"""The arm of a simulated scene, and its cameras."""

from __future__ import annotations

import math
import time

import numpy as np

from tgrpo import sim_link
from tgrpo.errors import RobotFault
from tgrpo_ros.drivers.base import Frame, Intrinsics
from tgrpo_ros.drivers.sim_scene import ANSWER_PATIENCE, SceneLink
from tgrpo_ros.motion import ArmState, Pose, Reference


class SimArm:
    """Drives a scene; see :class:`tgrpo_ros.drivers.base.Arm`.

    At pace ``fast`` the scene's own clock is the steady clock, and it advances with each :meth:`follow`: a policy may
    think as long as it likes without anything growing stale.

    Attributes:
        description: What the scene is.
        success: Whether the task is completed, after the newest step.
        stage: Stages of the task that are complete.
        steps: Control steps done since the start of the scene; a reset counts as one.
        episode: Resets of the scene.
    """

    simulated = True

    def __init__(self, address: str) -> None:
        """Connects to a running scene.

        Args:
            address: Of the scene.

        Raises:
            RobotFault: It does not answer.
        """
        self._link = SceneLink(address)
        self._closed = False
        try:
            self.description = self._link.ask(sim_link.Describe(), sim_link.Description)
            self._note(self._link.ask(sim_link.Report(), sim_link.State))
        except RobotFault:
            self.close()
            raise
        self._started = False

    def now(self) -> float:
        """The scene's clock at pace ``fast``, else this machine's [s]."""
        return time.monotonic() if self.description.pace == "real" else self._state.received

    def state(self) -> ArmState:
        """The newest report; in real time it is asked for, as the scene moves by itself."""
        if self.description.pace == "real" and not self._closed:
            self._note(self._link.ask(sim_link.Report(), sim_link.State))
        return self._state

    def start(self) -> None:
        """Takes control."""
        self._ask(sim_link.Stay())
        self._started = True

    def follow(self, reference: Reference) -> None:
        """Sets the target; at pace ``fast`` the scene then does one control step.

        Raises:
            ValueError: The reference is not finite.
        """
        pose = reference.pose
        if not (np.isfinite(pose.position).all() and np.isfinite(pose.quaternion).all()):
            raise ValueError("a reference must be finite")
        if self._started:
            position, quaternion = tuple(pose.position.tolist()), tuple(pose.quaternion.tolist())
            self._ask(sim_link.Follow(position=position, quaternion=quaternion))

    def grip(self, close: bool) -> None:
        """Closes or opens the gripper from the next step on."""
        self._ask(sim_link.Grip(close=close))

    def stop(self) -> None:
        """Holds the present pose until :meth:`start`."""
        if not self._closed:
            self._ask(sim_link.Stay())
        self._started = False

    def recover(self) -> None:
        """A simulated arm has no reflexes.

        Raises:
            RobotFault: Always: there is none.
        """
        raise RobotFault("recovery refused: a simulated arm has no reflexes.")

    def reset(self, init_state: int, seed: int = 0) -> None:
        """Starts an episode from a recorded initial state.

        Raises:
            RobotFault: There is no such state.
        """
        self._ask(sim_link.Reset(init_state=init_state, seed=seed))

    def close(self) -> None:
        """Disconnects; the scene stays."""
        if not self._closed:
            self._closed = True
            self._link.close()

    def _ask(self, request: sim_link.Message) -> None:
        self._note(self._link.ask(request, sim_link.State))

    def _note(self, state: sim_link.State) -> None:
        self.success, self.stage = state.success, state.stage
        self.steps, self.episode = state.step, state.episode
        self._state = ArmState(
            time=state.time,
            received=state.stamp if self.description.pace == "real" else state.time,
            pose=Pose(np.array(state.position), np.array(state.quaternion)),
            joints=np.array(state.joints),
            joint_velocities=np.array(state.joint_velocities),
            fingers=np.array(state.fingers),
            proprio=np.array(state.proprio, np.float32),
        )


class SimCamera:
    """One view of a scene; see :class:`tgrpo_ros.drivers.base.Camera`.

    Attributes:
        intrinsics: Of the virtual pinhole camera.
    """

    still = True

    def __init__(self, address: str, name: str) -> None:
        """Connects to a running scene.

        Args:
            address: Of the scene.
            name: Of the view.

        Raises:
            RobotFault: The scene does not answer or does not render this view.
        """
        self.name = name
        self._link = SceneLink(address)
        self._closed = False
        self._after = -1
        description = self._link.ask(sim_link.Describe(), sim_link.Description)
        self.intrinsics = _pinhole(description, name)
        self._real = description.pace == "real"
        if name not in description.cameras:
            self.close()
            raise RobotFault(f"the scene renders {', '.join(description.cameras)}, not {name!r}; add it to its cameras")

    def read(self, timeout: float) -> Frame | None:
        """The picture after the newest control step.

        Args:
            timeout: How long to wait for a new step [s].
        """
        if self._closed:
            return None
        request = sim_link.Look(after=self._after, patience=timeout)
        frames = self._link.ask(request, sim_link.Frames, timeout + ANSWER_PATIENCE)
        data = frames.images.get(self.name)
        if data is None:
            return None
        self._after = frames.step
        image = np.frombuffer(data, np.uint8).reshape(frames.size, frames.size, 3)
        return Frame(image, frames.stamp if self._real else frames.time, frames.step, "simulation")

    def close(self) -> None:
        """Disconnects."""
        if not self._closed:
            self._closed = True
            self._link.close()


def _pinhole(scene: sim_link.Description, camera: str) -> Intrinsics | None:
    """Projection of one of a scene's cameras, whose pictures are square."""
    angle = dict(zip(scene.cameras, scene.fields_of_view, strict=False)).get(camera)
    if angle is None:
        return None
    focal, centre = 0.5 * scene.size / math.tan(0.5 * angle), 0.5 * (scene.size - 1)
    return Intrinsics(width=scene.size, height=scene.size, focal=(focal, focal), centre=(centre, centre))
