"""The numbers of one episode: a pure function of its file. All numbers of a session are computed from these rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tgrpo.record import motion
from tgrpo.record.episode import Episode, EpisodeInfo
from tgrpo.record.steps import Steps, stage_labels, steps, stretches, times, vectors
from tgrpo.record.streams import Event, PolicyReply, RobotState


def row(episode: Episode) -> dict[str, Any]:
    """What an episode contributes to the report, JSON-ready.

    Args:
        episode: A closed episode; its pictures are not needed.
    """
    info, result = episode.info, episode.result
    table = steps(episode)
    end = int(table.stamps[-1]) if len(table) else 0
    human = int(table.intervention.sum())
    return {
        "episode": episode.number,
        "seal": episode.seal,
        "purpose": info.purpose,
        "policy": policy_name(info),
        "task": info.task,
        "task_name": info.task_name or info.instruction or f"task {info.task}",
        "pair": info.pair,
        "outcome": result.outcome,
        "labelled_by": result.labelled_by,
        "reason": result.reason,
        "notes": result.notes,
        "incomplete": result.incomplete,
        "dropped": sum(result.dropped.values()),
        "duration": result.duration,
        "steps": len(table),
        "human_steps": human,
        "interventions": len(stretches(table.intervention)),
        "autonomous_success": result.outcome == "success" and human == 0,
        "stages": _stages(episode, table),
        "stage_names": list(info.stage_names),
        "time_to_success": float(table.time[-1]) if result.outcome == "success" and len(table) else None,
        "holds": _holds(episode.of(Event), end),
        "faults": dict(Counter(event.reason or "unnamed" for event in episode.of(Event) if event.kind == "fault")),
        **_motion(episode),
        **_latency(episode.of(PolicyReply)),
    }


def policy_name(info: EpisodeInfo) -> str:
    """Name of a policy with its version, by which episodes are told apart."""
    return f"{info.policy} {info.version}".strip() or "unnamed"


def _stages(episode: Episode, table: Steps) -> list[float]:
    """Seconds from the first control step to each completed stage, in order."""
    start = int(table.stamps[0]) if len(table) else 0
    found: list[float] = []
    for stage in stage_labels(episode):
        # Several stages may complete at once; one that is undone and done again counts once.
        found += [(stage.at.steady - start) / 1e9] * (stage.stage - len(found))
    return found


def _holds(events: Sequence[Event], end: int) -> dict[str, dict[str, Any]]:
    """Reason to the number of holds and how long they lasted [s]; one that is not resumed lasts to the last step."""
    found: dict[str, dict[str, Any]] = {}
    since: tuple[str, int] | None = None
    for event in [*sorted(events, key=lambda one: one.at.steady), None]:
        if since is not None and (event is None or event.kind in ("hold", "resume")):
            until = end if event is None else event.at.steady
            found[since[0]]["seconds"] += max(0, until - since[1]) / 1e9
            since = None
        if event is not None and event.kind == "hold":
            reason = event.reason or "unnamed"
            found.setdefault(reason, {"count": 0, "seconds": 0.0})["count"] += 1
            since = reason, event.at.steady
    return found


def _motion(episode: Episode) -> dict[str, float | None]:
    """Lag behind the reference [s] and jerk of the measured motion [m/s^3]."""
    states = sorted(episode.of(RobotState), key=lambda state: state.at.observed)
    if not states:
        return {"lag": None, "jerk": None}
    at = times(states) - states[0].at.observed / 1e9
    measured = vectors(states, "position", 3, episode)
    return {
        "lag": motion.lag(at, vectors(states, "commanded_position", 3, episode), measured),
        "jerk": motion.jerk(at, measured),
    }


def _latency(replies: Sequence[PolicyReply]) -> dict[str, Any]:
    """Median and 95 % quantile of the policy's answers [s], and how many were none."""
    values = [reply.latency for reply in replies]
    return {
        "requests": len(values),
        "policy_errors": sum(bool(reply.error) for reply in replies),
        "latency_p50": float(np.quantile(values, 0.5)) if values else None,
        "latency_p95": float(np.quantile(values, 0.95)) if values else None,
    }
