"""What the arm node tells everybody about itself, as JSON on a latched topic."""

from __future__ import annotations

from typing import Literal

import msgspec

from tgrpo.errors import WireError

SCHEMA = "tgrpo/arm/1"


class ArmStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Level, reason, and who may move the arm."""

    level: Literal["RUN", "HOLD", "DECELERATE", "FAULT"]
    """Of the safety layer; see ``docs/safety.md``."""
    reason: str = ""
    """Name of the reason; empty while the arm runs."""
    detail: str = ""
    """The reason for people."""
    source: str = ""
    """Who moves the arm now: ``policy``, ``reset``, ``human``, or nobody."""
    leases: dict[str, str] = {}
    """Source to the session that holds its lease."""
    refused: dict[str, int] = {}
    """Why commands were refused, and how often."""
    starved: int = 0
    """How often a chunk ended before the next one came."""
    missed: int = 0
    """Ticks that came more than a period late."""
    waits: bool = False
    """The arm is a scene whose clock waits for commands."""
    episode: int = 0
    """Resets of a simulated arm."""
    steps: int = 0
    """Control steps of a simulated arm since it was first armed after its reset."""
    success: bool = False
    """A simulated task is completed."""
    stage: int = 0
    """Completed stages of a simulated task."""
    schema: Literal["tgrpo/arm/1"] = "tgrpo/arm/1"


def encode(status: ArmStatus) -> str:
    """The status as JSON."""
    return msgspec.json.encode(status).decode()


def decode(text: str) -> ArmStatus:
    """The status that :func:`encode` wrote.

    Raises:
        WireError: It is none of this version.
    """
    try:
        return msgspec.json.decode(text, type=ArmStatus)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a status of schema {SCHEMA}: {error}. Update the older node.") from error
