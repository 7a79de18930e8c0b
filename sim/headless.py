"""Choice of the OpenGL library for rendering without a display."""

from __future__ import annotations

import ctypes.util
import os
from pathlib import Path

from tgrpo.errors import MissingDependencyError, UnknownNameError

BACKENDS = ("osmesa", "egl")
_WITHOUT_THREADS = {"LP_NUM_THREADS": "0", "MESA_SHADER_CACHE_DISABLE": "true"}
_REMEDY = "apt-get install --no-install-recommends libosmesa6"


def choose_backend() -> str:
    """Returns the renderer to use, and sets ``MUJOCO_GL`` to it when that is unset.

    A graphics card is used through EGL; without one OSMesa renders on the CPU, or EGL where only that is installed.
    Must run before ``mujoco`` or ``robosuite`` is imported: both read the variable while they are imported.

    Returns:
        ``"osmesa"`` or ``"egl"``, or an empty string where no library is installed: physics works without.

    Raises:
        UnknownNameError: ``MUJOCO_GL`` is set to something that cannot render without a display.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wanted:
        if wanted not in BACKENDS:
            raise UnknownNameError("value of MUJOCO_GL", wanted, BACKENDS)
        return wanted
    libraries = {"osmesa": ctypes.util.find_library("OSMesa"), "egl": ctypes.util.find_library("EGL")}
    order = ("egl", "osmesa") if Path("/dev/nvidia0").exists() else BACKENDS
    found = next((name for name in order if libraries[name]), "")
    os.environ["MUJOCO_GL"] = found or "disabled"
    return found


def require_backend() -> str:
    """Returns the renderer chosen by :func:`choose_backend`.

    Raises:
        MissingDependencyError: No OpenGL library that works without a display is installed.
    """
    backend = os.environ.get("MUJOCO_GL", "")
    if backend not in BACKENDS:
        raise MissingDependencyError(
            f"no OpenGL library for rendering without a display: neither OSMesa nor EGL was found. Run: {_REMEDY}"
        )
    return backend


def draw_without_threads() -> None:
    """Lets Mesa draw in the thread that asks for a picture, for a process that will be forked: threads are not copied.

    Must run before the first picture. Mesa's cache of compiled shaders is written by a thread, too.
    """
    os.environ.update(_WITHOUT_THREADS)


def draws_without_threads() -> bool:
    """Whether :func:`draw_without_threads` has been called, and the renderer is one that obeys."""
    obeyed = all(os.environ.get(name) == value for name, value in _WITHOUT_THREADS.items())
    return obeyed and os.environ.get("MUJOCO_GL") == "osmesa"
