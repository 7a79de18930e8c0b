"""The process that holds an FR3 through franky: `python -m tgrpo_ros.drivers.franky_process FD`.

The 1 kHz loop is franky's own C++ thread. This loop only hands references to it, reports 250 times a second, and stops
the controller when references stay away: franky itself would hold the last one for ever.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from tgrpo_ros.drivers import franky_messages as messages
from tgrpo_ros.drivers.link import Channel, Failed, serve
from tgrpo_ros.motion import ArmMode

PERIOD = 0.004
"""Between two reports [s]."""
SILENCE = 0.1
"""After this time without a reference the controller is stopped [s]."""
PRIORITY = 40
"""Of this loop under SCHED_FIFO, where that is permitted."""
STOP_PATIENCE = 1.0
"""How long the soft stop may take before the process ends [s]; it takes 0.2 s."""
OPEN_WIDTH = 0.08
"""Of the Franka Hand [m]."""
_GRASP = {"width": 0.0, "speed": 0.1, "force": 40.0, "epsilon_inner": 1.0, "epsilon_outer": 1.0}
"""Close until something resists, whatever its size, with 40 N at 0.1 m/s."""
PIP = "pip install 'franky-control>=2.0,<3'"
_log = logging.getLogger(__name__)


def main() -> None:
    """Serves one robot until the other end of the channel closes."""
    channel = serve(messages.ToRobot)
    try:
        try:
            franky = importlib.import_module("franky")
        except ImportError as error:
            channel.send(Failed(reason=f"an FR3 needs franky-control ({error}). Run: {PIP}"))
            return
        first = channel.receive(10.0)
        if not first or not isinstance(first[0], messages.Connect):
            return
        try:
            robot = Robot(franky, first[0])
        except Exception as error:  # noqa: BLE001  (franky's errors are its own; the text is what a person needs)
            reason = f"the robot at {first[0].host} cannot be controlled: {type(error).__name__}: {error}"
            remedy = "Check the cable, FCI in Desk, the brakes and who else is connected."
            channel.send(Failed(reason=f"{reason}. {remedy}"))
            return
        urgent()
        try:
            run(robot, channel)
        finally:
            robot.rest()
    except EOFError:
        return


def urgent() -> None:
    """Gives this thread precedence on a busy machine, below franky's own, which libfranka raises to the top.

    Called after everything is imported and connected: Linux halts real-time threads that never sleep.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        _log.info("no real-time priority; `tgrpo doctor --robot fr3` says how to permit it")


def run(robot: Robot, channel: Channel[Any], clock: Callable[[], float] = time.monotonic) -> None:
    """Obeys and reports until the channel closes.

    Raises:
        EOFError: It closed.
    """
    due = clock()
    while True:
        for message in channel.receive(max(0.0, due - clock())):
            reply = robot.obey(message, clock())
            if reply is not None:
                channel.send(reply)
        if clock() < due:
            continue
        due = max(due + PERIOD, clock())
        robot.watch(clock())
        channel.send(robot.report(clock()))


class Hand:
    """The gripper in a thread of its own, as its calls block; only the newest wish counts."""

    def __init__(self, gripper: Any) -> None:
        """Starts the thread.

        Args:
            gripper: A ``franky.Gripper``.
        """
        self._gripper = gripper
        self._wishes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.width = 0.0
        threading.Thread(target=self._serve, name="gripper", daemon=True).start()

    def wish(self, close: bool) -> None:
        """Asks to close or open, and returns at once."""
        self._wishes.put(close)

    def _serve(self) -> None:
        motion: Any = None
        while True:
            try:
                self.width = float(self._gripper.width)
                wish = self._newest()
                if wish is True:
                    motion = self._gripper.grasp_async(**_GRASP)
                elif wish is False:
                    motion = self._gripper.move_async(OPEN_WIDTH, 0.1)
                elif motion is not None and motion.wait(0.0):
                    done, motion = motion, None
                    done.get()  # raises what the hand refused, which would be lost with the future
            except Exception as error:  # noqa: BLE001  (a gripper that fails must not take the arm with it)
                _log.warning("gripper: %s", error)
                time.sleep(0.5)

    def _newest(self) -> bool | None:
        wish: bool | None = None
        try:
            wish = self._wishes.get(timeout=0.05)
            while True:
                wish = self._wishes.get_nowait()
        except queue.Empty:
            return wish


class Robot:
    """franky's robot, its impedance tracker and its gripper."""

    def __init__(self, franky: Any, settings: messages.Connect) -> None:
        """Connects.

        Args:
            franky: The module.
            settings: Address and gains.
        """
        self._franky, self._settings = franky, settings
        self._robot = franky.Robot(settings.host, realtime_config=franky.RealtimeConfig.Ignore)
        self._robot.set_collision_behavior(settings.collision_torque, settings.collision_force)
        self._hand = Hand(franky.Gripper(settings.host))
        self._tracker: Any = None
        self._heard = float("-inf")
        self._silent = False

    def obey(self, message: messages.ToRobot, now: float) -> messages.Done | messages.Refused | None:
        """Carries out one message; answers those that may fail."""
        if isinstance(message, messages.Follow):
            self._heard = now
            if self._tracker is not None and self._tracker.is_running:
                self._follow(message)
            return None
        if isinstance(message, messages.Grip):
            self._hand.wish(message.close)
            return None
        try:
            if isinstance(message, messages.Start):
                self._start(now)
            elif isinstance(message, messages.Stop):
                self.halt()
            elif isinstance(message, messages.Recover):
                self._recover()
        except Exception as error:  # noqa: BLE001  (franky's errors are its own; the text is what a person needs)
            return messages.Refused(reason=str(error))
        return messages.Done()

    def watch(self, now: float) -> None:
        """Stops the controller if nobody has sent a reference for too long."""
        if self._tracker is not None and now - self._heard > SILENCE:
            self._silent = True
            self.halt()

    def halt(self) -> None:
        """Ramps the torques down to damping; returns at once and the arm comes to rest."""
        if self._tracker is not None:
            self._tracker = None
            if self._robot.is_in_control:
                self._robot.move(self._franky.TorqueStopMotion(), asynchronous=True)

    def rest(self) -> None:
        """Halts and waits until the arm has come to rest: a process that ends at once would end the soft stop too."""
        self.halt()
        with contextlib.suppress(Exception):  # after a reflex there is nothing to wait for
            self._robot.join_motion(STOP_PATIENCE)

    def report(self, now: float) -> messages.State:
        """The robot's state."""
        state = self._robot.state
        pose = state.O_T_EE
        mode, error = self._mode(state)
        return messages.State(
            time=state.time.to_msec() / 1000.0,
            stamp=now,
            position=_tuple(pose.translation),
            quaternion=_tuple(pose.quaternion),
            joints=_tuple(state.q),
            joint_velocities=_tuple(state.dq),
            width=self._hand.width,
            mode=mode,
            error=error,
        )

    def _mode(self, state: Any) -> tuple[ArmMode, str]:
        modes = self._franky.RobotMode
        if state.robot_mode == modes.Reflex:
            return "reflex", str(state.last_motion_errors)
        if state.robot_mode in (modes.UserStopped, modes.Guiding):
            return "stopped", "the enabling device is not pressed, or somebody guides the arm"
        if self._silent:
            return "stopped", f"the controller was stopped after {SILENCE} s without a reference"
        running = self._tracker is not None and self._tracker.is_running
        return ("moving" if running else "ready"), ""

    def _start(self, now: float) -> None:
        franky, settings = self._franky, self._settings
        self.halt()
        self._robot.join_motion()
        self._tracker = franky.CartesianImpedanceTracker(
            self._robot,
            translational_stiffness=settings.translational_stiffness,
            rotational_stiffness=settings.rotational_stiffness,
            posture_task=franky.PostureTask(self._robot.state.q, settings.posture_stiffness),
            max_delta_tau=settings.torque_step,
            lower_joint_limits=list(settings.joint_low),
            upper_joint_limits=list(settings.joint_high),
            joint_limit_activation_distance=max(settings.joint_margin, 0.01),
        )
        self._heard, self._silent = now, False

    def _follow(self, message: messages.Follow) -> None:
        franky = self._franky
        target = franky.Affine(list(message.position), list(message.quaternion))
        self._tracker.set_target(target, franky.Twist(list(message.linear), list(message.angular)))

    def _recover(self) -> None:
        if self._robot.state.robot_mode != self._franky.RobotMode.Reflex:
            raise RuntimeError("the robot reports no reflex")
        self._tracker, self._silent = None, False
        if not self._robot.recover_from_errors():
            raise RuntimeError("the robot did not clear its errors; look at Desk")
        # franky keeps the error of the aborted motion for whoever joins it next, which would be the next start.
        with contextlib.suppress(Exception):
            self._robot.join_motion()


def _tuple(values: Any) -> Any:
    return tuple(float(value) for value in values)


if __name__ == "__main__":
    main()
    # The arm rests. Threads of franky outlive Python's end, which C++ answers with an abort; nothing is left to do.
    os._exit(0)
