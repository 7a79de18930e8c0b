"""A recorded episode as a :class:`~tgrpo.types.Trajectory`, for learning from what a policy did on the robot."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from tgrpo.record.episode import Episode
from tgrpo.record.steps import Pictures, proprio, rows, states_at, steps
from tgrpo.record.streams import Action, PolicyReply, PolicyRequest
from tgrpo.types import ActionChunk, Observation, Trajectory


def trajectory(episode: Episode) -> Trajectory:
    """The decisions of an episode that were the policy's own and were executed at least in part.

    Control steps of humans and of safety belong to no decision, so they are left out. Rewards are zero but for a 1 at
    the last step of a success.

    Args:
        episode: A closed episode.

    Raises:
        RecordingError: Pictures or robot states are missing.
    """
    requests = {request.request: request for request in episode.of(PolicyRequest)}
    own = [action for action in episode.of(Action) if action.source == "policy" and action.request in requests]
    used = Counter(action.request for action in own)
    replies = [reply for reply in episode.of(PolicyReply) if used[reply.request] and reply.actions]
    executed = np.array([used[reply.request] for reply in replies], np.int64)
    at = np.array([requests[reply.request].at.observed for reply in replies], np.int64)
    rewards = np.zeros(int(executed.sum()))
    success = episode.result.outcome == "success" and bool(len(rewards)) and not steps(episode).intervention.any()
    if success:
        rewards[-1] = 1.0
    return Trajectory(
        observations=_observations(episode, at, [requests[reply.request].instruction for reply in replies]),
        chunks=[_chunk(reply, episode) for reply in replies],
        executed=executed,
        rewards=rewards,
        success=success,
    )


def _observations(episode: Episode, at: NDArray[np.int64], instructions: list[str]) -> list[Observation]:
    if not len(at):
        return []
    body = proprio(states_at(episode, at), episode)
    views = {camera: Pictures(episode, camera, at) for camera in episode.cameras()}
    return [
        Observation({camera: view[index] for camera, view in views.items()}, words, body[index])
        for index, words in enumerate(instructions)
    ]


def _chunk(reply: PolicyReply, episode: Episode) -> ActionChunk:
    width = len(reply.actions[0])
    return ActionChunk(
        actions=rows(reply.actions, width, episode).astype(np.float32),
        tokens=np.array(reply.tokens, np.int64) if reply.tokens else None,
        log_probs=rows(reply.log_probs, width, episode).astype(np.float32) if reply.log_probs else None,
    )
