"""Pictures from MuJoCo's OpenGL renderer without a display, only when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any

import mujoco
import numpy as np

from sim.headless import require_backend
from tgrpo.errors import MissingDependencyError
from tgrpo.types import Image

_VISIBLE_GEOM_GROUP = 1


class Renderer:
    """Draws fixed cameras of one model.

    Attributes:
        size: Height and width of the pictures [px].
    """

    def __init__(self, model: Any, data: Any, size: int) -> None:
        """Creates the OpenGL context and uploads meshes and textures: one to two seconds.

        Args:
            model: ``mujoco.MjModel`` to draw.
            data: ``mujoco.MjData`` whose poses are drawn.
            size: Height and width of the pictures [px].

        Raises:
            MissingDependencyError: OpenGL without a display does not work on this machine.
        """
        self.size = size
        self._model, self._data = model, data
        side = max(size, model.vis.global_.offwidth)
        backend = require_backend()
        try:
            self._context = importlib.import_module(f"mujoco.{backend}").GLContext(side, side)
            self._context.make_current()
        except (ImportError, RuntimeError, AttributeError) as error:
            raise MissingDependencyError(
                f"OpenGL does not work with MUJOCO_GL={backend} ({error}). "
                "Run: apt-get install --no-install-recommends libosmesa6, and set MUJOCO_GL=osmesa"
            ) from error
        if size > min(model.vis.global_.offwidth, model.vis.global_.offheight):
            model.vis.global_.offwidth = model.vis.global_.offheight = size
        self._resources = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._resources)
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = 0
        self._options.geomgroup[_VISIBLE_GEOM_GROUP] = 1
        self._perturbation = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)

    def render(self, camera: int) -> Image:
        """Draws one camera.

        Args:
            camera: Index of the camera.

        Returns:
            Upright RGB picture ``(H, W, 3)``.
        """
        self._context.make_current()
        self._camera.fixedcamid = camera
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._options,
            self._perturbation,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        mujoco.mjr_render(self._viewport, self._scene, self._resources)
        mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._resources)
        return np.ascontiguousarray(self._pixels[::-1])

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._context.make_current()
        self._resources.free()
        self._context.free()
