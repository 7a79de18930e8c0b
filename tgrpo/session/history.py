"""What a session has played so far, from its folder alone: after a crash of anything, that is where it goes on."""

from __future__ import annotations

import logging
from pathlib import Path

from tgrpo.errors import RecordingError, SettingsError
from tgrpo.record.episode import EpisodeInfo, read_header
from tgrpo.record.recorder import RecorderSettings
from tgrpo.record.recover import SESSION
from tgrpo.record.session import SessionFolder, SessionInfo, closed_episodes
from tgrpo.session.plan import Next, Plan, Played, of_session
from tgrpo.settings import to_builtins

_log = logging.getLogger(__name__)


def played(session: Path) -> list[Played]:
    """All closed episodes of a session, in order; what a damaged one was is not known, so it is played again."""
    found = []
    for folder in closed_episodes(session):
        try:
            _, info, result = read_header(folder)
        except RecordingError as error:
            _log.warning("not counted as played: %s", error)
            continue
        if result is not None and info.pair is not None:
            found.append(Played(info.policy, info.suite, info.task, info.pair, result.outcome))
    return found


def open_session(path: Path, plan: Plan, settings: RecorderSettings | None = None) -> SessionFolder:
    """Starts a session, or goes on with the one that is there.

    Args:
        path: The session folder.
        plan: What is to be played.
        settings: How episodes are recorded.

    Raises:
        SettingsError: The session has another plan, or another process records into it.
    """
    if not (path / SESSION).is_file():
        info = SessionInfo(name=plan.name, baseline=plan.policies[0].name, stop_at=plan.stop_at, plan=to_builtins(plan))
        return SessionFolder.create(path, info, settings)
    session = SessionFolder.resume(path, settings)
    try:
        if of_session(session.info().plan) != plan:
            raise SettingsError(
                f"{path} was started with another plan, and numbers of two plans must not mix. Name another folder, or "
                "the plan that it was started with."
            )
    except BaseException:
        session.close()
        raise
    return session


def episode_info(plan: Plan, chosen: Next, *, version: str, rate: float, scale: float, **more: str) -> EpisodeInfo:
    """What is known about an episode before it begins.

    Args:
        plan: What is played.
        chosen: Which episode of it.
        version: Of the weights that are served.
        rate: Control steps per second [1/s].
        scale: Translation that an action of 1 commands [m].
        more: ``robot``, ``operator`` and ``task_name``, where they are known.
    """
    slot, task = chosen.slot, plan.tasks[chosen.slot.task]
    return EpisodeInfo(
        purpose=plan.purpose,
        policy=plan.policies[slot.policy].name,
        version=version,
        suite=task.suite,
        task=task.task,
        instruction=task.instruction,
        pair=slot.pair,
        group=slot.pair // plan.group if plan.group else None,
        seed=plan.seed,
        rate=rate,
        position_scale=scale,
        stage_names=task.stages,
        task_name=more.get("task_name") or task.name,
        operator=more.get("operator", ""),
        robot=more.get("robot") or "simulation",
    )
