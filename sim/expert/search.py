"""Runs the expert in the simulator and searches over its candidates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.expert.motion import Command, SkillFailedError
from sim.expert.noise import Noise, NoiseSettings
from sim.expert.planner import Candidate, candidates, jobs, script
from sim.expert.scene import Scene
from tgrpo.types import FloatArray

LIMIT = 8
"""Candidates that are tried for a task with one job."""
LIMIT_PAIRS = 12
"""Candidates that are tried for a task with more than one job."""
FAVOURITES: dict[tuple[str, int], Candidate] = {
    ("libero_object", 1): (2,),
    ("libero_object", 9): (1,),
    ("libero_spatial", 4): (3,),
    ("libero_spatial", 6): (2,),
    ("libero_10", 3): (4, 0),
}
"""The candidate that works for most initial states of a task, where it is not the first one.

Trying it first keeps the demonstrations of a task alike, which is what behaviour cloning needs.
"""


class Simulator(Protocol):
    """The part of a LIBERO environment that the expert uses."""

    suite: str
    task: int
    goal: Any
    max_steps: int

    @property
    def model(self) -> Any:
        """MuJoCo model."""
        ...

    @property
    def data(self) -> Any:
        """MuJoCo data."""
        ...

    def step(self, action: NDArray[Any]) -> bool:
        """Executes one action ``(7,)`` and says whether the task is done."""
        ...

    def snapshot(self) -> Any:
        """The complete present state."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Goes back to a snapshot."""
        ...


class Attempt(NamedTuple):
    """One run of one candidate."""

    candidate: Candidate
    actions: FloatArray
    """Clean actions ``(T, 7)``."""
    executed: FloatArray
    """What was executed ``(T, 7)``."""
    success: bool
    reason: str
    """Why it failed; empty on success."""


def attempt(env: Simulator, candidate: Candidate, noise: Noise | None = None) -> Attempt:
    """Runs one candidate from the present state until the task is done, it fails or time is up.

    Args:
        env: Environment after its reset; it is left where the attempt ended.
        candidate: Variant of each job.
        noise: Perturbation of the executed actions.
    """
    scene = Scene(env.model, env.data)
    clean: list[FloatArray] = []
    executed: list[FloatArray] = []
    success, reason = False, "the motions ended before the task was done"
    try:
        for action, slack in _commands(scene, env, candidate):
            clean.append(action)
            executed.append(action if noise is None else noise.perturb(action, slack))
            success = env.step(executed[-1])
            if success or len(clean) >= env.max_steps:
                break
    except SkillFailedError as error:
        reason = str(error)
    if success:
        reason = ""
    elif len(clean) >= env.max_steps:
        reason = f"not done after {env.max_steps} steps"
    return Attempt(candidate, np.array(clean).reshape(-1, 7), np.array(executed).reshape(-1, 7), success, reason)


def _commands(scene: Scene, env: Simulator, candidate: Candidate) -> Iterator[Command]:
    return script(scene, jobs(scene, env.goal), candidate)


def ordered_candidates(env: Simulator) -> list[Candidate]:
    """The candidates of a task, its favourite first."""
    count = len(jobs(Scene(env.model, env.data), env.goal))
    found = candidates(count, LIMIT if count == 1 else LIMIT_PAIRS)
    favourite = FAVOURITES.get((env.suite, env.task))
    return found if favourite is None else [favourite, *(one for one in found if one != favourite)]


def search(
    env: Simulator,
    *,
    order: Iterable[Candidate] | None = None,
    noise: NoiseSettings | None = None,
    seed: tuple[int, ...] = (0,),
) -> Iterator[Attempt]:
    """Tries candidates from the present state until one succeeds.

    Args:
        env: Environment after its reset; after the last attempt it is back at its present state.
        order: Candidates to try; by default all of the task, its favourite first and, with noise,
            the favourite three times with different noise before the others.
        noise: Perturbation of the executed actions.
        seed: Non-negative numbers that name the noise.

    Yields:
        Each attempt; the last one is the first success, if there is one.
    """
    start = env.snapshot()
    tries = list(order) if order is not None else ordered_candidates(env)
    if noise is not None and noise.sigma > 0.0 and order is None:
        tries = [tries[0], tries[0], *tries]
    for index, candidate in enumerate(tries):
        stream = None if noise is None or noise.sigma == 0.0 else Noise(noise, (*seed, index))
        result = attempt(env, candidate, stream)
        env.restore(start)
        yield result
        if result.success:
            return
