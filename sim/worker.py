"""The life of one rollout worker: units in, results out; see :mod:`sim.vector` for the other side."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TypeAlias

import torch

from sim import solo
from sim.approach import Approach
from sim.libero import LiberoEnv, Mode, make
from sim.lookahead import Lookahead
from sim.rollout import Helpers, Part, StopSignal, Unit, UnitResult, play
from tgrpo.errors import SimulationError, TgrpoError
from tgrpo.policies import Policy, load
from tgrpo.policies.base import MeanTemperature
from tgrpo.rewards import load_stages

_log = logging.getLogger(__name__)

SCENE = "TGRPO_SCENE"
"""Variable in which a pool tells the process that its workers are forked from what they will play."""
SILENT = 300.0
"""Time that a process may take to start, to load a policy or to build a scene, all without a sign of life [s]."""
REPORT = 1.0
"""Time between two reports of how far rollouts are [s]."""
REPORT_SHARE = 0.02
"""Most of a worker's time that reports may take; those with many pictures come less often."""


class Pulse(ctypes.Structure):
    """What a worker and its pool see of each other at any time, in shared memory."""

    _fields_ = (
        ("beat", ctypes.c_double),
        ("running", ctypes.c_int),
        ("asked", ctypes.c_int),
        ("simulated", ctypes.c_longlong),
        ("inferred", ctypes.c_longlong),
    )
    beat: float
    """When the worker last gave a sign of life, on the machine's monotonic clock [s]."""
    running: int
    """Rollouts that it has to play before it is free."""
    asked: int
    """1 if it shall give half of them away, as another worker is idle."""
    simulated: int
    """Control steps that it has executed, see :class:`sim.rollout.Tally`."""
    inferred: int
    """Observations that it has asked its policy about."""


@dataclass(frozen=True)
class Job:
    """Rollouts on their way to a worker."""

    part: Part
    policy: str
    """Checkpoint folder."""
    slot: int
    """Where the unit's first rollout reports its success; the others follow."""
    together: tuple[int, ...] | None
    """Slots of all rollouts of its group; None if they run to their own ends."""


@dataclass(frozen=True)
class Crash:
    """Rollouts that came to nothing because of an error that nobody expected."""

    cause: str


@dataclass(frozen=True)
class Report:
    """How far the rollouts of a job are; if they are lost, they go on from here."""

    part: Part


Answer: TypeAlias = UnitResult | Part | Report | Crash | TgrpoError
"""What a worker sends."""


class SharedStop(StopSignal):
    """The stop of a group, in shared memory.

    Each rollout has its own slot, so that there is no lock which a killed worker could keep for ever.
    """

    def __init__(self, slots: MutableSequence[int], first: int, group: tuple[int, ...]) -> None:
        """Looks at shared memory.

        Args:
            slots: One number for each rollout of the batch.
            first: Slot of the unit's first rollout.
            group: Slots of all rollouts of its group.
        """
        super().__init__()
        self._slots, self._own, self._group = slots, first, group

    def get(self) -> int:
        """The earliest success so far [control steps]."""
        return min(self._slots[slot] for slot in self._group)

    def lower(self, step: int, row: int) -> None:
        """Reports that a rollout of the unit has succeeded at a control step."""
        self._slots[self._own + row] = min(self._slots[self._own + row], step)


class OtherWorkers(Helpers):
    """Gives rollouts back to the pool when it asks, for a worker that is idle."""

    def __init__(self, pipe: Connection, pulse: Pulse) -> None:
        """Asks nobody.

        Args:
            pipe: To the pool.
            pulse: Of this worker.
        """
        self._pipe, self._pulse, self._due = pipe, pulse, time.monotonic() + REPORT

    def wanted(self, running: int) -> bool:
        """Gives a sign of life, too."""
        self._pulse.beat = time.monotonic()
        self._pulse.running = running
        asked, self._pulse.asked = self._pulse.asked, 0
        return bool(asked)

    def take(self, part: Part) -> None:
        """Sends them to the pool."""
        self._pipe.send(part)

    def hear(self, progress: Callable[[], Part]) -> None:
        """Gives a sign of life, and now and then tells the pool how far the rollouts are."""
        self._pulse.beat = started = time.monotonic()
        if started < self._due:
            return
        self._pipe.send(Report(progress()))
        took = time.monotonic() - started
        self._due = started + max(REPORT, took / REPORT_SHARE)


class Stage:
    """What a worker keeps between units: its environment and its policy."""

    def __init__(self, mode: Mode, pulse: Pulse) -> None:
        """Holds nothing yet.

        Args:
            mode: Of the environments.
            pulse: Of this worker.
        """
        self._mode, self._pulse = mode, pulse
        self._policy: tuple[tuple[str, MeanTemperature | None], Policy] | None = None
        self._env: LiberoEnv | None = None

    def play(self, job: Job, slots: MutableSequence[int], helpers: Helpers) -> UnitResult:
        """Plays rollouts, with a new environment or policy only where the last ones had another one."""
        unit, policy = job.part.unit, self._load(job.policy, job.part.unit.mean_temperature)
        env = self._enter(unit, policy)
        alone = unit.lookahead > 0 or unit.planner
        stages = load_stages(unit.suite, env.name) if unit.rewards or alone else None
        stop = None if job.together is None else SharedStop(slots, job.slot, job.together)
        self._pulse.beat = time.monotonic()
        if alone and stages is not None:
            decider = (Approach if unit.planner else Lookahead)(env, policy, self._pulse)
            return solo.play(env, decider, job.part, stages, helpers, self._pulse)
        return play(env, policy, job.part, stages=stages, stop=stop, helpers=helpers, tally=self._pulse)

    def forget(self) -> None:
        """Lets go of an environment that an error may have left in any state."""
        self._env = None

    def _load(self, folder: str, mean_temperature: MeanTemperature | None) -> Policy:
        if self._policy is None or self._policy[0] != (folder, mean_temperature):
            self._pulse.beat = time.monotonic() + SILENT
            self._policy = ((folder, mean_temperature), load(folder, mean_temperature))
        return self._policy[1]

    def _enter(self, unit: Unit, policy: Policy) -> LiberoEnv:
        view = policy.spec.observation
        wanted = (unit.suite, unit.task, view.cameras, view.size)
        env = self._env
        if env is None or (env.suite, env.task, env.cameras, env.size) != wanted:
            self._pulse.beat = time.monotonic() + SILENT
            self._env = None
            if env is not None:
                env.close()
            env = self._env = make(unit.suite, unit.task, self._mode, view.cameras, view.size)
            # The first picture sends textures and meshes to the renderer, which takes longer than some are patient.
            env.reset(unit.start(0), unit.env_seed)
            env.render()
        return env


def serve(pipe: Connection, mode: Mode, slots: MutableSequence[int], pulse: Pulse) -> None:
    """Plays rollouts until the pipe closes.

    Args:
        pipe: Brings jobs and takes results or errors.
        mode: Of the simulator.
        slots: Shared memory of the stop signals.
        pulse: Shared with the pool.
    """
    pulse.beat = time.monotonic()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    stage, helpers = Stage(mode, pulse), OtherWorkers(pipe, pulse)
    while True:
        try:
            job: Job = pipe.recv()
            pulse.beat = time.monotonic()
            pipe.send(answer(stage, job, slots, helpers))
        except (EOFError, OSError):  # nobody wants results any more
            return


def answer(stage: Stage, job: Job, slots: MutableSequence[int], helpers: Helpers) -> Answer:
    """What comes of a job: a result, or an error as a value."""
    try:
        return stage.play(job, slots, helpers)
    except SimulationError as error:
        stage.forget()
        return Crash(str(error))
    except TgrpoError as error:
        return error
    except Exception as error:  # noqa: BLE001  (whatever it is, the parent must hear of it)
        _log.exception("a rollout worker failed")
        stage.forget()
        return Crash(f"{type(error).__name__} in a rollout worker: {error}")


def _end_with_parent() -> None:
    """Ends this process at once when its parent is gone, in the middle of a rollout too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
