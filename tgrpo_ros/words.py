"""What a person says during a session, whichever way: a service, a button on the page, a key."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from tgrpo.errors import RobotFault, SettingsError
from tgrpo.session.flow import Do, Flow, State

Word: TypeAlias = Literal["go", "success", "failure", "abort", "pause", "resume"]
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True)
class Said:
    """One word."""

    word: Word
    reason: str = ""
    """Why, in the person's words."""


class Words:
    """Words that wait to be heard; any thread may say one.

    Attributes:
        paused: Whether the session rests after the present episode.
    """

    def __init__(self) -> None:
        """Nothing was said."""
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self.paused = False

    def say(self, word: str, reason: str = "") -> None:
        """Says one.

        Raises:
            SettingsError: There is no such word.
        """
        if word not in WORDS:
            raise SettingsError(f"unknown word {word!r}; a session understands {', '.join(WORDS)}.")
        if word in ("pause", "resume"):
            self.paused = word == "pause"
            return
        self._said.put(Said(word, reason))  # type: ignore[arg-type]

    def forget(self) -> None:
        """Drops what was said: it was meant for an episode that is over."""
        while not self._said.empty():
            self._said.get_nowait()

    def went(self) -> bool:
        """Whether go was said, while there is no episode to say anything else to.

        Raises:
            RobotFault: The person gave up.
        """
        while not self._said.empty():
            said = self._said.get_nowait()
            if said.word == "abort":
                raise RobotFault(said.reason or "given up by the operator")
            if said.word == "go":
                return True
        return False

    def obey(self, flow: Flow, now: Callable[[], float]) -> list[Do]:
        """What an episode has to do because of what was said; words that fit nowhere are dropped.

        Args:
            flow: Of the episode.
            now: Steady clock [s].
        """
        todo: list[Do] = []
        while not self._said.empty():
            said = self._said.get_nowait()
            if said.word == "abort":
                todo += flow.abort(said.reason or "given up by the operator")
            elif said.word == "go" and flow.state is State.READY:
                todo += flow.go(now())
            elif said.word in ("success", "failure") and flow.state in (State.ROLLOUT, State.LABEL):
                todo += flow.label("success" if said.word == "success" else "failure", said.reason)
        return todo
