"""Dense rewards from stage files: which stage of its task a rollout is in, and how far it is to the next one.

Everything is computed from named quantities (:data:`tgrpo.types.Quantities`); nothing here knows a simulator.
"""

from tgrpo.rewards.files import available, load_stages, read_stages
from tgrpo.rewards.machine import StageMachine, StepReward
from tgrpo.rewards.spec import StageFile

__all__ = ["StageFile", "StageMachine", "StepReward", "available", "load_stages", "read_stages"]
