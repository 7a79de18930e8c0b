"""Runs one episode: does what its flow asks for, and tells the flow what happened. The only place that knows both."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from tgrpo.errors import RobotFault
from tgrpo.session.flow import Do, Flow, State
from tgrpo_ros.arm_client import ArmClient, PolicySwitch
from tgrpo_ros.tape import Tape
from tgrpo_ros.words import Words

STALL = 30.0
"""A rollout in which nothing has moved for so long is broken [s]."""


class Start(Protocol):
    """How an episode's start is made and looked at."""

    def reset(self) -> None:
        """Brings arm and scene to the start.

        Raises:
            RobotFault: It cannot.
        """
        ...

    def check(self) -> str:
        """What is wrong with the start; empty if nothing is."""
        ...


@dataclass(frozen=True)
class Job:
    """What is played."""

    server: str
    """Address of the policy server."""
    instruction: str
    temperature: float
    max_steps: int
    """Control steps of the longest rollout."""
    rate: float
    """Of control steps [1/s]."""


class EpisodeDriver:
    """Runs one episode at a time.

    Attributes:
        flow: Of the present episode; None between two.
    """

    def __init__(self, client: ArmClient, policy: PolicySwitch, words: Words, say: Callable[[str], None]) -> None:
        """Prepares.

        Args:
            client: Of the arm node.
            policy: Of the policy node.
            words: Of the person.
            say: Tells the person something.
        """
        self._client, self._policy, self._words, self._say = client, policy, words, say
        self.flow: Flow | None = None

    def play(self, flow: Flow, job: Job, start: Start, tape: Tape, problem: Callable[[], str]) -> None:
        """Plays it to its end.

        Args:
            flow: At its beginning; at its end it knows the outcome.
            job: What is played.
            start: How it begins.
            tape: Records it.
            problem: Why it is not recorded any more; empty while it is.
        """
        self._words.forget()
        self.flow = flow
        todo = deque(flow.begin())
        while todo or flow.state is not State.DONE:
            if not todo:
                self._client.look(0.02)
                tape.turn()
                todo.extend(self._heard(flow, job, tape, problem))
                continue
            todo.extend(self._do(todo.popleft(), flow, job, start, tape))
        tape.finish()
        self.flow = None

    def _do(self, what: Do, flow: Flow, job: Job, start: Start, tape: Tape) -> Iterable[Do]:
        now = self._now(job)
        if what == "reset":
            return flow.reset_done(self._attempt(start.reset))
        if what == "check":
            problem = self._checked(start)
            if problem:
                self._say(f"the start is not right: {problem}")
            return flow.checked(now, problem)
        if what == "start":
            tape.begin()
            problem = self._attempt(lambda: self._begin(job))
            return flow.broke(f"the rollout did not begin: {problem}") if problem else []
        if what == "stop":
            self._stop()
        elif what == "ask_go":
            self._say("ready: say go")
        elif what == "ask_label":
            self._say(f"{flow.suggestion}? {flow.reason}".strip())
        return []

    def _begin(self, job: Job) -> None:
        self._policy.direct(job.server, job.instruction, job.temperature)
        self._policy.enable(on=True)
        self._client.run()

    def _stop(self) -> None:
        if self._client.silent:  # what has died has stopped, by its own watchdogs or the robot's
            return
        with contextlib.suppress(RobotFault):
            self._client.stop()

    def _heard(self, flow: Flow, job: Job, tape: Tape, problem: Callable[[], str]) -> Iterable[Do]:
        """What the flow wants done because of what has happened since the last look."""
        said = self._words.obey(flow, lambda: self._now(job))
        if said or flow.state is not State.ROLLOUT:
            return said
        status = self._client.status
        if why := problem():
            return flow.broke(why)
        if self._client.silent:
            return flow.broke("the arm node is silent")
        if status.success:
            return flow.detected()
        if status.episode and status.steps >= job.max_steps:
            return flow.tick(math.inf)
        if status.level in ("DECELERATE", "FAULT"):
            return flow.stopped(status.reason, status.detail)
        if time.monotonic() - tape.moved > STALL:
            level = f"{status.level} {status.reason}".strip()
            leases = ", ".join(sorted(status.leases)) or "nobody"
            who = f"{status.source or 'nobody'} moves the arm, {leases} may, refused {status.refused or 'nothing'}"
            return flow.broke(f"nothing has moved for {STALL:g} s: {level}; {who}")
        return flow.tick(self._now(job))

    def _now(self, job: Job) -> float:
        """Clock of the rollout [s]: control steps in a simulation, which may run faster or slower than time."""
        if self._client.reports and self._client.status.episode:
            return self._client.status.steps / job.rate
        return time.monotonic()

    def _checked(self, start: Start) -> str:
        try:
            return start.check()
        except RobotFault as error:
            return str(error)

    def _attempt(self, work: Callable[[], None]) -> str:
        try:
            work()
        except RobotFault as error:
            return str(error)
        return ""
