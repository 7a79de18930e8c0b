"""Makes demonstrations: the expert searches blindly, its success is replayed with pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.expert.noise import NoiseSettings
from sim.expert.search import Attempt, search
from sim.libero import LiberoEnv
from tgrpo.errors import SimulationError
from tgrpo.record.demo_file import Demonstration


def collect(
    env: LiberoEnv,
    init_state: int,
    seed: int = 0,
    noise: NoiseSettings | None = None,
    *,
    every: int = 1,
    fixtures: int = 0,
) -> Demonstration | None:
    """Makes one demonstration.

    The search runs without pictures. The successful attempt is then executed once more from the same
    snapshot, which repeats it bit for bit, and pictures are drawn in that pass only.

    Args:
        env: Environment of the task; its cameras and picture size are what is drawn.
        init_state: Index of the recorded initial state.
        seed: Names the noise; equal seeds give equal demonstrations.
        noise: Perturbation of the executed actions; the labels stay clean.
        every: Control steps between pictures; 0 draws none.
        fixtures: Seed of the environment's fixture poses; 0 is the standard protocol.

    Returns:
        The demonstration, or None where no candidate of the expert reaches the goal.

    Raises:
        SettingsError: There is no such initial state.
    """
    env.reset(init_state, fixtures)
    *_, last = search(env, noise=noise, seed=(seed, init_state))
    if not last.success:
        return None
    proprio, frames, images = replay(env, last, every)
    return Demonstration(
        suite=env.suite,
        task=env.task,
        task_name=env.name,
        instruction=env.instruction,
        actions=last.actions.astype(np.float32),
        executed=last.executed.astype(np.float32),
        proprio=proprio,
        frames=frames,
        images=images,
        init_state=init_state,
        seed=seed,
        fixtures=fixtures,
        sigma=0.0 if noise is None else noise.sigma,
        candidate=last.candidate,
    )


def demonstrate(
    env: LiberoEnv,
    init_states: Iterable[int],
    noise: NoiseSettings | None = None,
    *,
    seeds: Iterable[int] = (0,),
    every: int = 1,
) -> Iterator[Demonstration]:
    """Yields the demonstrations of all initial states and seeds that the expert succeeds in."""
    for seed in tuple(seeds):
        for init_state in init_states:
            demo = collect(env, init_state, seed, noise, every=every)
            if demo is not None:
                yield demo


def replay(
    env: LiberoEnv, attempt: Attempt, every: int
) -> tuple[NDArray[np.float32], NDArray[np.int32], dict[str, NDArray[np.uint8]]]:
    """Executes a successful attempt again and records what is seen before each action.

    Args:
        env: Environment in the state in which the attempt began.
        attempt: What to execute.
        every: Control steps between pictures; 0 draws none.

    Returns:
        Proprioception ``(T, 8)``, steps of the pictures ``(F,)`` and pictures ``{camera: (F, H, W, 3)}``.

    Raises:
        SimulationError: The attempt does not succeed again: the state was another one.
    """
    proprio, frames = [], []
    images: dict[str, list[Any]] = {camera: [] for camera in (env.cameras if every else ())}
    done = False
    for step, action in enumerate(attempt.executed):
        proprio.append(env.proprio())
        if every and step % every == 0:
            frames.append(step)
            for camera, picture in env.render().items():
                images[camera].append(picture)
        done = env.step(action)
    if not done:
        raise SimulationError(f"a demonstration of {env.suite} task {env.task} did not succeed again when replayed")
    stacked = {camera: np.stack(pictures) for camera, pictures in images.items()}
    return np.array(proprio, np.float32), np.array(frames, np.int32), stacked
