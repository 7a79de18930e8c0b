"""What goes on in a session, for the page and for the topic ``~/state``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tgrpo.session.flow import Flow
from tgrpo.session.plan import Played
from tgrpo_ros.status import ArmStatus


class Board:
    """The newest of everything; written by one thread, read by any.

    Attributes:
        text: What the person was told last.
        task: The task in words.
        episode: Number of the present episode, from 1.
    """

    def __init__(self, name: str, total: int, cameras: Iterable[str]) -> None:
        """Nothing has happened.

        Args:
            name: Of the session.
            total: Episodes of the plan.
            cameras: Names of the views.
        """
        self._name, self._total, self._cameras = name, total, list(cameras)
        self._outcomes: Counter[str] = Counter()
        self.text, self.task, self.episode = "starting", "", 0

    def count(self, played: Iterable[Played]) -> None:
        """Takes note of the episodes that are closed."""
        self._outcomes = Counter(episode.outcome for episode in played)

    def show(self, flow: Flow | None, status: ArmStatus | None, *, paused: bool) -> dict[str, Any]:
        """All of it, ready for JSON.

        Args:
            flow: Of the present episode; None between two.
            status: Of the arm; None before the first one.
            paused: Whether the session rests after the present episode.
        """
        return {
            "name": self._name,
            "episode": self.episode,
            "total": self._total,
            "outcomes": dict(self._outcomes),
            "at": "" if flow is None else flow.state.value,
            "text": self.text,
            "task": self.task,
            "paused": paused,
            "control": "" if status is None else status.source,
            "level": "" if status is None else status.level,
            "reason": "" if status is None else status.reason,
            "detail": "the arm node does not report" if status is None else status.detail,
            "cameras": self._cameras,
        }
