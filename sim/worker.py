"""The life of one rollout worker: units in, results out; see :mod:`sim.vector` for the other side."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import MutableSequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from sim.libero import LiberoEnv, Mode, make
from sim.rollout import StopSignal, Unit, UnitResult, play
from tgrpo.errors import TgrpoError, WorkerError
from tgrpo.policies import Policy, load
from tgrpo.rewards import load_stages

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One unit on its way to a worker."""

    unit: Unit
    policy: str
    """Checkpoint folder."""
    slot: int
    """Where this unit reports its first success."""
    together: tuple[int, ...] | None
    """Slots of all units of its group; None if its rollouts run to their own ends."""


class SharedStop(StopSignal):
    """The stop of a group, in shared memory.

    Each unit writes to its own slot, so that there is no lock which a killed worker could keep for ever.
    """

    def __init__(self, slots: MutableSequence[int], own: int, group: tuple[int, ...]) -> None:
        """Looks at shared memory.

        Args:
            slots: One number for each unit of the batch.
            own: Slot of this unit.
            group: Slots of all units of its group.
        """
        super().__init__()
        self._slots, self._own, self._group = slots, own, group

    def get(self) -> int:
        """The earliest success so far [control steps]."""
        return min(self._slots[slot] for slot in self._group)

    def lower(self, step: int) -> None:
        """Reports a success at a control step."""
        self._slots[self._own] = min(self._slots[self._own], step)


class Stage:
    """What a worker keeps between units: its environment and its policy."""

    def __init__(self, mode: Mode) -> None:
        """Holds nothing yet.

        Args:
            mode: Of the environments.
        """
        self._mode = mode
        self._policy: tuple[str, Policy] | None = None
        self._env: LiberoEnv | None = None

    def play(self, job: Job, slots: MutableSequence[int], alive: Any) -> UnitResult:
        """Plays a unit, with a new environment or policy only where the last unit had another one."""
        unit, policy = job.unit, self._load(job.policy)
        env = self._enter(unit, policy)
        alive()
        stages = load_stages(unit.suite, env.name) if unit.rewards else None
        stop = None if job.together is None else SharedStop(slots, job.slot, job.together)
        return play(env, policy, unit, stages=stages, stop=stop, alive=alive)

    def _load(self, folder: str) -> Policy:
        if self._policy is None or self._policy[0] != folder:
            self._policy = (folder, load(folder))
        return self._policy[1]

    def _enter(self, unit: Unit, policy: Policy) -> LiberoEnv:
        view = policy.spec.observation
        wanted = (unit.suite, unit.task, view.cameras, view.size)
        env = self._env
        if env is None or (env.suite, env.task, env.cameras, env.size) != wanted:
            self._env = None
            if env is not None:
                env.close()
            env = self._env = make(unit.suite, unit.task, self._mode, view.cameras, view.size)
        return env


def serve(pipe: Connection, mode: Mode, slots: MutableSequence[int], beat: Any) -> None:
    """Plays units until the pipe closes.

    Args:
        pipe: Brings jobs and takes results or errors.
        mode: Of the simulator.
        slots: Shared memory of the stop signals.
        beat: Shared number that tells when this process was last seen alive [s].
    """

    def alive() -> None:
        beat.value = time.monotonic()

    alive()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    stage = Stage(mode)
    while True:
        try:
            job: Job = pipe.recv()
            pipe.send(_answer(stage, job, slots, alive))
        except (EOFError, OSError):  # nobody wants results any more
            return


def _answer(stage: Stage, job: Job, slots: MutableSequence[int], alive: Any) -> UnitResult | TgrpoError:
    try:
        alive()
        return stage.play(job, slots, alive)
    except TgrpoError as error:
        return error
    except Exception as error:  # noqa: BLE001  (whatever it is, the parent must hear of it)
        _log.exception("a rollout worker failed")
        return WorkerError(f"{type(error).__name__} in a rollout worker: {error}")


def _end_with_parent() -> None:
    """Ends this process at once when its parent is gone, in the middle of a rollout too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
