"""Videos of filmed rollouts, with the stages of their task."""

from __future__ import annotations

from pathlib import Path

from sim.libero import task_names
from sim.rollout import STEPS_PER_FRAME, UnitResult
from tgrpo.record.video import VideoInfo, annotate_rollout, save_rollout, write_video
from tgrpo.rewards import load_stages
from tgrpo.rewards.files import available
from tgrpo.spec import ActionSpec

FPS = ActionSpec().rate / STEPS_PER_FRAME
"""Pictures per second at which a video plays as fast as the robot moved [1/s]."""


def has_stages(suite: str, task: int) -> bool:
    """Whether the stages of a task are known, so that a film can name them."""
    return task_names(suite)[task] in available().get(suite, [])


def describe(result: UnitResult, label: str) -> VideoInfo:
    """What a report says about the filmed rollout of a unit.

    Args:
        result: The unit, filmed.
        label: Which policy it was, for example ``before``.
    """
    unit, trajectory = result.unit, result.trajectories[0]
    names: list[str] = []
    if len(trajectory.stages):
        stages = load_stages(unit.suite, task_names(unit.suite)[unit.task])
        names = [stage.name for subgoal in stages.subgoals for stage in subgoal.stages]
    return VideoInfo(
        label=label,
        task=unit.task,
        init_state=unit.start(0),
        success=trajectory.success,
        stages=trajectory.stages.tolist(),
        stage_names=names,
    )


def save(folder: Path, result: UnitResult, label: str) -> Path:
    """Writes the film of a unit into a run folder, with what the report needs to know about it."""
    info = describe(result, label)
    return save_rollout(folder, annotate_rollout(result.frames, info, STEPS_PER_FRAME), info, fps=FPS)


def write(path: Path, result: UnitResult) -> None:
    """Writes the film of a unit to one file."""
    write_video(path, annotate_rollout(result.frames, describe(result, "evaluation"), STEPS_PER_FRAME), fps=FPS)
