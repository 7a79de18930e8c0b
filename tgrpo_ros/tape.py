"""Turns what is heard while an episode runs into the streams of its recording. No ROS here.

Actions, replies and pictures arrive over ways of their own, in any order; every message carries the time at which what
it is about happened, on the clock of the arm. A scene that waits has a clock of its own, which is laid beside this
machine's at the start of the episode.
"""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from tgrpo.record.recorder import EpisodeRecorder
from tgrpo.record.streams import (
    Action,
    Event,
    EventKind,
    PolicyReply,
    PolicyRequest,
    RobotState,
    Stage,
    Stamp,
    now,
    numbers,
)
from tgrpo.types import Image
from tgrpo_ros.status import ArmStatus
from tgrpo_ros.traffic import Executed, Reply

PATIENCE = 0.15
"""How long an action waits for the reply that it came of [s]; less than two flushes of the recording."""


class Tape:
    """Writes one episode, from :meth:`begin` on.

    Attributes:
        steps: Control steps so far.
        human_steps: Those in which a person was in control.
        moved: Machine's steady time of the newest control step [s].
    """

    def __init__(self, recorder: EpisodeRecorder, policy: str, stages: tuple[str, ...], *, waits: bool) -> None:
        """Keeps the newest picture and state until it begins.

        Args:
            recorder: Of this episode.
            policy: Name of the policy.
            stages: Names of the stages of the task.
            waits: The arm's clock is that of a scene that waits.
        """
        self._recorder, self._policy, self._stages, self._waits = recorder, policy, stages, waits
        self._offset: float | None = None if waits else 0.0
        self._latest = 0.0
        self._replies: dict[int, tuple[int, Reply]] = {}
        self._requests = 0
        self._waiting: deque[tuple[float, Executed]] = deque()
        self._plan: tuple[int, Reply, int] | None = None
        self._source, self._level, self._stage = "policy", "RUN", 0
        self._begun = False
        self._early: dict[str, tuple[Image, float]] = {}
        self._state: RobotState | None = None
        self._joints: tuple[list[float], list[float]] = ([], [])
        self.steps = self.human_steps = 0
        self.moved = time.monotonic()

    def begin(self) -> None:
        """The rollout begins: what is known of its start is written, and everything from now on."""
        self._begun, self.moved = True, time.monotonic()
        for camera, (image, captured) in self._early.items():
            self.frame(camera, image, captured)

    def frame(self, camera: str, image: Image, captured: float) -> None:
        """A picture that was taken at a time of the arm's clock [s]."""
        if self._begun:
            self._recorder.frame(camera, image, self._stamp(captured))
        else:
            self._early[camera] = image, captured

    def proprio(self, at: float, values: NDArray[np.float32]) -> None:
        """What the arm measured: position, axis-angle and fingers ``(8,)``."""
        if self._begun:
            self._write_state()
        position, axis_angle, fingers = (values[:3], values[3:6], values[6:])
        joints, velocities = self._joints
        self._state = RobotState(
            at=self._stamp(at),
            position=numbers(position),
            axis_angle=numbers(axis_angle),
            fingers=numbers(fingers),
            joints=list(joints),
            joint_velocities=list(velocities),
        )

    def joints(self, positions: list[float], velocities: list[float]) -> None:
        """Joint positions ``(7,)`` [rad] and velocities [rad/s] of the newest report."""
        self._joints = positions, velocities

    def reference(self, position: list[float], axis_angle: list[float]) -> None:
        """What the arm was told to follow when the newest report was made."""
        if self._state is not None:
            self._state = replace(self._state, commanded_position=position, commanded_axis_angle=axis_angle)
            if self._begun:
                self._write_state()

    def reply(self, reply: Reply) -> None:
        """A request to the policy and what became of it."""
        number, self._requests = self._requests, self._requests + 1
        if reply.sequence >= 0:
            self._replies[reply.sequence] = number, reply
        at = self._stamp(reply.observed, reply.asked)
        self._recorder.put(PolicyRequest(at=at, request=number, step=self.steps, instruction=reply.instruction))
        self._recorder.put(
            PolicyReply(
                at=at,
                request=number,
                policy=self._policy,
                version=reply.version,
                latency=reply.latency,
                actions=reply.actions,
                tokens=reply.tokens,
                log_probs=reply.log_probs,
                error=reply.error,
            )
        )

    def executed(self, done: Executed) -> None:
        """An action that has begun."""
        if self._begun:
            self.moved = time.monotonic()
            self._waiting.append((self.moved, done))
            self.turn()

    def status(self, status: ArmStatus) -> None:
        """What the arm says of itself: holds, faults and completed stages."""
        if not self._begun:
            self._level, self._stage = status.level, status.stage
            return
        if status.level != self._level:
            self._level_changed(status)
        if status.stage != self._stage:
            reached = status.stage > self._stage
            self._stage = status.stage
            name = self._stages[status.stage - 1] if reached and status.stage <= len(self._stages) else ""
            self._recorder.put(Stage(at=self._stamp(self._latest), stage=status.stage, name=name))

    def event(self, kind: EventKind, reason: str = "", text: str = "") -> None:
        """Something that a reader must know, of this moment."""
        at = now() if self._offset is None else self._stamp(self._latest)
        self._recorder.put(Event(at=at, kind=kind, reason=reason, text=text))

    def turn(self, *, all_of_them: bool = False) -> None:
        """Writes the actions whose replies are known, or have not come in time."""
        while self._waiting:
            arrived, done = self._waiting[0]
            known = done.source != "policy" or done.sequence in self._replies
            if not (known or all_of_them or time.monotonic() - arrived > PATIENCE):
                return
            self._waiting.popleft()
            self._write_action(done)

    def finish(self) -> None:
        """Writes what is still waiting."""
        self.turn(all_of_them=True)
        self._write_state()

    def _write_action(self, done: Executed) -> None:
        wanted, request, index = self._wanted(done)
        if done.source != self._source and "human" in (done.source, self._source):
            self.event("takeover" if done.source == "human" else "handback")
        self._source = done.source
        self._recorder.put(
            Action(
                at=self._stamp(done.at),
                step=self.steps,
                source=done.source,
                executed=numbers(np.array(done.action)),
                policy=wanted,
                intervention=done.source == "human",
                request=request,
                index=index,
            )
        )
        self.steps += 1
        self.human_steps += done.source == "human"

    def _wanted(self, done: Executed) -> tuple[list[float | None], int, int]:
        """What the policy wanted at this step, of which request, and its place in that chunk.

        While somebody else moves the arm that is what is left of its last chunk.
        """
        if done.source == "policy":
            if done.sequence not in self._replies:
                return list(done.action), -1, -1
            number, reply = self._replies[done.sequence]
            self._plan = number, reply, done.index
            return list(done.action), number, done.index
        if self._plan is None:
            return [], -1, -1
        number, reply, index = self._plan
        self._plan = number, reply, index + 1
        if index + 1 >= len(reply.actions):
            return [], -1, -1
        return reply.actions[index + 1], number, index + 1

    def _level_changed(self, status: ArmStatus) -> None:
        before, self._level = self._level, status.level
        kinds: dict[str, EventKind] = {"HOLD": "hold", "FAULT": "fault", "DECELERATE": "stop", "RUN": "resume"}
        if not (before == "DECELERATE" and status.level == "RUN"):  # that is the start of the episode
            self.event(kinds[status.level], status.reason, status.detail)

    def _write_state(self) -> None:
        if self._state is not None:
            self._recorder.put(self._state)
            self._state = None

    def _stamp(self, observed: float, steady: float | None = None) -> Stamp:
        """A time of the arm's clock [s] on this machine's."""
        self._latest = max(self._latest, observed)
        if self._offset is None:
            self._offset = time.monotonic() - observed
        first, second = ((at + self._offset) * 1e9 for at in (observed, observed if steady is None else steady))
        return Stamp(observed=round(first), steady=round(second), wall=time.time_ns())
