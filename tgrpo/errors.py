"""Every error this project raises on purpose, in one tree.

What an error halts is part of its type:

* ``SettingsError`` stops a command before anything has started.
* ``SimulationError`` and ``WorkerError`` stop a run after its state has been saved.
* ``PolicyError`` fails the episode in which it happens.
* ``RobotFault`` stops the arm and waits for a human.

Each class also is the builtin error that it refines, so ``except ValueError`` works as expected.
A message names the offending value, the valid choices and the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


class TgrpoError(Exception):
    """Base of all errors raised by this project; keeps its message on the way between processes."""

    def __reduce__(self) -> tuple[Callable[..., TgrpoError], tuple[type[TgrpoError], str]]:
        """Rebuilds from the message alone, whatever a subclass's constructor takes."""
        return _rebuild, (type(self), str(self))


def _rebuild(kind: type[TgrpoError], message: str) -> TgrpoError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error


class SettingsError(TgrpoError, ValueError):
    """A setting is unknown, out of range or contradicts another one."""


class UnknownNameError(SettingsError, LookupError):
    """A name (task, suite, camera, preset, ...) is not one of the valid choices."""

    def __init__(self, kind: str, name: object, choices: Iterable[object]) -> None:
        """Builds the message from the wrong name and the valid ones.

        Args:
            kind: What was looked up, for example ``"suite"``.
            name: The name that was not found.
            choices: The valid names; the closest one is suggested.
        """
        names = [str(choice) for choice in choices]
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"unknown {kind} {name!r}.{hint} Valid: {', '.join(names)}.")


class SpecError(SettingsError):
    """A policy and an embodiment do not share the same conventions."""


class CheckpointError(TgrpoError, OSError):
    """A checkpoint is missing, incomplete or damaged."""


class RecordingError(TgrpoError, OSError):
    """A recorded episode is missing, incomplete or damaged."""


class MissingDependencyError(TgrpoError, ImportError):
    """An optional package or system library that this command needs is not installed."""


class SimulationError(TgrpoError, RuntimeError):
    """The simulator refused a state or produced one that must not be used."""


class WorkerError(TgrpoError, RuntimeError):
    """A rollout worker died or stopped answering."""


class PolicyError(TgrpoError, RuntimeError):
    """A policy answered with something that cannot be executed."""


class DeadlineError(PolicyError, TimeoutError):
    """A policy server did not answer in time, or found that it could not."""


class BusyError(PolicyError):
    """A policy server has as many requests of this client, or in all, as it takes."""


class HandshakeError(TgrpoError, ConnectionError):
    """A policy server and a client do not accept each other's keys, or the other side is no policy server."""


class WireError(TgrpoError, ValueError):
    """A message does not follow the schema of :mod:`tgrpo.wire`, is too large or was damaged on its way."""


class RobotFault(TgrpoError, RuntimeError):  # noqa: N818  (a fault is what roboticists call it)
    """The robot reported a fault; nothing moves until a human has cleared it."""
