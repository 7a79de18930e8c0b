"""The control step in native code, compiled on first use; :class:`sim.osc.PythonStepper` is the fallback."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from sim.osc import PythonStepper
from tgrpo.types import FloatArray

_SOURCE = Path(__file__).with_name("osc.c")
_FLAGS = ("-O3", "-fPIC", "-shared", "-std=gnu11", "-ffp-contract=off")
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Returns where compiled code is kept: ``tgrpo_ros`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tgrpo_ros"


@functools.cache
def load() -> ctypes.CDLL | None:
    """Returns the compiled control step, compiled now if it is not in the cache yet.

    Returns:
        The library, or None where it cannot be compiled or loaded; that is logged as one warning.
    """
    try:
        return ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        _log.warning(
            "the native control step cannot be compiled, simulation is about half as fast: %s. "
            "Install a C compiler: apt-get install gcc libc6-dev",
            detail.strip(),
        )
        return None


def _compiled() -> Path:
    package = Path(mujoco.__file__).parent
    key = hashlib.sha256(_SOURCE.read_bytes())
    key.update(repr((mujoco.__version__, str(package), sysconfig.get_platform(), _FLAGS)).encode())
    target = cache_folder() / f"osc-{key.hexdigest()[:16]}.so"
    if target.exists():
        return target
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise FileNotFoundError("no C compiler was found")
    library = next(package.glob("libmujoco.so*"), None)
    if library is None:
        raise FileNotFoundError(f"no libmujoco.so in {package}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        result = Path(folder) / target.name
        command = [
            *compiler.split(), *_FLAGS, f"-I{package / 'include'}", str(_SOURCE), "-o", str(result),
            str(library), f"-Wl,-rpath,{package}", "-lm",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        result.replace(target)
    return target


class NativeStepper:
    """Control step in native code: the law of :class:`~sim.osc.PythonStepper`, equal to about 1e-6 after 60 steps."""

    def __init__(self, library: ctypes.CDLL, model: Any, data: Any, reference: PythonStepper) -> None:
        """Shares the state of a Python stepper, so that either can execute the next step.

        Args:
            library: Result of :func:`load`.
            model: ``mujoco.MjModel`` to simulate.
            data: ``mujoco.MjData`` to advance.
            reference: Stepper of the same model and data.
        """
        arm = reference.arm
        indices = [*arm.qpos, *arm.qvel, *arm.torques, *arm.fingers, arm.site, arm.substeps]
        self._indices = np.array(indices, np.intc)
        limits = [arm.torque_low, arm.torque_high, arm.initial_joints, arm.finger_bias, arm.finger_weight]
        self._constants = np.concatenate([arm.kp, arm.kd, arm.scale, *limits])
        self._work = np.zeros(6 * model.nv + model.nv**2)
        self._owners = (model, data, reference)
        self._function = library.tgrpo_control_step
        self._function.restype = None
        arrays = (self._indices, self._constants, reference.controller, reference.sensed, self._work)
        pointers = [model._address, data._address, *(array.ctypes.data for array in arrays)]
        self._arguments = [ctypes.c_void_p(pointer) for pointer in pointers]

    def step(self, action: FloatArray) -> None:
        """Executes one action ``(7,)`` in [-1, 1] for 50 ms; other Python threads run meanwhile."""
        action = np.ascontiguousarray(action)
        self._function(*self._arguments, ctypes.c_void_p(action.ctypes.data))
