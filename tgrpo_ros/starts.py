"""How an episode's start is made and checked: a recorded state of a scene, or what a person laid out."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import numpy as np

from tgrpo.errors import RobotFault
from tgrpo.session.reference import Look, Reference, StartTolerance
from tgrpo.spec import ActionSpec
from tgrpo_ros.arm_client import ArmClient, PolicySwitch
from tgrpo_ros.motion import Command, Pose, Source
from tgrpo_ros.reset_motion import ResetMotion, plan
from tgrpo_ros.safety.settings import Workspace

LONGEST = 60.0
"""How long the way to the start may take [s]."""


class SimStart:
    """A recorded initial state of a simulated scene, which is exact, so that nothing is left to check."""

    def __init__(self, client: ArmClient, state: int, seed: int, max_steps: int) -> None:
        """Prepares.

        Args:
            client: Of the arm node.
            state: Which recorded initial state.
            seed: Of fixture poses.
            max_steps: Control steps after which the episode is over.
        """
        self._client = client
        self._wanted = {"init_state": state, "seed": seed, "max_steps": max_steps}

    def reset(self) -> None:
        """Resets the scene.

        Raises:
            RobotFault: There is no such state, or the arm node does not answer.
        """
        self._client.begin(**self._wanted)

    def check(self) -> str:
        """Nothing is wrong with it."""
        return ""


class ResetDriver:
    """Moves the arm along a plan, with commands of the source reset, below a person's and above the policy's."""

    def __init__(self, client: ArmClient, send: Callable[[Command], None], spec: ActionSpec, box: Workspace) -> None:
        """Prepares.

        Args:
            client: Of the arm node.
            send: Publishes a command; one without actions asks for the lease, keeps it, or gives it back.
            spec: What an action means to the robot.
            box: Where the tool may be.
        """
        self._client, self._send, self._spec, self._box = client, send, spec, box
        self._session, self._sequence = "", 0

    def arm(self) -> None:
        """Lets a person move the arm.

        Raises:
            RobotFault: It refuses.
        """
        self._client.arm()

    def drive(self, goal: Pose, look: Callable[[], tuple[float, Pose]]) -> None:
        """Drives there and gives the arm back.

        Args:
            goal: The start.
            look: The arm's clock [s] and where the tool is.

        Raises:
            RobotFault: The way leaves the box, the arm stops, or a person takes it.
        """
        opens = -1.0 if self._spec.gripper == "close_positive" else 1.0
        motion = ResetMotion(plan(look()[1], goal, self._box), self._spec, opens)
        self._session, self._sequence = secrets.token_hex(6), 0
        self._lease(keep=True)
        self._client.until(
            lambda: self._client.status.leases.get("reset") == self._session, "the arm gave no lease for the reset"
        )
        try:
            self._client.arm()
            self._follow(motion, look)
        finally:
            self._lease(keep=False)

    def _follow(self, motion: ResetMotion, look: Callable[[], tuple[float, Pose]]) -> None:
        until, told = time.monotonic() + LONGEST, -1.0
        while not motion.done:
            now, pose = look()
            if now != told:  # one action for each report of the arm, at most at the rate of actions
                told = now
                self._say(motion.action(pose), now)
            status = self._client.status
            if status.source == "human":
                raise RobotFault("a person has taken the arm on its way to the start")
            if status.level in ("DECELERATE", "FAULT"):
                raise RobotFault(f"the arm stopped on its way to the start: {status.reason} {status.detail}")
            if time.monotonic() > until:
                raise RobotFault(f"the arm did not reach the start within {LONGEST:g} s, on its way {motion.doing}")
            self._client.look(0.5 / self._spec.rate)

    def _say(self, action: np.ndarray, now: float) -> None:
        self._sequence += 1
        self._send(Command(Source.RESET, self._session, self._sequence, now, action[None].astype(np.float32)))

    def _lease(self, *, keep: bool) -> None:
        nothing = np.zeros((0, self._spec.dims), np.float32)
        self._send(Command(Source.RESET, self._session, 0, 0.0, nothing, engaged=keep))


class GuidedStart:
    """A start that a person lays out once and that every later episode is brought back to and compared with."""

    def __init__(
        self,
        reference: Reference,
        tolerance: StartTolerance,
        driver: ResetDriver,
        policy: PolicySwitch,
        look: Callable[[], tuple[float, Look]],
        ask: Callable[[str], None],
    ) -> None:
        """Prepares.

        Args:
            reference: Of the task and the start position.
            tolerance: How far a start may be from it.
            driver: Moves the arm there.
            policy: Paused while somebody else moves the arm.
            look: The arm's clock [s], where the tool is and what the cameras see.
            ask: Asks the person for something and waits until they say go.
        """
        self._reference, self._tolerance, self._driver = reference, tolerance, driver
        self._policy, self._look, self._ask = policy, look, ask

    def reset(self) -> None:
        """Brings the arm to the start, once a person has laid out the scene and keeps an eye on it.

        Raises:
            RobotFault: It does not get there, or the person gives up.
        """
        self._policy.enable(on=False)
        if not self._reference.taken:
            self._ask("there is no reference of this start yet; go arms the arm for teleoperation")
            self._driver.arm()
            self._ask("bring arm and scene to the start, which becomes the reference; then go")
            return
        self._ask("lay out the scene and keep clear: the arm moves to the start. Then go")
        self._driver.drive(Pose(*self._reference.pose()), self._pose)

    def check(self) -> str:
        """What is wrong with the start; the first one is the reference."""
        _, seen = self._look()
        if not self._reference.taken:
            self._reference.take(seen)
            return ""
        return self._reference.problem(seen, self._tolerance)

    def _pose(self) -> tuple[float, Pose]:
        now, seen = self._look()
        return now, Pose(seen.position, seen.quaternion)
