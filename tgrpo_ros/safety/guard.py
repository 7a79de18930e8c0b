"""The safety layer: everything between a command and the arm.

Example:
    >>> guard = Guard(settings, spec, cameras=("agentview",), now=clock())
    >>> guard.arbiter.acquire(Source.POLICY, session, clock())
    >>> guard.arm(clock(), arm.state())
    >>> arm.start()
    >>> guard.submit(command, clock())           # whenever one comes
    >>> out = guard.tick(clock(), arm.state())   # 200 to 250 times a second
    >>> arm.send(out.reference)

This reduces risk. It is not a safety function: see ``docs/safety.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tgrpo.errors import RobotFault
from tgrpo.spec import ActionSpec
from tgrpo.types import FloatArray
from tgrpo_ros.motion import ArmState, Command, Pose, Reference, Source
from tgrpo_ros.safety import gates, health
from tgrpo_ros.safety.arbiter import Arbiter
from tgrpo_ros.safety.cameras import CameraWatch
from tgrpo_ros.safety.chunks import ChunkPlayer
from tgrpo_ros.safety.follower import Follower, length
from tgrpo_ros.safety.ladder import Ladder, Level, Reason
from tgrpo_ros.safety.recovery import RecoveryBudget
from tgrpo_ros.safety.settings import SafetySettings, check

STOP_ALLOWANCE = 0.5
"""How much longer than planned an arm may take to stop before that is a fault [s]."""


@dataclass(frozen=True, eq=False)
class Output:
    """What one tick decided."""

    reference: Reference | None
    """For the arm; None if there is none to give: it was never armed, or its report cannot be calculated with."""
    gripper: bool | None
    """True to close, False to open, None to leave the gripper as it is."""
    level: Level
    reason: Reason | None
    source: Source | None
    """Who moves the arm."""
    action: FloatArray | None
    """Action ``(A,)`` that began with this tick."""
    taken: tuple[int, int] = (-1, -1)
    """Sequence number of the command that it is of, and its place in that."""
    halt: bool = False
    """The driver has to stop the robot's own controller: there is a fault and the reference rests."""


class Guard:
    """All gates, in one place and always on.

    Attributes:
        arbiter: Leases; sources acquire theirs here.
        ladder: Level and reason.
        watch: Cameras; frames are reported here.
        starved: How often a chunk ended before the next one came.
        bad: Commands in a row that were no commands.
    """

    def __init__(
        self,
        settings: SafetySettings,
        spec: ActionSpec,
        cameras: Iterable[str],
        now: float,
        still: Iterable[str] = (),
    ) -> None:
        """Not armed.

        Args:
            settings: Limits.
            spec: What an action means to this arm.
            cameras: Names of the cameras that the policy needs.
            now: Steady time [s].
            still: Those of the cameras whose pictures may repeat, as they are simulated.

        Raises:
            SettingsError: The limits contradict each other.
        """
        check(settings)
        self._settings, self._spec, self._period = settings, spec, 1.0 / spec.rate
        self.arbiter = Arbiter(settings.watchdogs, settings.handover, settings.chunks.max_age, now)
        self.ladder = Ladder(settings.watchdogs.hold_stop, settings.motion.stop_time + STOP_ALLOWANCE, now)
        self.watch = CameraWatch(cameras, settings.watchdogs, now, still)
        self._budget = RecoveryBudget(settings.recovery)
        self._latch = gates.GripperLatch(
            settings.gripper.hysteresis, settings.gripper.min_interval, spec.gripper == "close_positive"
        )
        self._players = {source: ChunkPlayer(settings.chunks, self._period) for source in Source}
        self._clock = health.Clock(settings)
        self._follower: Follower | None = None
        self._target: Pose | None = None
        self._slot = now
        self._is_starved = False
        self.starved = 0
        self.bad = 0

    def submit(self, command: Command, now: float) -> str:
        """Takes a command, or says why not.

        Args:
            command: From any source.
            now: Steady time [s].

        Returns:
            Empty if it was taken.
        """
        why = self.arbiter.refusal(command, now)
        if why:
            return why
        why = gates.refusal(command.actions, self._spec, self._settings.step)
        if why:
            self.bad += 1
            if self.bad >= self._settings.chunks.bad_in_a_row:
                self.ladder.fault(now, "bad_commands", f"{self.bad} in a row from {command.source.name}: {why}")
                self._forget()
            return f"bad command: {why}"
        self.bad = 0
        lasts = min((len(command.actions) - 1) * self._period, self._settings.chunks.max_age)
        self.arbiter.note(command, now, lasts)
        if command.engaged:
            self._players[command.source].load(command)
            self._is_starved &= command.source is not self.arbiter.active
        return ""

    def tick(self, now: float, state: ArmState | None) -> Output:
        """Decides what the arm does until the next tick.

        Args:
            now: Steady time [s].
            state: The newest report of the arm; None if there has not been any.
        """
        before = self.arbiter.active
        if self.arbiter.choose(now) is not before:
            self._hand_over(now, before)
        elapsed = self._clock.elapsed(now)
        level = self._climb(now, state)
        faulty = level is Level.FAULT
        if state is None or self._follower is None or not health.is_finite(state):
            return Output(None, None, level, self.ladder.reason, self.arbiter.active, None, halt=faulty)
        gripper: bool | None = None
        action = self._take(now) if level is Level.RUN else None
        if action is not None:
            self._aim(action, now, state)
            gripper = self._latch.update(float(action[6]), now)
        # A robot that is silent, or whose clock went back, has no time to integrate on; braking must not wait for it.
        silent = now - state.received > self._settings.watchdogs.state_stop or state.time < self._follower.time
        time = self._follower.time + elapsed if silent else state.time
        reference = self._move(self._follower, level, time, state.pose)
        halt = faulty and self._follower.resting
        source = self.arbiter.active
        taken = (-1, -1) if action is None or source is None else self._players[source].taken
        return Output(reference, gripper, level, self.ladder.reason, source, action, taken, halt)

    def arm(self, now: float, state: ArmState | None) -> None:
        """Lets the arm run from where it is. A person's decision; without effect while it runs.

        The caller then starts the robot's controller anew, so that it begins at the measured pose as the reference
        does.

        Raises:
            RobotFault: A reason not to run holds; the message names it.
        """
        if self.ladder.level is Level.RUN:
            return
        reasons = [reason for reason in self._reasons(now, state) if reason.above is None]
        self.ladder.arm(now, reasons, health.moving(state))
        if state is not None:
            self._rest_at(state)
        for player in self._players.values():
            player.clear()
        self._latch.closed, self._is_starved = None, False
        # A person may have let go after the stop; a clock that waits would never show how long ago.
        self.arbiter.settle(now)
        self._slot = now

    def stop(self, now: float, who: str) -> None:
        """Brakes to a stop that only :meth:`arm` ends; anybody may ask for it at any time."""
        if self.ladder.level < Level.DECELERATE:
            self.ladder.stop(now, "operator_stop", f"{who} asked for a stop")
            self._forget()

    def acknowledge(self, now: float, state: ArmState | None) -> None:
        """Ends a fault whose cause is gone, without moving. A person's decision.

        Raises:
            RobotFault: There is no fault, or its cause still holds.
        """
        self.ladder.acknowledge(now, self._reasons(now, state))
        self.bad = 0

    def recover(self, now: float, state: ArmState | None) -> None:
        """Permits one recovery from a reflex, which the caller then asks the robot for. A person's decision.

        Raises:
            RobotFault: There is no reflex, or there were too many recoveries.
        """
        if state is None:
            raise RobotFault("recovery refused: the robot has reported nothing yet.")
        self._budget.spend(now, state)

    def _climb(self, now: float, state: ArmState | None) -> Level:
        before = self.ladder.level
        level = self.ladder.update(now, self._reasons(now, state, tick=True), health.moving(state))
        if level >= Level.DECELERATE and before < Level.DECELERATE:
            self._forget()
        return level

    def _reasons(self, now: float, state: ArmState | None, tick: bool = False) -> list[Reason]:
        reasons = health.reasons(now, state, self._settings)
        if tick:
            reasons += self._clock.reasons(now, state)
            reasons += self.arbiter.reasons(now)
            if self._is_starved:
                reasons.append(Reason(Level.HOLD, "starved", "the chunk has ended and no new one has come"))
            if self._follower is not None and state is not None and self.ladder.level < Level.DECELERATE:
                reasons += health.lead_reasons(self._follower.pose, state, self._settings)
        active = self.arbiter.active
        scoped = [reason for reason in self.watch.reasons(now) if reason.above and active and active < reason.above]
        return reasons + scoped

    def _take(self, now: float) -> FloatArray | None:
        source = self.arbiter.active
        if source is None:
            self._is_starved = False
            return None
        if now < self._slot - 1e-6:
            return None
        player = self._players[source]
        action = player.take(now)
        if action is None:
            # Half a period of patience for a command that is just late; a person's silence has a watchdog of its own.
            late = now > self._slot + 0.5 * self._period
            if late and player.loaded and source is not Source.HUMAN:
                self._is_starved = True
                self.starved += 1
            return None
        self._slot = self._slot + self._period if now - self._slot < 0.5 * self._period else now + self._period
        return action

    def _aim(self, action: FloatArray, now: float, state: ArmState) -> None:
        limits = self._settings
        translation, turn = gates.step(action, self._spec, limits.step)
        ramp = limits.handover.ramp
        share = min(1.0, (now - self.arbiter.since) / ramp) if ramp > 0.0 else 1.0
        anchor = state.pose if limits.anchor == "measured" or self._target is None else self._target
        target = anchor.moved(translation * share, turn * share)
        if self._follower is None or limits.reference == "direct":
            near = gates.within_lead(target, state.pose, limits.lead)
        else:
            # This is where the target will be one period from now; until then the follower keeps it within the lead.
            near = gates.within_lead(target, state.pose, limits.lead, length(translation), length(turn))
            self._follower.aim(gates.within_box(near, limits.workspace), self._period)
        self._target = gates.within_box(near, limits.workspace)

    def _move(self, follower: Follower, level: Level, time: float, measured: Pose) -> Reference:
        if self._settings.reference == "direct":
            return Reference(self._target or follower.pose)
        if level is Level.RUN and self.arbiter.active is not None:
            lead = self._settings.lead
            return follower.advance(time, lambda pose: gates.within_lead(pose, measured, lead))
        reason = self.ladder.reason
        if level is Level.HOLD and reason is not None and reason.name == health.MISSED_TICKS:
            # A machine that stalled for a moment brakes for that moment; where the arm was going is still right.
            return follower.advance(time, braking=True)
        reference = follower.brake(time)
        self._target = reference.pose
        return reference

    def _hand_over(self, now: float, before: Source | None) -> None:
        active = self.arbiter.active
        for source, player in self._players.items():
            # Who gets the arm back must look again: what it decided before the other one moved is void.
            if source is not active or (before is not None and active is not Source.HUMAN):
                player.clear()
        self._is_starved = False
        self._slot = now
        if self._follower is not None and self._settings.reference == "follower":
            self._follower.release()
            self._target = self._follower.pose

    def _forget(self) -> None:
        for player in self._players.values():
            player.clear()
        self.arbiter.revoke()
        self._is_starved = False

    def _rest_at(self, state: ArmState) -> None:
        if self._follower is None:
            motion, box = self._settings.motion, self._settings.workspace
            self._follower = Follower(motion, box, state.time, state.pose)
        else:
            self._follower.restart(state.time, state.pose)
        self._target = state.pose
        self._clock.forget()
