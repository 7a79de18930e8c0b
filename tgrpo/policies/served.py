"""A policy that another process decides for: a rollout worker's view of a policy too large to copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from tgrpo.client import PolicyClient
from tgrpo.errors import CheckpointError, PolicyError
from tgrpo.keys import ClientKeys
from tgrpo.settings import Strict, from_builtins, to_builtins
from tgrpo.spec import PolicySpec
from tgrpo.types import ActionChunk, Observation

DESCRIPTION = "policy.json"
SECRET, SERVER = "worker.key", "server.pub"
"""Beside it, where the server has keys: the client's own, and the server's public one."""
CONNECTIONS = 2
"""Batches that may be under way at a time."""


class ServedSettings(Strict, frozen=True):
    """Content of ``policy.json``."""

    kind: Literal["served"]
    address: str
    """Of the server."""
    version: str
    """Weights that must decide; a reply of others is refused, so that no rollout mixes two."""
    deadline_ms: Annotated[float, msgspec.Meta(gt=0, le=600_000)] = 120_000.0
    """Time that one decision may take [ms]."""
    encrypted: bool = False
    """Whether the server has keys; the client's are beside this file then."""


class ServedPolicy:
    """Asks a policy server; random numbers come from the seeds of :meth:`reset` alone.

    Two batches can be under way at a time, each with a connection of its own.
    """

    def __init__(self, settings: ServedSettings, keys: ClientKeys | None = None) -> None:
        """Greets the server.

        Args:
            settings: Where it is, and what it must answer with.
            keys: Needed where the server has keys.

        Raises:
            DeadlineError: It does not answer.
            HandshakeError: Keys do not fit.
            SettingsError: A key file is missing or not safe.
        """
        self._settings, self._keys = settings, keys
        self._clients = [PolicyClient(settings.address, keys) for _ in range(CONNECTIONS)]
        self._spec = self._clients[0].hello(settings.deadline_ms).spec
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="served")
        self._seeds: list[int] = []
        self._decided: list[int] = []

    @property
    def spec(self) -> PolicySpec:
        """Conventions of the actions and observations."""
        return self._spec

    def reset(self, seeds: Sequence[int], decisions: Sequence[int] | None = None) -> None:
        """Starts one episode for each row."""
        self._seeds, self._decided = list(seeds), list(decisions or [0] * len(seeds))

    def act(
        self, observations: Sequence[Observation], *, temperature: float = 0.0, rows: Sequence[int] | None = None
    ) -> list[ActionChunk]:
        """Decides one chunk for each observation; see :class:`tgrpo.policies.base.Policy`.

        Raises:
            PolicyError: A row was not reset, the policy failed, or other weights decided than should.
            DeadlineError: No answer in time.
        """
        return self.ask(observations, temperature=temperature, rows=rows)()

    def ask(
        self, observations: Sequence[Observation], *, temperature: float = 0.0, rows: Sequence[int] | None = None
    ) -> Callable[[], list[ActionChunk]]:
        """Begins what :meth:`act` does; see :class:`tgrpo.policies.base.Asynchronous`.

        Raises:
            PolicyError: A row was not reset, or a camera is missing.
        """
        wanted = list(range(len(observations)) if rows is None else rows)
        if len(self._seeds) <= max(wanted, default=-1):
            raise PolicyError(f"row {max(wanted)} was not reset: reset() started {len(self._seeds)} episodes.")
        seeds = [decision_seed(self._seeds[row], self._decided[row]) for row in wanted]
        views = [self._view(observation) for observation in observations]
        for row in wanted:
            self._decided[row] += 1
        return self._threads.submit(self._decide, views, temperature, seeds).result

    def _decide(self, views: Sequence[Observation], temperature: float, seeds: Sequence[int]) -> list[ActionChunk]:
        client = self._clients.pop()  # there are as many as threads
        try:
            chunks = client.act_all(views, self._settings.deadline_ms, temperature=temperature, seeds=seeds)
        finally:
            self._clients.append(client)
        odd = {chunk.version for chunk in chunks} - {self._settings.version}
        if odd:
            raise PolicyError(f"{self._settings.address} decided with {odd}, not with {self._settings.version!r}.")
        return list(chunks)

    def _view(self, observation: Observation) -> Observation:
        """What the policy looks at; a simulator has more, which servers refuse."""
        spec = self._spec.observation
        missing = set(spec.cameras) - observation.images.keys()
        if missing:
            raise PolicyError(f"the policy needs the cameras {spec.cameras}; {sorted(missing)} are missing.")
        images = {name: observation.images[name] for name in spec.cameras}
        return Observation(images, observation.instruction, observation.proprio if spec.proprio else None)

    def save(self, folder: Path) -> None:
        """Writes a reference to the server into an existing folder."""
        write(folder, self._settings, self._keys)

    @classmethod
    def load(cls, folder: Path) -> ServedPolicy:
        """Reads what :meth:`save` or :func:`write` wrote.

        Raises:
            CheckpointError: The file is missing or damaged.
            DeadlineError: The server does not answer.
            HandshakeError: Its keys are others.
        """
        try:
            data = msgspec.json.decode((folder / DESCRIPTION).read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise CheckpointError(f"{folder / DESCRIPTION}: missing or damaged: {error}") from error
        settings = from_builtins(data, ServedSettings, source=str(folder / DESCRIPTION))
        return cls(settings, ClientKeys(folder / SECRET, folder / SERVER) if settings.encrypted else None)


def write(folder: Path, settings: ServedSettings, keys: ClientKeys | None = None) -> None:
    """Writes a checkpoint that refers to a server into an existing folder, with copies of the keys that it takes."""
    if keys is not None:
        shutil.copy(keys.secret, folder / SECRET)  # with the mode, so that it stays its owner's
        shutil.copy(keys.server, folder / SERVER)
    (folder / DESCRIPTION).write_bytes(msgspec.json.encode(to_builtins(settings)))


def decision_seed(seed: int, number: int) -> int:
    """Seed of one decision of an episode; a server keeps no episodes, so each decision has its own."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> np.uint64(1))
