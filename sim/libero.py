"""LIBERO tasks with the standard protocol, exact snapshots and pictures on demand.

Example:
    >>> env = make("libero_object", 0, mode="fast", size=128)
    >>> env.reset(init_state=0, seed=0)
    >>> done = env.step(np.zeros(7))
    >>> env.render()["agentview"].shape
    (128, 128, 3)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim import native, stock
from sim.headless import draws_without_threads
from sim.native import NativeStepper
from sim.osc import SETTLE_ACTION, PythonStepper
from sim.quantities import Readout
from sim.render import Renderer
from sim.simplify import simplify
from sim.snapshot import Snapshot
from sim.stock import SUITES as SUITES
from tgrpo import rotation
from tgrpo.errors import SettingsError, SimulationError, UnknownNameError
from tgrpo.spec import ActionSpec
from tgrpo.types import FloatArray, Image, Observation

Mode = Literal["exact", "fast"]

MAX_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
"""Step limit of each suite in the standard protocol, without the settle steps."""
SETTLE_STEPS = 10
"""Steps that let objects come to rest before the policy acts."""
FILM_SIZE = 256
"""Height and width of the pictures for videos [px]."""
CAMERA_ALIASES = {"wrist": "robot0_eye_in_hand"}
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_prepared: dict[tuple[str, int, Mode], LiberoEnv] = {}


def task_names(suite: str) -> list[str]:
    """Returns the names of a suite's tasks, in order.

    Raises:
        UnknownNameError: No such suite.
    """
    return [task.name for task in stock.suite_tasks(suite)]


def resolve_task(suite: str, task: int | str) -> int:
    """Returns the index of a task given by index, decimal digits or name.

    Raises:
        UnknownNameError: The suite has no such task.
    """
    names = task_names(suite)
    if isinstance(task, str) and task in names:
        return names.index(task)
    index = int(task) if isinstance(task, int) or task.isdecimal() else -1
    if not 0 <= index < len(names):
        raise UnknownNameError(f"task of {suite}", task, [f"{i}: {name}" for i, name in enumerate(names)])
    return index


def make(
    suite: str,
    task: int | str,
    mode: Mode = "exact",
    cameras: Iterable[str] = ("agentview",),
    size: int = 224,
) -> LiberoEnv:
    """Creates the environment of one task.

    Args:
        suite: One of :data:`SUITES`.
        task: Index or name of the task.
        mode: ``exact`` equals stock LIBERO in states and pixels; ``fast`` simplifies pictures and rounding.
        cameras: Views to render: ``agentview``, ``robot0_eye_in_hand`` (alias ``wrist``) or any other of the scene.
        size: Height and width of the pictures [px].

    Raises:
        UnknownNameError: Suite, task, mode or camera does not exist.
        MissingDependencyError: LIBERO is not installed.
    """
    index = resolve_task(suite, task)
    env = _prepared.pop((suite, index, mode), None) or LiberoEnv(suite, index, mode)
    env.look(tuple(cameras), size)
    return env


def prepare(suite: str, task: int, mode: Mode) -> None:
    """Builds what the next :func:`make` of a task gets, here or in a process that is forked from this one.

    Where the renderer has no threads, even what it draws with is there already.

    Raises:
        UnknownNameError: Suite, task or mode does not exist.
        MissingDependencyError: LIBERO is not installed.
    """
    env = LiberoEnv(suite, resolve_task(suite, task), mode)
    env.look(("agentview",), 1)  # what is drawn into grows with the pictures, and large is slow
    env.reset(0)
    if draws_without_threads():
        env.render()
    _prepared[suite, env.task, mode] = env


class LiberoEnv:
    """One LIBERO task.

    Attributes:
        suite: Name of the suite.
        task: Index of the task.
        name: Name of the task.
        instruction: The task in words, LIBERO's ``task.language``.
        goal: Conjuncts of the goal, for example ``[("on", "akita_black_bowl_1", "plate_1")]``.
        max_steps: Step limit of the standard protocol.
        n_init_states: Number of recorded initial states.
        action_spec: Convention of the actions.
        mode: ``exact`` or ``fast``.
        cameras: Names of the rendered views.
        size: Height and width of the pictures [px].
    """

    def __init__(self, suite: str, task: int, mode: Mode) -> None:
        """See :func:`make`."""
        if mode not in ("exact", "fast"):
            raise UnknownNameError("simulator mode", mode, ("exact", "fast"))
        definition = stock.suite_tasks(suite)[task]
        self.suite, self.task, self.mode = suite, task, mode
        self.cameras: tuple[str, ...] = ()
        self.size = 0
        self.name, self.instruction = str(definition.name), str(definition.language)
        self.max_steps = MAX_STEPS[suite]
        self.action_spec = ActionSpec()
        self._init_states = stock.init_states(suite, task)
        self.n_init_states = len(self._init_states)
        self._env = stock.build(suite, task)
        self._model, self._data = self._env.sim.model._model, self._env.sim.data._data
        self._camera_ids: dict[str, int] = {}
        self._designed = self._bodies()
        self._stepper = PythonStepper(self._model, self._data, self._env)
        library = native.load() if mode == "fast" else None
        self._native = NativeStepper(library, self._model, self._data, self._stepper) if library else None
        self._readout = Readout(self._env, self._model, self._data)
        self.goal = self._readout.goal
        self._renderer: Renderer | None = None
        self._simplified = False
        self._fixtures: dict[int, FloatArray] = {}
        self._settled: dict[tuple[int, int], Snapshot] = {}

    def look(self, cameras: tuple[str, ...], size: int) -> None:
        """Chooses the pictures; see :func:`make`.

        Raises:
            UnknownNameError: There is no such camera.
            SettingsError: Pictures have no such size.
        """
        if size < 1:
            raise SettingsError(f"picture size is {size}, must be at least 1 pixel")
        self._camera_ids = {camera: self._camera_id(camera) for camera in cameras}
        self.cameras, self.size = cameras, size
        if self._renderer is not None:
            self._renderer.size = size

    def reset(self, init_state: int, seed: int = 0) -> None:
        """Starts an episode with the standard protocol: seed, reset, initial state, ten settle steps.

        The result depends on the two arguments alone, not on what this or another environment did before.

        Args:
            init_state: Index of the recorded initial state.
            seed: Seed of the poses of fixtures.

        Raises:
            SettingsError: There is no such initial state.
        """
        if not 0 <= init_state < self.n_init_states:
            raise SettingsError(
                f"initial state {init_state} does not exist: {self.name} has 0 to {self.n_init_states - 1}"
            )
        key = (init_state, seed)
        if key not in self._settled:
            self._settle(self._init_states[init_state], self._fixture_poses(seed))
            self._settled[key] = self.snapshot()
        self.restore(self._settled[key])

    def step(self, action: ArrayLike) -> bool:
        """Executes one action for 50 ms of simulated time.

        Args:
            action: ``(7,)`` in [-1, 1] by :attr:`action_spec`; clipped.

        Returns:
            Whether the task is completed.

        Raises:
            SimulationError: The action has another shape or is not finite.
        """
        command = np.asarray(action, np.float64)
        if command.shape != (7,) or not np.isfinite(command).all():
            raise SimulationError(f"an action has 7 finite numbers, got {command!r}")
        (self._native or self._stepper).step(command)
        return self._readout.success()

    def render(self) -> dict[str, Image]:
        """Draws all cameras.

        Returns:
            Camera name, as given to :func:`make`, to upright RGB picture ``(size, size, 3)``.

        Raises:
            MissingDependencyError: OpenGL without a display does not work on this machine.
        """
        renderer = self._ready_renderer()
        return {name: renderer.render(camera) for name, camera in self._camera_ids.items()}

    def film(self) -> Image:
        """Draws the scene for people: ``agentview``, upright RGB ``(256, 256, 3)``, whatever the policy sees."""
        return self._ready_renderer().render(self._camera_id("agentview"), FILM_SIZE)

    def observation(self, render: bool = True) -> Observation:
        """Returns what a policy sees.

        Args:
            render: Draw the cameras; without, ``images`` is empty.
        """
        return Observation(self.render() if render else {}, self.instruction, self.proprio())

    def proprio(self) -> NDArray[np.float32]:
        """Returns end-effector position ``(3,)`` [m], axis-angle ``(3,)`` [rad] and finger positions ``(2,)`` [m]."""
        return self._readout.proprio()

    def tool_pose(self) -> tuple[FloatArray, FloatArray]:
        """Returns what the arm's controller steers: position ``(3,)`` [m] and quaternion ``(4,)``, x y z w."""
        site = self._stepper.arm.site
        return self._data.site_xpos[site].copy(), rotation.from_matrix(self._data.site_xmat[site])

    def joint_state(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns joint positions ``(7,)`` [rad], velocities ``(7,)`` [rad/s] and finger positions ``(2,)`` [m]."""
        arm, data = self._stepper.arm, self._data
        return data.qpos[arm.qpos], data.qvel[arm.qvel], self._readout.fingers()

    def success(self) -> bool:
        """Whether the task is completed in the present state."""
        return self._readout.success()

    def quantities(self) -> dict[str, FloatArray]:
        """Returns the named quantities that rewards are computed from."""
        return self._readout.quantities()

    def snapshot(self) -> Snapshot:
        """Returns the complete state."""
        physics = np.empty(mujoco.mj_stateSize(self._model, _STATE))
        mujoco.mj_getState(self._model, self._data, physics, _STATE)
        stepper = self._stepper
        return Snapshot(
            self.suite, self.task, physics, stepper.sensed.copy(), stepper.controller.copy(), self._bodies()
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Continues from a snapshot of the same task, also one taken in another process.

        Raises:
            SimulationError: The snapshot is of another task or another version of its scene.
        """
        model, data = self._model, self._data
        if (snapshot.suite, snapshot.task) != (self.suite, self.task):
            raise SimulationError(
                f"snapshot is of {snapshot.suite} task {snapshot.task}, this is {self.suite} task {self.task}"
            )
        if snapshot.physics.size != mujoco.mj_stateSize(model, _STATE) or len(snapshot.bodies) != model.nbody:
            raise SimulationError(f"snapshot of {self.suite} task {self.task} comes from another version of its scene")
        self._place_bodies(snapshot.bodies)
        data.qpos[:] = snapshot.sensed
        mujoco.mj_fwdPosition(model, data)
        mujoco.mj_setState(model, data, snapshot.physics, _STATE)
        self._stepper.sensed[:] = snapshot.sensed
        self._stepper.controller[:] = snapshot.controller

    @property
    def model(self) -> Any:
        """MuJoCo model of the scene, for scripted experts; policies must not look at it."""
        return self._model

    @property
    def data(self) -> Any:
        """MuJoCo data of the scene, only to be read."""
        return self._data

    def state_hash(self) -> str:
        """Returns a SHA-256 of the complete state; equal hashes continue equally."""
        return self.snapshot().hash()

    def close(self) -> None:
        """Frees the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _ready_renderer(self) -> Renderer:
        if self._renderer is None:
            fast = self.mode == "fast"
            if fast and not self._simplified:
                simplify(self._model)
                self._simplified = True
            self._renderer = Renderer(self._model, self._data, self.size, fast=fast)
        self._env._post_process()
        return self._renderer

    def _camera_id(self, camera: str) -> int:
        name = CAMERA_ALIASES.get(camera, camera)
        index = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        if index < 0:
            names = [self._model.camera(i).name for i in range(self._model.ncam)]
            raise UnknownNameError("camera", camera, [*names, *CAMERA_ALIASES])
        return int(index)

    def _bodies(self) -> FloatArray:
        return np.hstack([self._model.body_pos, self._model.body_quat])

    def _place_bodies(self, bodies: FloatArray) -> None:
        self._model.body_pos[:] = bodies[:, :3]
        self._model.body_quat[:] = bodies[:, 3:]

    def _fixture_poses(self, seed: int) -> FloatArray:
        if seed not in self._fixtures:
            self._place_bodies(self._designed)
            self._fixtures[seed] = stock.sample_fixtures(self._env, seed, self._bodies)
        return self._fixtures[seed]

    def _settle(self, init_state: FloatArray, bodies: FloatArray) -> None:
        model, data = self._model, self._data
        mujoco.mj_resetData(model, data)
        self._place_bodies(bodies)
        data.time = init_state[0]
        data.qpos[:] = init_state[1 : 1 + model.nq]
        data.qvel[:] = init_state[1 + model.nq :]
        mujoco.mj_forward(model, data)
        self._stepper.reset()
        for step in range(SETTLE_STEPS):
            self._stepper.step(SETTLE_ACTION, first=step == 0)
