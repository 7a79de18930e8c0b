"""The state of one launch: arguments, environment, running processes, and their orderly end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from tgrpo_ros.standin.events import ProcessEvent, ShutdownEvent
from tgrpo_ros.standin.substitutions import as_list, prefixes

if TYPE_CHECKING:
    from tgrpo_ros.standin.processes import ExecuteProcess

POLL = 0.02
"""Between two looks at the running processes [s]."""


@dataclass(eq=False)
class Child:
    """One process that the launch has started."""

    action: ExecuteProcess
    process: subprocess.Popen[str]
    label: str
    grace: tuple[float, float]
    """From SIGINT to SIGTERM and from there to SIGKILL [s]."""
    done: bool = False
    """Whether its end has been handled."""
    deadline: float | None = None
    """When the next, harder signal is due on the monotonic clock [s]."""
    signals: list[signal.Signals] = field(default_factory=lambda: [signal.SIGTERM, signal.SIGKILL])
    """Signals still to come."""


class Context:
    """Everything that actions and substitutions may look at or change."""

    def __init__(self, arguments: Mapping[str, str]) -> None:
        """Starts with the process's own environment.

        Args:
            arguments: Launch arguments from the command line.
        """
        self.launch_configurations = dict(arguments)
        self.environment = dict(os.environ)
        self.environment["AMENT_PREFIX_PATH"] = os.pathsep.join(prefixes(os.environ))
        self.namespace = ""
        self.parameters: list[tuple[str, Any]] = []
        self.handlers: list[Any] = []
        self.children: list[Child] = []
        self._folder = tempfile.TemporaryDirectory(prefix="tgrpo-launch-")
        self.lock = threading.RLock()
        self._ending = threading.Event()
        self.stopping = False
        self.failure: Exception | None = None

    @property
    def folder(self) -> str:
        """For files that the processes read; it goes with the launch."""
        return self._folder.name

    def log(self, who: str, message: str, level: str = "INFO") -> None:
        """Writes one line as launch does."""
        sys.stdout.write(f"[{level}] [{who}]: {message}\n")
        sys.stdout.flush()

    def fail(self, error: Exception) -> None:
        """Ends the launch with exit code 1."""
        self.log("launch", f"Caught exception in launch: {type(error).__name__}: {error}", "ERROR")
        self.failure = error
        self.shutdown("an action or a handler raised")

    def spawn(
        self, action: ExecuteProcess, command: list[str], environment: Mapping[str, str], folder: str | None
    ) -> None:
        """Starts a process, unless the launch is ending."""
        with self.lock:
            if self.stopping:
                return
            process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            label = f"{os.path.basename(command[0])}-{len(self.children) + 1}"  # noqa: PTH119  (a name, not a file)
            child = Child(action, process, label, action.grace(self))
            self.children.append(child)
        self.log(label, f"process started with pid [{process.pid}]")
        threading.Thread(target=self._follow, args=(child,), daemon=True).start()

    def emit(self, kind: str, event: Any) -> None:
        """Runs the handlers of one kind of event."""
        for handler in list(self.handlers):
            handler.handle(kind, event, self)

    def shutdown(self, reason: str) -> None:
        """Sends SIGINT to every process; :meth:`run` sends harder signals to those that do not end."""
        with self.lock:
            if self.stopping:
                return
            self.stopping = True
            self._ending.set()
            self.log("launch", f"shutting down: {reason}")
            self.emit("shutdown", ShutdownEvent(reason))
            for child in self.children:
                if child.process.poll() is None:
                    self.log(child.label, f"sending signal 'SIGINT' to process[{child.label}]")
                    child.process.send_signal(signal.SIGINT)
                    child.deadline = time.monotonic() + child.grace[0]

    def run(self) -> int:
        """Waits for the end of every process.

        Returns:
            The exit code: 1 if an action or a handler raised, otherwise 0.
        """
        while not all(child.done for child in self.children):
            time.sleep(POLL)
            for child in self.children:
                self._escalate(child)
        self._folder.cleanup()
        return 1 if self.failure else 0

    def _escalate(self, child: Child) -> None:
        if child.deadline is None or time.monotonic() < child.deadline or child.process.poll() is not None:
            return
        number = child.signals.pop(0)
        self.log(child.label, f"process has not ended, escalating to '{number.name}'", "ERROR")
        child.process.send_signal(number)
        child.deadline = time.monotonic() + child.grace[1] if child.signals else None

    def _follow(self, child: Child) -> None:
        assert child.process.stdout is not None  # noqa: S101  (it was opened as a pipe)
        reader = threading.Thread(target=_copy, args=(child.process.stdout, child.label), daemon=True)
        reader.start()
        self._react(child, None)
        code = child.process.wait()
        reader.join(timeout=5.0)
        pid = child.process.pid
        if code == 0:
            self.log(child.label, f"process has finished cleanly [pid {pid}]")
        else:
            self.log(child.label, f"process has died [pid {pid}, exit code {code}]", "ERROR")
        self._react(child, code)
        if child.action.respawn and not self._ending.wait(child.action.respawn_delay):
            child.action.execute(self)
        child.done = True

    def _react(self, child: Child, code: int | None) -> None:
        """Runs the handlers of a process's start or end; the lock makes them wait for the whole launch file."""
        try:
            with self.lock:
                event = ProcessEvent(child.action, child.label, child.process.pid, code)
                self.emit("start" if code is None else "exit", event)
                for action in as_list(child.action.on_exit) if code is not None else []:
                    action.visit(self)
        except Exception as error:  # noqa: BLE001  (whatever a handler raises ends the launch, as in ROS)
            self.fail(error)


def _copy(source: IO[str], label: str) -> None:
    for line in source:
        sys.stdout.write(f"[{label}] {line}" if line.endswith("\n") else f"[{label}] {line}\n")
        sys.stdout.flush()
