"""Pictures from MuJoCo's OpenGL renderer without a display, only when they are asked for."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from sim.headless import require_backend
from tgrpo.errors import MissingDependencyError
from tgrpo.types import Image

_VISIBLE_GEOM_GROUP = 1
_HIDDEN_GEOM_GROUP = 5


class Renderer:
    """Draws fixed cameras of one model.

    Attributes:
        size: Height and width of the pictures [px].
    """

    def __init__(self, model: Any, data: Any, size: int, fast: bool = False) -> None:
        """Creates the OpenGL context and uploads meshes and textures: 0.5 to two seconds.

        Args:
            model: ``mujoco.MjModel`` to draw.
            data: ``mujoco.MjData`` whose poses are drawn.
            size: Height and width of the pictures [px].
            fast: No multisampling, no reflections, no geometry outside the picture.

        Raises:
            MissingDependencyError: OpenGL without a display does not work on this machine.
        """
        self.size = size
        self._model, self._data = model, data
        if fast:
            model.vis.quality.offsamples = 0
            model.vis.global_.offwidth = model.vis.global_.offheight = size
        elif size > min(model.vis.global_.offwidth, model.vis.global_.offheight):
            model.vis.global_.offwidth = model.vis.global_.offheight = size
        self._context = _open_context(max(model.vis.global_.offwidth, model.vis.global_.offheight))
        self._resources = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._resources)
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        if fast:
            self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._culler = Culler(model, data) if fast else None
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = 0
        self._options.geomgroup[_VISIBLE_GEOM_GROUP] = 1
        self._perturbation = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def render(self, camera: int, size: int | None = None) -> Image:
        """Draws one camera.

        Args:
            camera: Index of the camera.
            size: Height and width of this picture [px]; :attr:`size` by default.

        Returns:
            Upright RGB picture ``(H, W, 3)``.
        """
        side = size or self.size
        self._context.make_current()
        if side > min(self._resources.offWidth, self._resources.offHeight):
            mujoco.mjr_resizeOffscreen(side, side, self._resources)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._resources)
        self._camera.fixedcamid = camera
        with self._culler.hidden(camera) if self._culler else contextlib.nullcontext():
            self._update_scene()
        viewport, pixels = mujoco.MjrRect(0, 0, side, side), np.empty((side, side, 3), np.uint8)
        mujoco.mjr_render(viewport, self._scene, self._resources)
        mujoco.mjr_readPixels(pixels, None, viewport, self._resources)
        return np.ascontiguousarray(pixels[::-1])

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._context.make_current()
        self._resources.free()
        self._context.free()

    def _update_scene(self) -> None:
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._options,
            self._perturbation,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )


class Culler:
    """Leaves out geometry whose bounding sphere is outside the picture."""

    def __init__(self, model: Any, data: Any) -> None:
        """Remembers the size of all geometry.

        Args:
            model: ``mujoco.MjModel`` to draw.
            data: ``mujoco.MjData`` whose poses are drawn.
        """
        self._model, self._data = model, data
        self._groups = model.geom_group.copy()
        self._radius = model.geom_rbound.copy()
        self._unbounded = self._radius == 0.0

    @contextlib.contextmanager
    def hidden(self, camera: int) -> Iterator[None]:
        """Hides what a camera cannot see, as long as the context lasts.

        Args:
            camera: Index of the camera.
        """
        self._model.geom_group[self._outside(camera)] = _HIDDEN_GEOM_GROUP
        try:
            yield
        finally:
            self._model.geom_group[:] = self._groups

    def _outside(self, camera: int) -> NDArray[np.bool_]:
        rotation = self._data.cam_xmat[camera].reshape(3, 3)
        centres = (self._data.geom_xpos - self._data.cam_xpos[camera]) @ rotation
        depth, radius = -centres[:, 2], self._radius
        slope = np.tan(np.deg2rad(self._model.cam_fovy[camera]) / 2.0)
        reach = radius * np.sqrt(1.0 + slope * slope)
        beside = np.abs(centres[:, :2]).max(axis=1) - slope * depth > reach
        return np.asarray((beside | (depth < -radius)) & ~self._unbounded, bool)


def _open_context(side: int) -> Any:
    backend = require_backend()
    try:
        context = importlib.import_module(f"mujoco.{backend}").GLContext(side, side)
        context.make_current()
    except (ImportError, RuntimeError, AttributeError) as error:
        raise MissingDependencyError(
            f"OpenGL does not work with MUJOCO_GL={backend} ({error}). "
            "Run: apt-get install --no-install-recommends libosmesa6, and set MUJOCO_GL=osmesa"
        ) from error
    return context
