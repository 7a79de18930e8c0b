"""What every rollout worker needs, prepared once: workers are forked from a process that has imported this module.

Importing torch, robosuite and LIBERO and reading the meshes of a scene takes about ten seconds of processor time; a
worker that replaces a lost one must not pay for that again. If the pool says which scene its rollouts are played in,
workers share that, too. Nothing here starts a thread or opens a rendering context, so forking is safe.
"""

import os

import msgspec

from sim import libero, stock, worker
from tgrpo.policies import tiny

__all__ = ["tiny", "worker"]

if scene := os.environ.get(worker.SCENE):
    libero.prepare(*msgspec.json.decode(scene, type=tuple[str, int, libero.Mode]))
else:
    stock.preload()
