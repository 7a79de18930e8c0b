"""Stock LIBERO, imported quietly and built without renderer, cameras and observables.

Importing robosuite warns about a missing private file, opens a log file in ``/tmp`` that belongs to whoever came first,
and LIBERO prints while it builds a benchmark. None of that reaches a user of this module; nothing is written anywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import io
import logging
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sim.headless import choose_backend
from tgrpo.errors import MissingDependencyError, UnknownNameError
from tgrpo.types import FloatArray

choose_backend()

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
"""Suites of LIBERO's paper; the first four are the 40 tasks of the standard protocol."""


@functools.cache
def suite_tasks(suite: str) -> tuple[Any, ...]:
    """Returns LIBERO's ``Task`` tuples of a suite, in the order of the standard protocol.

    Raises:
        UnknownNameError: No such suite.
        MissingDependencyError: LIBERO is not installed.
    """
    return tuple(_benchmark(suite).tasks)


@functools.cache
def init_states(suite: str, task: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns the recorded initial states of a task, shape ``(n, 1 + nq + nv)``: time, positions, velocities."""
    return np.asarray(_benchmark(suite).get_task_init_states(task), np.float64)


def bddl_file(suite: str, task: int) -> str:
    """Returns the path of the BDDL file that defines a task."""
    return str(_benchmark(suite).get_task_bddl_file_path(task))


def preload() -> None:
    """Pays once for what every scene has in common: imports, compiled functions, meshes of robot and table.

    MuJoCo and numba keep what they have prepared, also in processes forked from this one.

    Raises:
        MissingDependencyError: LIBERO or robosuite is not installed.
    """
    build(SUITES[0], 0)


def build(suite: str, task: int) -> Any:
    """Builds the robosuite environment of a task with neither renderer nor observables.

    Args:
        suite: One of :data:`SUITES`.
        task: Index of the task.

    Returns:
        LIBERO's ``BDDLBaseDomain`` after the reset of its constructor.
    """
    with _quiet(), preserved_rng():
        _quiet_robosuite()
        from libero.libero.envs.env_wrapper import ControlEnv

        wrapper = ControlEnv(
            bddl_file_name=bddl_file(suite, task),
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
        )
    _release_build_memory()
    env = wrapper.env
    # LIBERO's hard reset appends its door and knob samplers a second time before the first episode;
    # sampling them twice is part of the random stream that decides the fixture poses.
    env.object_property_initializers *= 2
    env.visualize(vis_settings=dict.fromkeys(env._visualizations, False))
    return env


def sample_fixtures(env: Any, seed: int, read: Callable[[], FloatArray]) -> FloatArray:
    """Draws the poses of fixtures as LIBERO does in the first episode after ``env.seed(seed)``.

    Args:
        env: Result of :func:`build`, with its bodies at the poses of the model file.
        seed: Seed given to LIBERO.
        read: Returns the poses of all bodies.
    """
    from robosuite.utils.errors import RandomizationError

    with preserved_rng(), _quiet():
        env.seed(seed)
        samplers = list(env.object_property_initializers)
        try:
            while True:
                env.sim.reset()
                try:
                    env._reset_internal()
                    return read()
                except RandomizationError:
                    env.object_property_initializers += samplers[: len(samplers) // 2]
        finally:
            env.object_property_initializers = samplers


@contextlib.contextmanager
def preserved_rng() -> Iterator[None]:
    """Keeps NumPy's global random state, which LIBERO seeds and draws from, as it was."""
    state = np.random.get_state()  # noqa: NPY002  (the state that robosuite draws from)
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@functools.cache
def _benchmark(suite: str) -> Any:
    if suite not in SUITES:
        raise UnknownNameError("suite", suite, SUITES)
    try:
        with _quiet():
            from libero.libero import benchmark

            return benchmark.get_benchmark(suite)(0)
    except ImportError as error:
        raise MissingDependencyError(
            f"LIBERO cannot be imported ({error}). Install it with: pip install 'tgrpo_ros[sim]'"
        ) from error


def _release_build_memory() -> None:
    """Gives back the 400 MB that MuJoCo's parsed scene and freed buffers still hold after a model was compiled."""
    import mujoco

    library = next(Path(mujoco.__file__).parent.glob("libmujoco.so*"), None)
    if library is not None:
        ctypes.CDLL(str(library)).mj_freeLastXML()
        ctypes.CDLL(None).malloc_trim(0)


def _quiet_robosuite() -> None:
    spec = importlib.util.find_spec("robosuite")
    if spec is None or spec.origin is None:
        raise MissingDependencyError("robosuite is not installed. Install it with: pip install 'tgrpo_ros[sim]'")
    name = "robosuite.macros_private"
    if name not in sys.modules and not (Path(spec.origin).parent / "macros_private.py").exists():
        macros = types.ModuleType(name)
        macros.FILE_LOGGING_LEVEL = None  # type: ignore[attr-defined]
        macros.CONSOLE_LOGGING_LEVEL = "ERROR"  # type: ignore[attr-defined]
        sys.modules[name] = macros
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
