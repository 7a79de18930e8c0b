"""What is recorded of a policy and of the actions that were executed, as JSON on topics of their own."""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from tgrpo.errors import WireError

SCHEMA = "tgrpo/traffic/1"


class Executed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="executed"):
    """One action of one control step, when it begins."""

    at: float
    """Steady clock of the arm [s]."""
    source: Literal["policy", "reset", "human"]
    """Whose it is."""
    sequence: int
    """Of the command that it is part of."""
    index: int
    """Its place in that command."""
    action: list[float]
    """``(A,)``."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="reply"):
    """One request to the policy server, and what became of it."""

    sequence: int
    """Of the command that came of it; -1 if none did."""
    asked: float
    """Steady clock of the arm [s]."""
    observed: float
    """The same at the oldest picture that was shown [s]."""
    instruction: str
    latency: float
    """From request to reply [s]."""
    version: str = ""
    """Of the weights that answered."""
    actions: list[list[float | None]] = []
    """``(K, A)`` as the policy decided them; null stands for what is not finite."""
    tokens: list[list[int]] = []
    """``(K, A)``; empty for policies without tokens."""
    log_probs: list[list[float | None]] = []
    """``(K, A)`` [nat]; empty for policies without tokens."""
    error: str = ""
    """Why there are no actions, or no command came of them."""


T = TypeVar("T", Executed, Reply)


def encode(message: Executed | Reply) -> str:
    """A message as JSON."""
    return msgspec.json.encode(message).decode()


def decode(text: str, kind: type[T]) -> T:
    """The message that :func:`encode` wrote.

    Raises:
        WireError: It is none of this version.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a {kind.__name__} of schema {SCHEMA}: {error}. Update the older node.") from error
