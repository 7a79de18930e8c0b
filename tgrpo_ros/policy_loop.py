"""Asks the policy server and turns its answers into commands, in a thread of its own.

A request is made only if its answer may be executed: the arm is armed, nobody else moves it, every picture is fresh and
was taken after that became so. An answer that comes too late, or after somebody else has taken the arm, is dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from tgrpo.client import PolicyClient, ServedChunk
from tgrpo.errors import BusyError, DeadlineError, PolicyError, RobotFault, TgrpoError
from tgrpo.keys import ClientKeys
from tgrpo.spec import Embodiment, ObservationSpec
from tgrpo.types import Observation
from tgrpo_ros.frames import FrameReceiver
from tgrpo_ros.meter import Meter
from tgrpo_ros.motion import Command, Source
from tgrpo_ros.robot_config import RobotConfig
from tgrpo_ros.status import ArmStatus
from tgrpo_ros.strategies import Strategy
from tgrpo_ros.traffic import Reply
from tgrpo_ros.views import Views

GREETING_MS = 1000.0
"""How long one attempt to reach the server may take [ms]."""
FOREIGN = 3.0
"""How long another session may hold the lease before that is an error [s]: a killed node's lasts 1 s."""
STUCK = 2.0
"""A scene that waits and has not moved for so long has lost the command [s]."""
SAME = 1e-6
"""Two times of a scene are the same [s]."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Proprio:
    """What the arm reports to the policy."""

    time: float
    """Steady clock of the arm [s]."""
    values: NDArray[np.float32]
    """``(8,)`` as in an observation."""
    arrived: float
    """Steady clock of this machine [s]."""


@dataclass
class Counters:
    """What became of the requests."""

    sent: int = 0
    """Commands."""
    missed: int = 0
    """Requests without an answer in time, or with an error."""
    late: int = 0
    """Answers that were dropped: too old, or somebody else has the arm."""


class PolicyLoop:
    """The thread that asks.

    Attributes:
        instruction: The task in words; may change at any time.
        tell: Called with each request and what became of it.
        temperature: At which the policy samples; 0 takes the most likely actions. May change at any time.
        enabled: False pauses the policy.
        counters: What became of the requests.
        meter: Of the commands.
        doing: What it does or waits for, for people.
        failure: Why the loop has ended by itself; empty while it runs.
    """

    def __init__(
        self,
        address: str,
        config: RobotConfig,
        strategy: Strategy,
        receiver: FrameReceiver,
        session: str,
        send: Callable[[Command], None],
        *,
        keys: ClientKeys | None = None,
        deadline_ms: float = 500.0,
    ) -> None:
        """Prepares; nothing is asked before :meth:`start`.

        Args:
            address: Of the policy server.
            config: Of the robot.
            strategy: When to ask and what to send.
            receiver: Of the pictures; used and closed by this loop.
            session: Names the lease.
            send: Publishes a command.
            keys: For a server that wants them.
            deadline_ms: How long a request may take [ms].
        """
        self._address, self._keys, self._config, self._strategy = address, keys, config, strategy
        self._receiver, self._session, self._send = receiver, session, send
        self._deadline_ms = deadline_ms
        self._views, self._gathering = Views(), False
        self._proprio: Proprio | None = None
        self._status: ArmStatus | None = None
        self._client: PolicyClient | None = None
        self._needed: ObservationSpec | None = None
        self._permitted_since: float | None = None
        self._foreign_since: float | None = None
        self._asked = self._moved = 0.0
        self._sequence = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self.tell: Callable[[Reply], None] = lambda reply: None
        self.instruction, self.temperature, self.enabled = "", 0.0, True
        self.counters, self.meter = Counters(), Meter()
        self.doing, self.failure = "starting", ""

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread and the connections. May be called more than once."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(self._deadline_ms / 1000.0 + 5.0)
        self._receiver.close()

    @property
    def lost(self) -> int:
        """Pictures that never arrived."""
        return sum(self._receiver.lost.values())

    def hear(self, status: ArmStatus) -> None:
        """Takes note of the arm's status."""
        self._status = status

    def feel(self, now: float, values: NDArray[np.float32]) -> None:
        """Takes note of the arm's proprioception.

        Args:
            now: Steady clock of the arm [s].
            values: ``(8,)``.
        """
        arrived = time.monotonic()
        if self._proprio is None or self._proprio.time != now:
            self._moved = arrived
        self._proprio = Proprio(now, values, arrived)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._turn()
        except TgrpoError as error:
            self.failure = str(error)
        except Exception as error:  # noqa: BLE001  (a thread must not die without a word)
            _log.exception("the policy loop has failed")
            self.failure = str(error) or type(error).__name__
        finally:
            if self._client is not None:
                self._client.close()

    def _turn(self) -> None:
        if self._client is None or self._needed is None:
            self._greet()
            return
        waits = self._status is not None and self._status.waits
        arrived = self._receiver.receive(0.002 if waits or self._gathering else 0.02)
        self._views.add(arrived, time.monotonic())
        self.doing = self._obstacle() or "asking"
        if self.doing != "asking":
            self._permitted_since, self._gathering = None, False
            self._strategy.clear()
            return
        if self._permitted_since is None:
            self._permitted_since = time.monotonic()
        status, proprio = self._status, self._proprio
        if status is not None and proprio is not None:
            self._consider(status, proprio, self._needed, arrived)

    def _consider(self, status: ArmStatus, proprio: Proprio, needed: ObservationSpec, arrived: Collection[str]) -> None:
        """Asks if a chunk is due and the pictures are there.

        Args:
            status: Of an arm that may be moved.
            proprio: What it reports.
            needed: What the policy wants to see.
            arrived: Cameras whose pictures have just arrived.
        """
        self._strategy.spare = not status.waits
        now = proprio.time if status.waits else time.monotonic()
        if status.waits and time.monotonic() - max(self._asked, self._moved) > STUCK:
            self._strategy.clear()
        if not self._strategy.due(now):
            return
        if missing := [camera for camera in needed.cameras if not self._fresh(camera, status, proprio)]:
            self.doing = f"waiting for a fresh picture of camera {missing[0]!r}"
            return
        if not status.waits and needed.cameras:
            # In real time a request follows new pictures at once: one that is due in between would show older ones.
            if not (arrived or self._gathering):
                return
            self._gathering = not self._views.settled(needed.cameras, time.monotonic())
            if self._gathering:  # time enough to scale what is there already
                for camera in needed.cameras:
                    if camera in arrived:
                        self._views.scaled(camera, needed.size)
                return
        self._decide(status, proprio, needed)

    def _greet(self) -> None:
        """Compares conventions with the server; waits for one that is not there yet."""
        self.doing = f"waiting for the policy server at {self._address}"
        cameras = tuple(camera.name for camera in self._config.cameras)
        try:
            with PolicyClient(self._address, self._keys) as probe:
                needed = probe.hello(GREETING_MS).spec.observation
            # Pictures are scaled here, so any size fits.
            seen = ObservationSpec(cameras=cameras, size=needed.size, proprio=True)
            embodiment = Embodiment(action=self._config.action, observation=seen)
            client = PolicyClient(self._address, self._keys, embodiment=embodiment)
            client.hello(GREETING_MS)
        except (BusyError, DeadlineError):
            self._closing.wait(0.2)
            return
        self._client, self._needed = client, needed

    def _obstacle(self) -> str:
        """Why nothing may be asked now; empty if it may."""
        status = self._status
        if status is None:
            return "waiting for the arm node"
        holder = status.leases.get("policy", "")
        self._watch_holder(holder)
        if holder != self._session:
            return f"waiting for the lease, which {holder or 'nobody'} holds"
        if self._proprio is None:
            return "waiting for the arm's report"
        if status.level in ("DECELERATE", "FAULT"):
            return f"waiting for the arm: {status.reason}"
        if status.source in ("human", "reset"):
            return f"paused: {status.source} moves the arm"
        if status.level == "HOLD" and status.reason.startswith("camera"):
            return f"waiting: {status.detail}"
        if not self.enabled:
            return "paused by the service enable"
        if not self.instruction:
            return "waiting for an instruction: set the parameter 'instruction'"
        return ""

    def _watch_holder(self, holder: str) -> None:
        """Ends this loop if another session keeps the lease.

        Raises:
            RobotFault: It does.
        """
        if holder in ("", self._session):
            self._foreign_since = None
            return
        if self._foreign_since is None:
            self._foreign_since = time.monotonic()
        if time.monotonic() - self._foreign_since > FOREIGN:
            raise RobotFault(f"another policy node (session {holder}) controls the arm; stop that one first.")

    def _decide(self, status: ArmStatus, proprio: Proprio, needed: ObservationSpec) -> None:
        if self._client is None:
            return
        seen = {camera: self._views.newest[camera] for camera in needed.cameras}
        scaled = {camera: self._views.scaled(camera, needed.size) for camera in seen}
        images = {camera: image for camera, image in scaled.items() if image is not None}
        began = time.monotonic()
        now = proprio.time if status.waits else began
        observed = min([now, *(sighting.header.captured for sighting in seen.values())])
        asked = Reply(sequence=-1, asked=now, observed=observed, instruction=self.instruction, latency=0.0)
        observation = Observation(images, self.instruction, proprio.values if needed.proprio else None)
        try:
            chunk = self._client.act(observation, self._deadline_ms, temperature=self.temperature)
        except PolicyError as error:
            self.tell(replace(asked, latency=time.monotonic() - began, error=str(error)))
            self.counters.missed += 1
            self.doing = f"the policy server does not answer: {error}"
            self._closing.wait(0.05)
            return
        answered = _answered(asked, chunk, time.monotonic() - began)
        now = proprio.time if status.waits else time.monotonic()
        if self._obstacle() or now - observed > self._config.safety.chunks.max_age:
            self.tell(replace(answered, error=self._obstacle() or "too old"))
            self.counters.late += 1
            return
        begins = observed if self._config.safety.chunks.align == "stamp" else now
        actions = self._strategy.combine(chunk.actions, observed, begins)
        self._sequence += 1
        self.tell(replace(answered, sequence=self._sequence))
        self._asked = time.monotonic()
        self._send(Command(Source.POLICY, self._session, self._sequence, observed, actions))
        self.counters.sent += 1
        self.meter.tick(time.monotonic())

    def _fresh(self, camera: str, status: ArmStatus, proprio: Proprio) -> bool:
        """Whether the newest picture of a camera may be acted on."""
        sighting = self._views.newest.get(camera)
        if sighting is None or sighting.image is None:
            return False
        captured = sighting.header.captured
        if status.waits:
            return abs(captured - proprio.time) < SAME
        limit, now = self._config.safety.watchdogs.frame_age, time.monotonic()
        since = now if self._permitted_since is None else self._permitted_since
        return captured >= since and now - captured <= limit and now - proprio.arrived <= limit


def _answered(asked: Reply, chunk: ServedChunk, latency: float) -> Reply:
    """A request with its answer."""
    return replace(
        asked,
        latency=latency,
        version=chunk.version,
        actions=chunk.actions.tolist(),
        tokens=[] if chunk.tokens is None else chunk.tokens.tolist(),
        log_probs=[] if chunk.log_probs is None else chunk.log_probs.tolist(),
    )
