"""Events, and the handlers that launch files register for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tgrpo_ros.standin.substitutions import as_list

if TYPE_CHECKING:
    from tgrpo_ros.standin.context import Context


@dataclass(frozen=True)
class ProcessEvent:
    """A process has started or ended."""

    action: Any
    """The action that started it."""
    process_name: str
    pid: int
    returncode: int | None = None
    """Exit code; negative for a signal; nothing at the start."""


@dataclass(frozen=True)
class ShutdownEvent:
    """The launch is ending."""

    reason: str
    action: Any = None


class EventHandler:
    """Runs actions, or a function that returns actions, when its kind of event happens."""

    kind = ""

    def __init__(self, target_action: Any, then: Any) -> None:
        self.target, self.then = target_action, then

    def handle(self, kind: str, event: Any, context: Context) -> None:
        """Reacts to an event, unless it is of another kind or of another process."""
        if kind != self.kind or (self.target is not None and self.target is not event.action):
            return
        for action in as_list(self.then(event, context) if callable(self.then) else self.then):
            action.visit(context)


class OnProcessExit(EventHandler):
    """Reacts to the end of a process."""

    kind = "exit"

    def __init__(self, *, target_action: Any = None, on_exit: Any) -> None:
        super().__init__(target_action, on_exit)


class OnProcessStart(EventHandler):
    """Reacts to the start of a process."""

    kind = "start"

    def __init__(self, *, target_action: Any = None, on_start: Any) -> None:
        super().__init__(target_action, on_start)


class OnShutdown(EventHandler):
    """Reacts to the beginning of the end of the launch."""

    kind = "shutdown"

    def __init__(self, *, on_shutdown: Any) -> None:
        super().__init__(None, on_shutdown)
