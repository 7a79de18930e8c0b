"""What every rollout worker needs, prepared once: workers are forked from a process that has imported this module.

Importing torch, robosuite and LIBERO and reading the meshes of a scene takes about ten seconds of processor time; a
worker that replaces a lost one must not pay for that again. If the pool says which scene its rollouts are played in,
workers share that, too, and what it is drawn with. Nothing here starts a thread, so forking is safe.
"""

import contextlib
import os

import msgspec

from sim import headless, libero, stock, worker
from tgrpo.errors import TgrpoError
from tgrpo.policies import tiny

__all__ = ["tiny", "worker"]

headless.draw_without_threads()
if scene := os.environ.get(worker.SCENE):
    with contextlib.suppress(TgrpoError):  # what is missing here is missed by whoever plays, who can say so
        libero.prepare(*msgspec.json.decode(scene, type=tuple[str, int, libero.Mode]))
else:
    stock.preload()
