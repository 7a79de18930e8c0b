"""The peers' way of stepping LIBERO, for comparison with ours.

Written from what RLinf (`rlinf/envs/libero`, `chunk_step` over a `SubprocVectorEnv`) and LeRobot (`envs/libero.py` in
an asynchronous vector environment) do: one process and one `OffScreenRenderEnv` for each rollout; an episode begins
with a reset, the initial state and ten steps at rest; at every control step all environments step, render and send
their whole observation through a pipe, also those that have succeeded; the policy sees all of them, and the loop runs
to the step limit. By default both render two cameras of 256 px; here it is one of 224 px, in their favour. Processes
and environments stay, as RLinf keeps them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.sim_speed import stock_env

REST = np.zeros(7)
SETTLE = 10


def serve(pipe: Connection, suite: str, task: int, size: int) -> None:
    """The life of one environment process."""
    env = stock_env(suite, ("agentview",), size, task)
    while True:
        try:
            command, data = pipe.recv()
        except EOFError:
            return
        if command == "reset":
            env.reset()
            pipe.send(env.set_init_state(data))
        else:
            pipe.send(env.step(data))


class PeerVector:
    """Environments in lockstep, one process each."""

    def __init__(self, count: int, suite: str, task: int, size: int) -> None:
        """Starts the processes."""
        # How they start is not compared, so they start as our workers do, which is faster.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["sim.preload"])
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, suite, task, size), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def reset(self, state: np.ndarray[Any, Any]) -> list[Any]:
        """Begins an episode in all of them."""
        self._ask("reset", [state] * len(self._pipes))
        for _ in range(SETTLE):
            answers = self._ask("step", [REST] * len(self._pipes))
        return [answer[0] for answer in answers]

    def step(self, actions: Sequence[np.ndarray[Any, Any]]) -> tuple[list[Any], np.ndarray[Any, Any]]:
        """One control step of all; returns observations and who has completed the task."""
        answers = self._ask("step", actions)
        return [answer[0] for answer in answers], np.array([bool(answer[2]) for answer in answers])

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.kill()
            process.join()

    def _ask(self, command: str, data: Sequence[Any]) -> list[Any]:
        for pipe, item in zip(self._pipes, data, strict=True):
            pipe.send((command, item))
        return [pipe.recv() for pipe in self._pipes]
