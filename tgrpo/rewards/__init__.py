"""Dense rewards from stage files: which stage of its task a rollout is in, and how far it is to the next one.

Everything is computed from named quantities (:data:`tgrpo.types.Quantities`); nothing here knows a simulator. An
environment offers, as float64 arrays:

* ``eef/position`` ``(3,)`` [m], ``eef/quaternion`` ``(4,)`` wxyz, ``gripper/opening`` ``()`` [m];
* for each object and fixture ``NAME/position`` ``(3,)`` [m] and ``NAME/quaternion`` ``(4,)`` wxyz, for each region
  ``NAME/position`` ``(3,)`` [m];
* for each movable object ``NAME/distance`` ``()`` [m] from the end-effector, and ``NAME/contact`` ``()``, the number of
  fingers that touch it;
* for each drawer, door or knob ``NAME/fraction`` ``()``, 0 closed or off to 1 open or on;
* for each conjunct of the goal ``predicate/on(a,b)`` and the like, and ``success``, 0 or 1 ``()``.
"""

from tgrpo.rewards.files import available, load_stages, read_stages
from tgrpo.rewards.machine import StageMachine, StepReward
from tgrpo.rewards.spec import StageFile

__all__ = ["StageFile", "StageMachine", "StepReward", "available", "load_stages", "read_stages"]
