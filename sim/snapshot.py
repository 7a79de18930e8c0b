"""The complete state of a simulation, as arrays that survive a process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import msgspec
import numpy as np

from tgrpo.errors import SimulationError
from tgrpo.types import FloatArray

_VERSION = 1


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    suite: str
    task: int
    arrays: dict[str, bytes]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything that decides how a simulation continues, bit for bit.

    MuJoCo's own state is not enough: the controller keeps its goal, the gripper integrates its command, and the poses
    of fixtures are part of the model.
    """

    suite: str
    """Suite of the environment it was taken from."""
    task: int
    """Task of the environment it was taken from."""
    physics: FloatArray
    """MuJoCo's integration state ``mjSTATE_INTEGRATION``."""
    sensed: FloatArray
    """``(nq,)`` joint positions that poses and contacts were last computed from: one substep older than ``physics``."""
    controller: FloatArray
    """``(14,)`` goal position, goal rotation (row-major) and gripper command."""
    bodies: FloatArray
    """``(nbody, 7)`` position and quaternion of each body in its parent: where the fixtures stand."""

    def to_bytes(self) -> bytes:
        """Returns the snapshot as bytes; no pickle."""
        arrays = {name: np.ascontiguousarray(array, "<f8").tobytes() for name, array in self._arrays().items()}
        return msgspec.msgpack.encode(_Wire(_VERSION, self.suite, self.task, arrays))

    @classmethod
    def from_bytes(cls, data: bytes) -> Snapshot:
        """Returns the snapshot that :meth:`to_bytes` wrote.

        Raises:
            SimulationError: The bytes are not a snapshot, or one of another version.
        """
        try:
            wire = msgspec.msgpack.decode(data, type=_Wire)
            arrays = {name: np.frombuffer(wire.arrays[name], "<f8").astype(np.float64) for name in _ARRAYS}
            arrays["bodies"] = arrays["bodies"].reshape(-1, 7)
        except (msgspec.MsgspecError, KeyError, ValueError) as error:
            raise SimulationError(f"these bytes are not a snapshot of the simulator: {error}") from error
        if wire.version != _VERSION:
            raise SimulationError(f"snapshot has version {wire.version}, this program reads version {_VERSION}")
        return cls(wire.suite, wire.task, **arrays)

    def hash(self) -> str:
        """Returns a SHA-256 of task and state: equal hashes continue equally."""
        digest = hashlib.sha256(f"{self.suite}/{self.task}".encode())
        for array in self._arrays().values():
            digest.update(np.ascontiguousarray(array, "<f8").tobytes())
        return digest.hexdigest()

    def _arrays(self) -> dict[str, FloatArray]:
        return {name: getattr(self, name) for name in _ARRAYS}


_ARRAYS = tuple(field.name for field in fields(Snapshot) if field.name not in ("suite", "task"))
