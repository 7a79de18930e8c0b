"""The stage machine: follows one rollout through the stages of its task and pays for every control step.

In every sub-goal the machine keeps the stage it is in now and the highest one it has been in; both count completed
stages, 0 to ``K``. With ``L`` stages in the file, a step pays ``1 / L`` for each stage (:func:`.terms.level`) and less
than ``1 / L`` for the way to the next stage of the active sub-goal (:func:`.terms.fraction`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.rewards import terms
from tgrpo.rewards.measures import Compiler, Measure, Test
from tgrpo.rewards.spec import Stage, StageFile, SubGoal
from tgrpo.types import Quantities


@dataclass(frozen=True)
class StepReward:
    """Payment for one control step."""

    total: float
    """Sum of the terms; in ``[0, 1]`` except at success."""
    terms: dict[str, float]
    """``level``, ``shaping`` and ``success``; ``violation``, if the file forbids anything."""
    stage: int
    """Completed stages of all sub-goals, as of now."""
    progress: float
    """Level and shaping, ``[0, 1]``; 1 at success."""


@dataclass(frozen=True)
class MachineState:
    """Where a machine stands; any machine of the same stage file continues from it."""

    steps: int
    """Control steps that were paid for."""
    paid: float
    """Sum of levels and shaping so far."""
    finished: bool
    """Whether the success has been paid."""
    heights: dict[str, float]
    """Heights that lifts are measured from [m]."""
    stages: tuple[tuple[int, int], ...]
    """Present and highest stage of each sub-goal."""


class StageMachine:
    """Follows one rollout; one machine for each environment.

    Example:
        >>> from tgrpo.rewards import load_stages
        >>> machine = StageMachine(load_stages("libero_object", "pick_up_the_milk_and_place_it_in_the_basket"))
        >>> machine.stages
        4
    """

    def __init__(self, stages: StageFile, horizon: int | None = None) -> None:
        """Compiles a stage file.

        Args:
            stages: What to pay for.
            horizon: Overrides the file's ``weights.horizon``; give the step limit where rollouts do not stop together.

        Raises:
            SettingsError: A condition or a quantity cannot be read.
        """
        self.spec = stages
        self.stages = sum(len(subgoal.stages) for subgoal in stages.subgoals)
        compiler = Compiler(stages.references, stages.subgoals)
        try:
            self._success = compiler.measure("success")
            self._violated = compiler.test(stages.forbidden)
            self._subgoals: list[_SubGoal] = []
            for subgoal in stages.subgoals:
                self._subgoals.append(_SubGoal(subgoal, compiler, self._subgoals))
        except SettingsError as error:
            raise SettingsError(f"stages of {stages.suite}/{stages.task}: {error}") from error
        self._compiler = compiler
        self._horizon = stages.weights.horizon if horizon is None else horizon
        self._steps = 0
        self._paid = 0.0
        self._finished = False

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each stage, in order."""
        return tuple(f"{part.object}: {stage.name}" for part in self.spec.subgoals for stage in part.stages)

    @property
    def required(self) -> frozenset[str]:
        """Names of all quantities that the machine reads."""
        return frozenset(self._compiler.required)

    def reset(self, quantities: Quantities) -> None:
        """Starts an episode.

        Args:
            quantities: Named quantities after the environment has settled.

        Raises:
            UnknownNameError: A quantity that the stage file needs is not there.
        """
        self._compiler.reset(quantities)
        self._steps, self._paid, self._finished = 0, 0.0, False
        for subgoal in self._subgoals:
            subgoal.reached = subgoal.best = 0
            subgoal.update(quantities)

    def state(self) -> MachineState:
        """Where it stands, to continue in another process."""
        stages = tuple((subgoal.reached, subgoal.best) for subgoal in self._subgoals)
        return MachineState(self._steps, self._paid, self._finished, dict(self._compiler.heights), stages)

    def restore(self, state: MachineState) -> None:
        """Continues from where a machine of the same stage file stood."""
        self._steps, self._paid, self._finished = state.steps, state.paid, state.finished
        self._compiler.heights = dict(state.heights)
        for subgoal, (reached, best) in zip(self._subgoals, state.stages, strict=True):
            subgoal.reached, subgoal.best = reached, best

    def step(self, quantities: Quantities) -> StepReward:
        """Pays for one control step.

        Args:
            quantities: Named quantities after the step.
        """
        self._steps += 1
        for subgoal in self._subgoals:
            subgoal.update(quantities)
        succeeded = self._success(quantities) >= 1.0
        level, shaping = (1.0, 0.0) if succeeded else self._dense(quantities)
        self._paid += level + shaping
        success = self._bonus() if succeeded and not self._finished else 0.0
        self._finished |= succeeded
        stage = self.stages if succeeded else sum(subgoal.reached for subgoal in self._subgoals)
        parts = {"level": level, "shaping": shaping, "success": success}
        if self.spec.forbidden:
            parts["violation"] = -self.spec.weights.violation * self._violated(quantities)
        return StepReward(sum(parts.values()), parts, stage, level + shaping)

    def focus(self, quantities: Quantities) -> tuple[str, bool] | None:
        """The object to move next and whether the hand holds it; None where all sub-goals are complete."""
        active = self._active(quantities)
        return None if active is None else (active.object, active.held(quantities))

    def _dense(self, quantities: Quantities) -> tuple[float, float]:
        """Level and shaping of an unfinished task."""
        gap = 1.0 / self.stages
        level = gap * sum(terms.level(subgoal.reached, subgoal.best) for subgoal in self._subgoals)
        return level, gap * self.spec.weights.shaping * self._way(quantities)

    def _bonus(self) -> float:
        """Payment of the success term; the step's level has already been paid."""
        weights = self.spec.weights
        return terms.success(self._steps, self._paid, weights.bonus, weights.repay, self._horizon)

    def _way(self, quantities: Quantities) -> float:
        """Share of the next stage of the active sub-goal that has been covered, 0 to 1."""
        active = self._active(quantities)
        return 0.0 if active is None else terms.fraction(active.closeness(quantities), active.reached, active.best)

    def _active(self, quantities: Quantities) -> _SubGoal | None:
        """The unfinished sub-goal of a held object, else that of the nearest object, among those that may start."""
        unfinished = [subgoal for subgoal in self._subgoals if subgoal.ready and not subgoal.complete]
        if len(unfinished) < 2:
            return unfinished[0] if unfinished else None
        held = next((subgoal for subgoal in unfinished if subgoal.held(quantities)), None)
        return held or min(unfinished, key=lambda subgoal: subgoal.distance(quantities))


class _SubGoal:
    """State of one sub-goal, and its compiled conditions."""

    def __init__(self, spec: SubGoal, compiler: Compiler, earlier: Sequence[_SubGoal]) -> None:
        self.object = spec.object
        self.reached = 0
        self.best = 0
        known = {subgoal.object: subgoal for subgoal in earlier}
        for name in spec.after:
            if name not in known:
                raise UnknownNameError("earlier sub-goal", name, known)
        self._after = [known[name] for name in spec.after]
        self.held = compiler.test(spec.held)
        self.distance = compiler.measure(f"distance(eef,{spec.object})")
        self._stages = [_Stage(stage, compiler) for stage in spec.stages]

    @property
    def complete(self) -> bool:
        return self.reached == len(self._stages)

    @property
    def ready(self) -> bool:
        """Whether everything that has to come before is complete."""
        return all(subgoal.complete for subgoal in self._after)

    def update(self, quantities: Quantities) -> None:
        """Moves to the last stage that is complete, whether or not the earlier ones are."""
        self.reached = self._last_complete(quantities) if self.ready else 0
        self.best = max(self.best, self.reached)

    def _last_complete(self, quantities: Quantities) -> int:
        for index in range(len(self._stages), 0, -1):
            stage = self._stages[index - 1]
            if stage.is_reached(quantities) or (index <= self.reached and stage.is_kept(quantities)):
                return index
        return 0

    def closeness(self, quantities: Quantities) -> float:
        """How close the next stage is, 0 to 1."""
        return self._stages[self.reached].closeness(quantities)


class _Stage:
    """Compiled conditions and shaping of one stage."""

    def __init__(self, spec: Stage, compiler: Compiler) -> None:
        self.is_reached: Test = compiler.test(spec.reached)
        self.is_kept: Test = compiler.test(spec.kept)
        self._parts: list[tuple[Measure, str, float]] = [
            (compiler.measure(part.quantity), part.shape, part.scale) for part in spec.shaping
        ]
        self._weights = [part.weight for part in spec.shaping]

    def closeness(self, quantities: Quantities) -> float:
        shapes = {"near": terms.near, "amount": terms.amount}
        values = [shapes[shape](measure(quantities), scale) for measure, shape, scale in self._parts]
        return terms.weighted_mean(values, self._weights)
