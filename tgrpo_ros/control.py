"""The control loop: one thread that owns the arm and its safety layer, on the steady clock.

Whoever else has something to say hands it over as a job, which this thread does between two ticks; so nothing here
needs a lock.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from tgrpo.errors import RobotFault, TgrpoError
from tgrpo_ros.drivers.base import Arm
from tgrpo_ros.frames import Header
from tgrpo_ros.meter import Meter
from tgrpo_ros.motion import ArmState, Command, Source
from tgrpo_ros.safety import Guard, Level, Output, SafetySettings
from tgrpo_ros.safety.health import moving
from tgrpo_ros.sim_episode import SimEpisode
from tgrpo_ros.status import ArmStatus

ANSWER = 35.0
"""How long a call may take [s]: longer than the slowest answer of a driver."""
IDLE_REPORT = 0.1
"""Time between two reports of a scene that waits [s]."""
END = 5.0
"""How long the thread may take to end [s]."""
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Report:
    """What there is to know after a tick."""

    now: float
    """Steady clock of the arm [s]."""
    began: float
    """The same when the newest tick began, which a step of a scene that waits is part of [s]."""
    state: ArmState | None
    output: Output | None
    status: ArmStatus


class ControlLoop:
    """Ticks the safety layer and drives the arm until it is closed.

    At a real arm, and at a scene in real time, a tick comes every period. A scene that waits is ticked once for each
    action of a command, and only after every camera has shown the step before: then nothing depends on how fast anybody
    is, and an episode is the same each time.

    Attributes:
        meter: Of the ticks.
        failure: Why the loop has ended by itself; empty while it runs.
    """

    def __init__(
        self,
        arm: Arm,
        guard: Guard,
        settings: SafetySettings,
        listener: Callable[[Report], None],
        *,
        every: int = 1,
        scene: SimEpisode | None = None,
        cameras: Iterable[str] = (),
    ) -> None:
        """Prepares; nothing moves before :meth:`start` and :meth:`arm`.

        Args:
            arm: Used by this loop alone from now on.
            guard: The safety layer, used by this loop alone.
            settings: Those of the safety layer; its rate is that of the ticks.
            listener: Told about every so many ticks, and at once when the level, its reason or the source changes.
            every: Ticks between two reports.
            scene: Of a simulated arm.
            cameras: Names of those that a scene that waits is waiting for.
        """
        self._arm, self._guard, self._listener = arm, guard, listener
        self._period, self._every, self._scene = 1.0 / settings.rate, every, scene
        self._lease_time = settings.watchdogs.command_stop
        self._holdover = int(settings.handover.human_holdover * settings.rate) + 2
        self._waits = scene is not None and scene.waits
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._seen = dict.fromkeys(cameras, -1)
        self._heard: dict[Source, float] = {}
        self._pending = self._ticks = self._missed = 0
        self._began = 0.0
        self._halted = False
        self._told: tuple[object, ...] = ()
        self._output: Output | None = None
        self._state: ArmState | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self.meter = Meter()
        self.failure = ""

    def start(self) -> None:
        """Begins to tick."""
        self._thread.start()

    def close(self) -> None:
        """Stops the arm and ends the thread; the arm stays open. May be called more than once."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(END)

    def submit(self, command: Command) -> None:
        """Hands over a command, without waiting for what becomes of it; see :attr:`ArmStatus.refused`."""
        self._jobs.put(lambda: self._take(command))

    def keep(self, source: Source, session: str) -> None:
        """Acquires a lease, or keeps it alive."""
        self._jobs.put(lambda: self._keep(source, session))

    def release(self, source: Source, session: str) -> None:
        """Gives a lease back."""
        self._jobs.put(lambda: self._guard.arbiter.release(source, session))

    def see(self, header: Header) -> None:
        """Reports a picture of a camera."""
        self._jobs.put(lambda: self._see(header))

    def limit_steps(self, steps: int) -> None:
        """Ends episodes of a simulated arm after so many control steps; 0 for no limit."""
        if self._scene is not None:
            self._scene.max_steps = steps

    def arm(self) -> str:
        """Lets the arm run. A person's decision.

        Raises:
            RobotFault: A reason not to run holds, or the robot does not permit it.
        """
        return self._call(self._do_arm)

    def stop(self, who: str) -> str:
        """Brakes to a stop.

        Raises:
            RobotFault: The loop does not run; then nothing drives the arm.
        """
        return self._call(lambda: self._do_stop(who))

    def acknowledge(self) -> str:
        """Ends a fault whose cause is gone. A person's decision.

        Raises:
            RobotFault: There is none, or its cause still holds.
        """
        return self._call(self._do_acknowledge)

    def recover(self) -> str:
        """Clears a reflex of the robot, without moving. A person's decision.

        Raises:
            RobotFault: There is none, or there were too many.
        """
        return self._call(self._do_recover)

    def reset(self, init_state: int, seed: int) -> str:
        """Stops, and begins an episode of a simulated arm, which then waits to be armed.

        Raises:
            RobotFault: The arm is real, or there is no such state.
        """
        return self._call(lambda: self._do_reset(init_state, seed))

    def _call(self, job: Callable[[], T]) -> T:
        if not self._thread.is_alive():
            raise RobotFault(f"the arm's control loop does not run. {self.failure or 'Activate the node.'}")
        answer: Future[T] = Future()

        def work() -> None:
            try:
                answer.set_result(job())
            except RobotFault as error:
                answer.set_exception(error)

        self._jobs.put(work)
        try:
            return answer.result(ANSWER)
        except TimeoutError as error:
            raise RobotFault("the arm's control loop does not answer; use the enabling device.") from error

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._closing.is_set():
                if self._waits:
                    if not self._wait_for_step():
                        continue
                else:
                    due = self._wait_until(due)
                self._tick()
        except TgrpoError as error:
            _log.error("the control loop has ended: %s", error)
            self.failure = str(error)
        except Exception as error:  # noqa: BLE001  (whatever a driver raises, the arm is stopped and people are told)
            _log.exception("the control loop has failed")
            self.failure = str(error) or type(error).__name__
        finally:
            self._guard.stop(self._arm.now(), "the end of the control loop")
            with contextlib.suppress(Exception):
                self._arm.stop()

    def _wait_until(self, due: float) -> float:
        """Does jobs until a tick is due; returns when the next one will be."""
        while (left := due - time.monotonic()) > 0.0:
            self._work(left)
        behind = int(-left / self._period)
        self._missed += behind
        return due + (1 + behind) * self._period

    def _wait_for_step(self) -> bool:
        """Does jobs until the scene may advance, or for a moment; returns whether it may."""
        until = time.monotonic() + IDLE_REPORT
        while not self._may_step() and not self._closing.is_set():
            if (left := until - time.monotonic()) <= 0.0:
                self._expire()
                self._tell(always=True)
                return False
            self._work(left)
            self._tell(always=False)
        return True

    def _may_step(self) -> bool:
        step = 0 if self._scene is None else self._scene.step
        return self._pending > 0 and all(seen >= step for seen in self._seen.values())

    def _work(self, timeout: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._jobs.get(timeout=timeout)()

    def _tick(self) -> None:
        arm = self._arm
        state, now = arm.state(), arm.now()
        self._began = now
        output = self._guard.tick(now, state if self._waits else self._at_rest(state))
        self.meter.tick(time.monotonic())
        if output.gripper is not None:
            arm.grip(output.gripper)
        if output.reference is not None:
            arm.follow(output.reference)
        if output.halt and not self._halted:
            self._halted = True
            arm.stop()
        self._output, self._state = output, state
        self._ticks, self._pending = self._ticks + 1, max(0, self._pending - 1)
        self._end_episode()
        self._tell(always=self._waits or output.action is not None or self._ticks % self._every == 0)

    def _end_episode(self) -> None:
        if self._scene is not None and self._guard.ladder.level < Level.DECELERATE and (why := self._scene.over()):
            self._do_stop(f"the scene, where {why},")

    def _tell(self, *, always: bool) -> None:
        status = self._status()
        now = (status.level, status.reason, status.source, status.episode, *status.leases.items())
        if always or now != self._told:
            self._told = now
            # A scene that waits has done the step of this tick already; anything else is asked once a tick.
            state = self._arm.state() if self._waits else self._state
            self._listener(Report(self._arm.now(), self._began, state, self._output, status))

    def _status(self) -> ArmStatus:
        ladder, arbiter, scene = self._guard.ladder, self._guard.arbiter, self._scene
        held = {source: arbiter.holder(source) for source in (Source.POLICY, Source.RESET, Source.HUMAN)}
        return ArmStatus(
            level=ladder.level.name,  # type: ignore[arg-type]
            reason="" if ladder.reason is None else ladder.reason.name,
            detail="" if ladder.reason is None else ladder.reason.detail,
            source="" if arbiter.active is None else arbiter.active.name.lower(),
            leases={source.name.lower(): session for source, session in held.items() if session},
            refused=dict(arbiter.refused),
            starved=self._guard.starved,
            missed=self._missed,
            waits=self._waits,
            episode=0 if scene is None else scene.number,
            steps=0 if scene is None else scene.steps,
            success=False if scene is None else scene.success,
            stage=0 if scene is None else scene.stage,
        )

    def _take(self, command: Command) -> None:
        now = self._arm.now()
        self._heard[command.source] = time.monotonic()
        if self._waits:
            if command.source is Source.HUMAN:
                command = replace(command, observed=now)
            elif abs(command.observed - now) > 0.5 * self._period:
                return  # decided on another step than the one the scene is at; its sender will see that and ask again
        if self._guard.submit(command, now):
            return
        # Who lets go keeps the arm for a moment, which a scene that waits has to live through.
        self._pending = len(command.actions) if command.engaged else self._holdover

    def _keep(self, source: Source, session: str) -> None:
        try:
            self._guard.arbiter.acquire(source, session, self._arm.now())
        except RobotFault as error:
            refused = self._guard.arbiter.refused
            refused["lease held"] = refused.get("lease held", 0) + 1
            _log.debug("%s", error)
            return
        self._heard[source] = time.monotonic()

    def _expire(self) -> None:
        """Takes leases of sources that are gone: the clock of a scene that waits does not show how long."""
        for source, heard in list(self._heard.items()):
            holder = self._guard.arbiter.holder(source)
            if holder is not None and time.monotonic() - heard > self._lease_time:
                self._guard.arbiter.release(source, holder)

    def _see(self, header: Header) -> None:
        if header.camera in self._seen:
            self._seen[header.camera] = header.sequence
        self._guard.watch.see(header.camera, header.captured, header.digest, self._arm.now())

    def _do_arm(self) -> str:
        now = self._arm.now()
        self._guard.arm(now, self._state_to_arm_in())
        try:
            self._arm.start()
        except RobotFault:
            self._guard.stop(now, "the robot, which did not start,")
            raise
        self._pending, self._halted = 0, False
        if self._scene is not None:
            self._scene.begin()
        return "the arm runs"

    def _state_to_arm_in(self) -> ArmState:
        """The arm's report; see :meth:`_at_rest`.

        Raises:
            RobotFault: A scene that waits was stopped in the middle of a motion.
        """
        state = self._at_rest(self._arm.state())
        if self._waits and moving(state):
            raise RobotFault(
                "not armed: the scene was stopped in the middle of a motion, and as its clock stands its arm never "
                "comes to rest. Call ~/reset, then arm it."
            )
        return state

    def _at_rest(self, state: ArmState) -> ArmState:
        """A report; at the start of an episode that of an arm at rest: in some recorded states it still sways."""
        if self._scene is None or self._scene.steps:
            return state
        return replace(state, joint_velocities=np.zeros(7))

    def _do_stop(self, who: str) -> str:
        self._guard.stop(self._arm.now(), who)
        self._pending = 0
        return self._guard.ladder.describe()

    def _do_acknowledge(self) -> str:
        self._guard.acknowledge(self._arm.now(), self._arm.state())
        return "acknowledged; arm the robot to move"

    def _do_recover(self) -> str:
        self._guard.recover(self._arm.now(), self._arm.state())
        self._arm.recover()
        return "the reflex is cleared; acknowledge the fault, then arm the robot to move"

    def _do_reset(self, init_state: int, seed: int) -> str:
        if self._scene is None:
            raise RobotFault("reset refused: this arm is real. Guide it home, or let a person drive it there.")
        self._do_stop("a reset")
        self._scene.reset(init_state, seed)
        return f"episode {self._scene.number} begins at initial state {init_state}"
