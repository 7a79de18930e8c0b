"""A batch through the policy, so that one bad item spoils no other."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from tgrpo.errors import PolicyError, TgrpoError, WireError
from tgrpo.payload import check_chunk
from tgrpo.policies import Policy
from tgrpo.serving.model import ServedModel
from tgrpo.serving.request import Decided, Outcome, Refused, Request
from tgrpo.types import ActionChunk, Observation

log = logging.getLogger(__name__)
OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")
"""Names of the exceptions, because this module does not import torch."""


def decide(model: ServedModel, requests: Sequence[Request]) -> tuple[list[Outcome], bool]:
    """Answers some requests of one temperature with one policy.

    Args:
        model: Decides all of them, so a batch never mixes versions.
        requests: Each is sampled with its own seed, whatever else is in the batch.

    Returns:
        One outcome for each request, and whether the policy ran out of memory for a batch of this size.
    """
    started = time.monotonic()
    outcomes: list[Outcome | None] = [None] * len(requests)
    readable: list[tuple[int, Observation]] = []
    for place, request in enumerate(requests):
        try:
            readable.append((place, request.observe()))
        except WireError as error:
            outcomes[place] = Refused("invalid", str(error))
    attempt = _Attempt(model.policy, requests)
    chunks = attempt.run(readable)
    infer_ms = (time.monotonic() - started) * 1000.0
    for place, _ in readable:
        chunk = chunks[place]
        outcomes[place] = (
            chunk
            if isinstance(chunk, Refused)
            else Decided(chunk, model.version, (started - requests[place].arrived) * 1000.0, infer_ms, len(requests))
        )
    return [outcome for outcome in outcomes if outcome is not None], attempt.out_of_memory


class _Attempt:
    """Asks the policy; a batch that fails is halved until the item that spoils it is alone."""

    def __init__(self, policy: Policy, requests: Sequence[Request]) -> None:
        self._policy = policy
        self._requests = requests
        self.out_of_memory = False

    def run(self, items: Sequence[tuple[int, Observation]]) -> dict[int, ActionChunk | Refused]:
        """Chunk or refusal of each item, by its place in the batch."""
        if not items:
            return {}
        now = time.monotonic()
        if all(self._requests[place].deadline < now for place, _ in items):
            return {
                place: Refused("expired", "the deadline passed while the batch was computed.") for place, _ in items
            }
        try:
            chunks = self._ask(items)
        except Exception as error:  # noqa: BLE001  a policy may raise anything; the server outlives it
            self.out_of_memory |= type(error).__name__ in OUT_OF_MEMORY
            if len(items) > 1:
                middle = len(items) // 2
                return {**self.run(items[:middle]), **self.run(items[middle:])}
            return {items[0][0]: _explain(error)}
        return {place: self._checked(chunk) for (place, _), chunk in zip(items, chunks, strict=True)}

    def _ask(self, items: Sequence[tuple[int, Observation]]) -> list[ActionChunk]:
        self._policy.reset([self._requests[place].seed for place, _ in items])
        temperature = self._requests[items[0][0]].temperature
        chunks = self._policy.act([observation for _, observation in items], temperature=temperature)
        if len(chunks) != len(items):
            raise PolicyError(f"the policy returned {len(chunks)} chunks for {len(items)} observations.")
        return chunks

    def _checked(self, chunk: ActionChunk) -> ActionChunk | Refused:
        try:
            check_chunk(chunk, self._policy.spec)
        except PolicyError as error:
            return Refused("policy", str(error))
        return chunk


def _explain(error: Exception) -> Refused:
    """What a client may know: our own messages, but nothing of an unexpected exception except its type."""
    if isinstance(error, TgrpoError):
        return Refused("policy", str(error)[:2000])
    log.error("the policy failed", exc_info=error)
    return Refused("policy", f"the policy failed with {type(error).__name__}; the server's log has more.")
