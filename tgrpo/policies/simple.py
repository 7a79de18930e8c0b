"""Policies without a network: chance, and a recording. They test everything that is built around a policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgrpo.errors import PolicyError, SettingsError
from tgrpo.policies import bins
from tgrpo.settings import Strict, from_builtins
from tgrpo.spec import ObservationSpec, PolicySpec
from tgrpo.types import ActionChunk, Observation

BLIND = PolicySpec(observation=ObservationSpec(cameras=()))
"""Conventions of a policy that looks at nothing, so that nothing needs to be rendered."""


class _Random(Strict, frozen=True):
    kind: str
    spec: PolicySpec


class _Replay(Strict, frozen=True):
    kind: str
    spec: PolicySpec
    actions: Annotated[list[list[float]], msgspec.Meta(min_length=1)]


class RandomPolicy:
    """Draws every token evenly from all bins; greedy, it rests."""

    def __init__(self, spec: PolicySpec = BLIND) -> None:
        """Starts without episodes.

        Args:
            spec: Conventions to claim; the observations are not looked at.
        """
        self._spec = spec
        self._streams: list[np.random.Generator] = []

    @property
    def spec(self) -> PolicySpec:
        """Conventions of the actions and observations."""
        return self._spec

    def reset(self, seeds: Sequence[int], decisions: Sequence[int] | None = None) -> None:
        """Starts one episode for each row, with its own stream of random numbers."""
        self._streams = [np.random.default_rng(seed) for seed in seeds]
        for stream, made in zip(self._streams, decisions or (), strict=False):
            for _ in range(made):
                self._draw(stream)

    def act(
        self, observations: Sequence[Observation], *, temperature: float = 0.0, rows: Sequence[int] | None = None
    ) -> list[ActionChunk]:
        """Decides one chunk for each observation; see :class:`tgrpo.policies.base.Policy`."""
        return [self._decide(row, temperature) for row in _rows(observations, rows, len(self._streams))]

    def save(self, folder: Path) -> None:
        """Writes ``policy.json`` into an existing folder."""
        _write(folder, _Random(kind="random", spec=self._spec))

    @classmethod
    def load(cls, folder: Path) -> RandomPolicy:
        """Reads what :meth:`save` wrote.

        Raises:
            SettingsError: The file does not fit.
        """
        return cls(from_builtins(_read(folder), _Random, source=str(folder / "policy.json")).spec)

    def _decide(self, row: int, temperature: float) -> ActionChunk:
        shape = (self._spec.chunk, self._spec.action.dims)
        if temperature == 0.0:
            rest = bins.encode(np.zeros(shape), self._spec.bins)
            return ActionChunk(bins.decode(rest, self._spec.bins), rest)
        chosen = self._draw(self._streams[row])
        log_probs = np.full(shape, -np.log(self._spec.bins), np.float32)
        return ActionChunk(bins.decode(chosen, self._spec.bins), chosen, log_probs)

    def _draw(self, stream: np.random.Generator) -> NDArray[np.int64]:
        return stream.integers(0, self._spec.bins, (self._spec.chunk, self._spec.action.dims))


class ReplayPolicy:
    """Plays recorded actions one chunk after another, whatever happens, then rests with the gripper as it is.

    Whole chunks must be executed; what is left out is not played later.
    """

    def __init__(self, actions: ArrayLike, spec: PolicySpec = BLIND) -> None:
        """Starts without episodes.

        Args:
            actions: The recording ``(T, A)``.
            spec: Conventions to claim; the observations are not looked at.

        Raises:
            SettingsError: The recording has another shape.
        """
        self._actions = np.asarray(actions, np.float32)
        if self._actions.ndim != 2 or self._actions.shape[1] != spec.action.dims:
            raise SettingsError(f"a recording has the shape (T, {spec.action.dims}), got {self._actions.shape}.")
        self._spec = spec
        self._next: list[int] = []

    @property
    def spec(self) -> PolicySpec:
        """Conventions of the actions and observations."""
        return self._spec

    def reset(self, seeds: Sequence[int], decisions: Sequence[int] | None = None) -> None:
        """Starts the recording anew in each row."""
        self._next = [made * self._spec.chunk for made in decisions or [0] * len(seeds)]

    def act(
        self, observations: Sequence[Observation], *, temperature: float = 0.0, rows: Sequence[int] | None = None
    ) -> list[ActionChunk]:
        """Gives the next chunk of each row; see :class:`tgrpo.policies.base.Policy`."""
        return [ActionChunk(self._advance(row)) for row in _rows(observations, rows, len(self._next))]

    def save(self, folder: Path) -> None:
        """Writes ``policy.json`` into an existing folder."""
        _write(folder, _Replay(kind="replay", spec=self._spec, actions=self._actions.tolist()))

    @classmethod
    def load(cls, folder: Path) -> ReplayPolicy:
        """Reads what :meth:`save` wrote.

        Raises:
            SettingsError: The file does not fit.
        """
        stored = from_builtins(_read(folder), _Replay, source=str(folder / "policy.json"))
        return cls(stored.actions, stored.spec)

    def _advance(self, row: int) -> NDArray[np.float32]:
        first = self._next[row]
        self._next[row] += self._spec.chunk
        rest = np.zeros((self._spec.chunk, self._actions.shape[1]), np.float32)
        rest[:, -1] = self._actions[-1, -1]
        return np.concatenate([self._actions[first : first + self._spec.chunk], rest])[: self._spec.chunk]


def _rows(observations: Sequence[Observation], rows: Sequence[int] | None, started: int) -> Sequence[int]:
    wanted = range(len(observations)) if rows is None else rows
    if len(wanted) != len(observations) or max(wanted, default=-1) >= started:
        raise PolicyError(
            f"rows {list(wanted)} of {len(observations)} observations: reset() started {started} episodes."
        )
    return wanted


def _write(folder: Path, description: msgspec.Struct) -> None:
    (folder / "policy.json").write_bytes(msgspec.json.encode(description))


def _read(folder: Path) -> Any:
    return msgspec.json.decode((folder / "policy.json").read_bytes())
