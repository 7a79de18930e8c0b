"""What every rollout worker needs, prepared once: workers are forked from a process that has imported this module.

Importing torch, robosuite and LIBERO and reading the meshes of a scene takes about ten seconds of processor time; a
worker that replaces a lost one must not pay for that again. Nothing here starts a thread or opens a rendering context,
so forking is safe.
"""

from sim import stock, worker
from tgrpo.policies import tiny

__all__ = ["tiny", "worker"]

stock.preload()
