"""What all lifecycle nodes share: parameters, transitions, ``/diagnostics``, and an orderly end.

A subclass says what to open, begin, pause and close. With ``autostart`` the node configures and activates itself and,
as then nobody manages it, ends with an exit code when it fails. Without, it falls back to ``unconfigured`` and says
why.
"""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions

from tgrpo import sim_link
from tgrpo.errors import SettingsError, TgrpoError
from tgrpo_ros.drivers.sim_scene import wait_for_scene
from tgrpo_ros.meter import Meter
from tgrpo_ros.parameters import Option

EXIT_USAGE = 2
EXIT_FAULT = 1
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
COMMON = (Option("autostart", True, "configure and activate without a lifecycle manager"),)
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass
class Health:
    """What a node says about itself."""

    level: bytes = OK
    message: str = "ok"
    values: dict[str, str] = field(default_factory=dict)

    def add(self, meter: Meter) -> None:
        """Adds rate, jitter and staleness."""
        pulse = meter.read(time.monotonic())
        self.values |= {
            "count": str(pulse.count),
            "rate [1/s]": f"{pulse.rate:.2f}",
            "jitter [ms]": f"{1000.0 * pulse.jitter:.2f}",
            "age [s]": f"{pulse.age:.3f}",
        }


class ManagedNode(LifecycleNode):
    """Base of the robot's nodes.

    Attributes:
        steady: Clock of all timers: one on the wall clock stops for good when that is set back.
        exit_code: Set when the node has to end.
    """

    def __init__(self, name: str, options: Sequence[Option], hardware: str) -> None:
        """Declares parameters; everything else waits for ``configure``.

        Args:
            name: Default name of the node.
            options: Its parameters.
            hardware: What it drives, for ``/diagnostics``.
        """
        super().__init__(name)
        for option in (*options, *COMMON):
            self.declare_parameter(option.name, option.default, option.descriptor())
        self._hardware = hardware
        self._entities: list[Callable[[], object]] = []
        self._active = False
        self.exit_code: int | None = None
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(1.0, self._diagnose, clock=self.steady)
        self.create_timer(0.1, self._supervise, clock=self.steady)

    def open(self) -> None:
        """Opens devices and makes topics; nothing is sent yet."""
        raise NotImplementedError

    def begin(self) -> None:
        """Begins to work."""
        raise NotImplementedError

    def pause(self) -> None:
        """Stops working; what is open stays open."""
        raise NotImplementedError

    def shut(self) -> None:
        """Closes what is open, also after only a part of it was opened."""
        raise NotImplementedError

    def failure(self) -> str:
        """Why the node cannot go on; empty while it can."""
        return ""

    def health(self) -> Health:
        """For ``/diagnostics``, while active."""
        return Health()

    def value(self, name: str) -> Any:
        """A parameter's present value."""
        return self.get_parameter(name).value

    def workspace(self) -> Path | None:
        """File with the box of the cell, if one is named."""
        return Path(self.value("workspace")).expanduser() if self.value("workspace") else None

    def scene_description(self) -> sim_link.Description:
        """Waits until the simulated scene has loaded, and returns what it is.

        Raises:
            RobotFault: It does not answer.
        """
        return wait_for_scene(self.value("scene"))

    def publisher(self, kind: type, topic: str, qos: QoSProfile | int) -> Any:
        """A publisher that lasts until clean-up."""
        made: Any = self.create_publisher(kind, topic, qos)
        self._entities.append(lambda: self.destroy_publisher(made))
        return made

    def subscribe(self, kind: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile | int) -> None:
        """A subscription that lasts until clean-up."""
        made = self.create_subscription(kind, topic, callback, qos)
        self._entities.append(lambda: self.destroy_subscription(made))

    def serve(self, kind: type, name: str, callback: Callable[[Any, Any], Any]) -> None:
        """A service that lasts until clean-up."""
        made = self.create_service(kind, name, callback)
        self._entities.append(lambda: self.destroy_service(made))

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """A timer on the steady clock that lasts until clean-up."""
        made = self.create_timer(seconds, callback, clock=self.steady)
        self._entities.append(lambda: self.destroy_timer(made))

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """SUCCESS leads to inactive; FAILURE back to unconfigured."""
        return self._attempt(self.open, self._clean_up)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """SUCCESS leads to active; FAILURE back to inactive."""
        done = self._attempt(self.begin, self.pause)
        self._active = done is TransitionCallbackReturn.SUCCESS
        return done if not self._active else super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leads to inactive."""
        self._active = False
        self.pause()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leads to unconfigured."""
        self._clean_up()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leads to finalized."""
        self.end()
        return TransitionCallbackReturn.SUCCESS

    def end(self) -> None:
        """Pauses and closes everything, in whatever state. May be called more than once."""
        if self._active:
            self._active = False
            self.pause()
        self._clean_up()

    def start(self) -> bool:
        """Configures and activates; tells whether both worked."""
        success = TransitionCallbackReturn.SUCCESS
        return bool(self.trigger_configure() == success and self.trigger_activate() == success)

    def _attempt(self, work: Callable[[], None], undo: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            work()
        except Exception as error:  # noqa: BLE001  (rclpy would swallow it without a word)
            if isinstance(error, TgrpoError):
                self.get_logger().error(str(error))
            else:
                self.get_logger().error(traceback.format_exc())
            undo()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _clean_up(self) -> None:
        self.shut()
        while self._entities:
            self._entities.pop()()

    def _supervise(self) -> None:
        if not self._active or not (why := self.failure()):
            return
        self.get_logger().error(why)
        if self.value("autostart"):
            self.exit_code = EXIT_FAULT
            return
        self.trigger_deactivate()
        self.trigger_cleanup()

    def _diagnose(self) -> None:
        health = self.health() if self._active else Health(WARN, "not active")
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [
            DiagnosticStatus(
                level=health.level,
                name=f"{self.get_name()}: {self._hardware}",
                message=health.message,
                hardware_id=self._hardware,
                values=[KeyValue(key=key, value=value) for key, value in health.values.items()],
            )
        ]
        self._diagnostics.publish(message)


class Interrupted(BaseException):
    """Somebody wants the process to end while it waits for something."""


def run(make: Callable[[], ManagedNode], args: list[str] | None) -> int:
    """Runs a node in the calling thread until it ends or is interrupted.

    Returns:
        0, 1 after a fault, or 2 if the settings do not permit a start.
    """
    # rclpy's own handlers would end all communication first, and what a node says at its end would be lost.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node: ManagedNode | None = None
    code: int | None = 0
    try:
        with interruptible():
            node = make()
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            code = EXIT_USAGE if node.value("autostart") and not node.start() else None
            while code is None:
                executor.spin_once(timeout_sec=0.1)
                code = node.exit_code
    except Interrupted:
        code = 0
    except (TgrpoError, ParameterException) as error:
        rclpy.logging.get_logger("tgrpo").fatal(str(error))
        code = EXIT_USAGE
    finally:
        if node is not None:
            node.end()
            node.destroy_node()
        rclpy.try_shutdown()
    return code


N = TypeVar("N", bound=Node)


def run_plain(
    name: str, make: Callable[[], N], work: Callable[[N], object], args: list[str] | None, *, interrupted: int = 0
) -> int:
    """Runs a node that has no life cycle: makes it and does its work, until that ends or is interrupted.

    Args:
        name: For messages while there is no node yet.
        make: Makes the node.
        work: What it does.
        args: Of the process.
        interrupted: What is returned if somebody ends it, for a node whose work is then not done.

    Returns:
        0, 1 after a fault, or 2 if the settings do not permit a start.
    """
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node: N | None = None
    code = 0
    try:
        with interruptible():
            node = make()
            work(node)
    except Interrupted:
        code = interrupted
    except (SettingsError, ParameterException) as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        code = EXIT_USAGE
    except TgrpoError as error:
        rclpy.logging.get_logger(name).error(str(error))
        code = EXIT_FAULT
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return code


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Lets the first SIGINT or SIGTERM raise :class:`Interrupted` in this block; later ones change nothing."""

    def interrupt(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    yield
