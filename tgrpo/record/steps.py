"""The control steps of a recorded episode as arrays, with what was seen and measured at each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgrpo.errors import RecordingError
from tgrpo.record import pictures, streams
from tgrpo.record.episode import Episode
from tgrpo.record.streams import CAMERAS, Action, Frame, Number, RobotState, Stage
from tgrpo.types import FloatArray, Image

DIMS = 7
"""Length ``A`` of an action."""


@dataclass(frozen=True, eq=False)
class Steps:
    """One row for each control step that was executed."""

    time: FloatArray
    """``(T,)`` steady time since the first step [s]."""
    stamps: NDArray[np.int64]
    """``(T,)`` the same as recorded [ns]."""
    executed: FloatArray
    """``(T, A)`` what the arm was commanded."""
    policy: FloatArray
    """``(T, A)`` what the policy wanted; NaN where it was not asked."""
    source: tuple[str, ...]
    """Who decided each step, see :data:`tgrpo.record.streams.Source`."""
    intervention: NDArray[np.bool_]
    """``(T,)`` whether a human was in control."""

    def __len__(self) -> int:
        """Number of control steps ``T``."""
        return len(self.stamps)

    @property
    def unaided(self) -> int:
        """Number of control steps before a human first took over; all of them if nobody did."""
        return int(self.intervention.argmax()) if self.intervention.any() else len(self)


def stage_labels(episode: Episode) -> list[Stage]:
    """The stages that were labelled complete, in the order of time."""
    return sorted(episode.of(Stage), key=lambda label: label.at.steady)


def steps(episode: Episode) -> Steps:
    """The control steps of an episode in order.

    Raises:
        RecordingError: Two steps have the same number, or their actions differ in length.
    """
    actions = sorted(episode.of(Action), key=lambda action: action.step)
    numbers = [action.step for action in actions]
    if len(set(numbers)) != len(numbers):
        raise RecordingError(f"{episode.folder}: a control step is recorded twice, so the steps cannot be ordered.")
    dims = len(actions[0].executed) if actions else DIMS
    stamps = np.array([action.at.steady for action in actions], np.int64)
    return Steps(
        time=(stamps - stamps[:1]) / 1e9,
        stamps=stamps,
        executed=rows([action.executed for action in actions], dims, episode),
        policy=rows([action.policy for action in actions], dims, episode),
        source=tuple(action.source for action in actions),
        intervention=np.array([action.intervention for action in actions], np.bool_),
    )


def rows(vectors: Sequence[Sequence[Number]], width: int, episode: Episode) -> FloatArray:
    """Vectors of equal length as ``(n, width)``; an empty one becomes a row of NaN.

    Raises:
        RecordingError: One has another length.
    """
    for vector in vectors:
        if len(vector) not in (0, width):
            raise RecordingError(f"{episode.folder}: a vector of {len(vector)} numbers among others of {width}.")
    filled = [vector if vector else [None] * width for vector in vectors]
    return np.array(filled, np.float64).reshape(len(filled), width)


def latest(stamps: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.intp]:
    """Index of the last entry that was measured before each instant; the first where there is none.

    Args:
        stamps: ``(n,)`` ascending times of the entries [ns].
        at: ``(T,)`` the instants [ns].
    """
    return np.maximum(np.searchsorted(stamps, at, side="right") - 1, 0)


def states_at(episode: Episode, at: NDArray[np.int64]) -> list[RobotState]:
    """The robot state that was known at each instant ``(T,)`` [ns].

    Raises:
        RecordingError: The episode has no robot states.
    """
    states = sorted(episode.of(RobotState), key=lambda state: state.at.observed)
    if not states:
        raise RecordingError(f"{episode.folder}: no robot state was recorded, so there is no proprioception.")
    stamps = np.array([state.at.observed for state in states], np.int64)
    return [states[index] for index in latest(stamps, at)]


def proprio(states: Sequence[RobotState], episode: Episode) -> NDArray[np.float32]:
    """Proprioception ``(T, 8)`` as :class:`tgrpo.types.Observation` has it: position, axis-angle, fingers."""
    columns: list[tuple[str, int]] = [("position", 3), ("axis_angle", 3), ("fingers", 2)]
    parts = [rows([getattr(state, name) for state in states], width, episode) for name, width in columns]
    return np.hstack(parts).astype(np.float32)


class Pictures:
    """The pictures of one camera that were known at given instants, decoded one at a time."""

    def __init__(self, episode: Episode, camera: str, at: NDArray[np.int64]) -> None:
        """Finds them.

        Args:
            episode: The episode.
            camera: The camera's name.
            at: ``(T,)`` the instants [ns].

        Raises:
            RecordingError: The camera has no pictures in this episode.
        """
        frames = sorted(episode.messages(CAMERAS + camera, Frame), key=lambda frame: frame.at.observed)
        if not frames:
            known = ", ".join(episode.cameras()) or "none"
            raise RecordingError(f"{episode.folder}: no pictures of camera {camera!r}; recorded: {known}.")
        self._chosen = [frames[i] for i in latest(np.array([f.at.observed for f in frames], np.int64), at)]

    def __len__(self) -> int:
        """Number of instants ``T``."""
        return len(self._chosen)

    def __getitem__(self, index: int) -> Image:
        """The picture at one instant, upright RGB ``(H, W, 3)``."""
        return pictures.decode(self._chosen[index].data)


def stretches(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First index and end of each run of True in ``(T,)``, the end excluded."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def vectors(states: Sequence[Any], name: str, width: int, episode: Episode) -> FloatArray:
    """One field of many messages ``(n, width)``, with NaN where it was not known."""
    return rows([getattr(state, name) for state in states], width, episode)


def times(states: Sequence[streams.Message]) -> FloatArray:
    """When each message's content was measured ``(n,)`` [s]."""
    return np.array([state.at.observed for state in states], np.float64) / 1e9
