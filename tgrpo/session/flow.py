"""How one episode goes: reset, check, wait for go, rollout, label. A state machine without clocks or wires.

It is told what happened and says what to do next; whoever drives it has the arm, the recorder and the person. That a
fault of the infrastructure is no failure of the policy is decided here, once, in :data:`BLAME`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias

from tgrpo.errors import SettingsError
from tgrpo.record.episode import Outcome

Do: TypeAlias = Literal["reset", "check", "ask_go", "start", "stop", "ask_label", "close"]
"""What the driver has to do next."""

BLAME: dict[str, Outcome] = {
    # What a policy can bring about by what it commands.
    "joint_limit": "failure",
    "outside_workspace": "failure",
    "not_following": "failure",
    "reflex": "failure",
    "bad_commands": "failure",
    # A person's decision; it says nothing about the policy unless the person says so in a label.
    "operator_stop": "aborted",
    "robot_stopped": "aborted",
}
"""Reason of a stop to the outcome of its episode; a reason that is not here is a fault of the infrastructure."""


class State(Enum):
    """Where an episode is."""

    RESET = "reset"
    CHECK = "check"
    READY = "ready"
    ROLLOUT = "rollout"
    LABEL = "label"
    DONE = "done"


@dataclass
class Flow:
    """One episode.

    Attributes:
        state: Where it is.
        outcome: How it ended; None before that.
        reason: Why it is no success.
        labelled_by: ``operator``, ``detector`` or ``recorder``.
        suggestion: What the success detector or the time limit says, until a person confirms it.
    """

    time_limit: float
    """Longest rollout [s]."""
    confirm_start: bool = True
    """Whether a person says go after the check."""
    confirm_label: bool = True
    """Whether a person confirms what a detector or the time limit says."""
    checks: int = 3
    """How often the start may be checked before the episode is given up."""
    state: State = State.RESET
    outcome: Outcome | None = None
    reason: str = ""
    labelled_by: str = "operator"
    suggestion: Outcome | None = None
    _began: float = 0.0
    _failed: list[str] = field(default_factory=list)

    def begin(self) -> list[Do]:
        """Starts the episode."""
        self._expect(State.RESET)
        return ["reset"]

    def reset_done(self, problem: str = "") -> list[Do]:
        """The arm is home and the scene laid out, or why not."""
        self._expect(State.RESET)
        if problem:
            return self._end("infrastructure", f"reset: {problem}", "recorder")
        self.state = State.CHECK
        return ["check"]

    def checked(self, now: float, problem: str = "") -> list[Do]:
        """The start is as it should be, or what is wrong with it; then it is reset again.

        Args:
            now: Steady time [s].
            problem: For example how far the arm is from where it should be.
        """
        self._expect(State.CHECK)
        if problem:
            self._failed.append(problem)
            if len(self._failed) >= self.checks:
                return self._end("infrastructure", f"start was wrong {self.checks} times: {problem}", "recorder")
            self.state = State.RESET
            return ["reset"]
        self.state = State.READY
        return ["ask_go"] if self.confirm_start else self.go(now)

    def go(self, now: float) -> list[Do]:
        """The rollout begins."""
        self._expect(State.READY)
        self.state, self._began = State.ROLLOUT, now
        return ["start"]

    def tick(self, now: float) -> list[Do]:
        """Ends a rollout that has taken too long; call it often."""
        if self.state is State.ROLLOUT and now - self._began >= self.time_limit:
            return self._finish("failure", f"time limit of {self.time_limit:g} s", "detector")
        return []

    def detected(self) -> list[Do]:
        """The success detector sees success."""
        return self._finish("success", "", "detector") if self.state is State.ROLLOUT else []

    def stopped(self, reason: str, detail: str = "") -> list[Do]:
        """The safety layer has stopped the arm.

        Args:
            reason: Its name, see ``docs/safety.md``.
            detail: More about it.
        """
        if self.state is not State.ROLLOUT:
            return []
        text = f"{reason}: {detail}" if detail else reason
        outcome = BLAME.get(reason, "infrastructure")
        if outcome == "failure":
            return self._finish("failure", text, "detector")
        return ["stop", *self._end(outcome, text, "recorder")]

    def label(self, outcome: Outcome, reason: str = "") -> list[Do]:
        """A person's word; during a rollout it ends it.

        Raises:
            SettingsError: There is nothing to label yet, or a person cannot say this.
        """
        if outcome not in ("success", "failure", "aborted"):
            raise SettingsError(f"a person labels an episode success, failure or aborted, not {outcome!r}.")
        if self.state not in (State.ROLLOUT, State.LABEL):
            raise SettingsError(f"there is nothing to label: the episode is at {self.state.value!r}.")
        stop: list[Do] = ["stop"] if self.state is State.ROLLOUT else []
        return stop + self._end(outcome, reason or (self.reason if outcome == self.suggestion else ""), "operator")

    def abort(self, reason: str) -> list[Do]:
        """A person gives the episode up, at any time; it is not counted."""
        if self.state is State.DONE:
            return []
        stop: list[Do] = ["stop"] if self.state is State.ROLLOUT else []
        return stop + self._end("aborted", reason, "operator")

    def broke(self, what: str) -> list[Do]:
        """Something other than the policy has failed: a node, the server, a camera, the recorder."""
        if self.state is State.DONE:
            return []
        stop: list[Do] = ["stop"] if self.state is State.ROLLOUT else []
        return stop + self._end("infrastructure", what, "recorder")

    def _finish(self, outcome: Outcome, reason: str, by: str) -> list[Do]:
        """Ends the rollout; a person confirms the label where one is there for it."""
        if not self.confirm_label:
            return ["stop", *self._end(outcome, reason, by)]
        self.state, self.suggestion, self.reason = State.LABEL, outcome, reason
        return ["stop", "ask_label"]

    def _end(self, outcome: Outcome, reason: str, by: str) -> list[Do]:
        self.state, self.outcome, self.reason, self.labelled_by = State.DONE, outcome, reason, by
        return ["close"]

    def _expect(self, state: State) -> None:
        if self.state is not state:
            raise SettingsError(f"the episode is at {self.state.value!r}, not at {state.value!r}.")
