"""What every teleoperation device promises; each is driven through the real library as far down as it goes."""

import ctypes
import os
import pty
import time
from pathlib import Path

import numpy as np
import pytest

from tgrpo.errors import MissingDependencyError, SettingsError, UnknownNameError
from tgrpo_ros.drivers import Teleop
from tgrpo_ros.drivers.choose import open_teleop
from tgrpo_ros.drivers.keyboard import KEYS, Keyboard
from tgrpo_ros.drivers.spacemouse import SpaceMouse
from tgrpo_ros.drivers.teleop import TeleopSettings, deflection, shaped

SETTINGS = TeleopSettings()
GAME_CONTROLLER, A, RIGHT_SHOULDER = 1, 0, 10
"""SDL's numbers of the type and of the buttons of its virtual gamepad."""
FORWARD = np.array([SETTINGS.translation, 0, 0, 0, 0, 0])


class KeyboardRig:
    """A keyboard driver at a pseudo terminal whose other end is typed on."""

    def __init__(self):
        self.typist, terminal = pty.openpty()
        self.now = 0.0
        self.terminal = terminal
        self.device = Keyboard(terminal, SETTINGS, clock=lambda: self.now)

    def push_forward(self):
        self.type(b"w")

    def type(self, keys):
        os.write(self.typist, keys)
        time.sleep(0.05)

    def rest(self):
        self.now += 1.0

    def close_gripper(self):
        self.type(b" ")

    def unplug(self):
        os.close(self.typist)
        self.typist = None

    def end(self):
        self.device.close()
        for descriptor in (self.typist, self.terminal):
            if descriptor is not None:
                os.close(descriptor)


class FakeHid:
    """A HID device that answers with raw reports: below it, only the kernel is missing."""

    def __init__(self):
        self.reports, self.gone = [], False

    def read(self, size):
        if self.gone:
            raise OSError("device disconnected")
        return self.reports.pop(0) if self.reports else b""

    def close(self):
        pass


class SpaceMouseRig:
    """pyspacemouse's own decoder over raw reports of a SpaceMouse Compact."""

    def __init__(self):
        pyspacemouse = pytest.importorskip("pyspacemouse")
        from pyspacemouse.config_helpers import apply_axis_convention
        from pyspacemouse.device import SpaceMouseDevice

        specs = pyspacemouse.get_device_specs()
        self.info = apply_axis_convention(specs["SpaceMouseCompact"], pyspacemouse.AxisConvention.ROS)
        self.hid = FakeHid()
        self.device = SpaceMouse(SETTINGS, SpaceMouseDevice(self.info, self.hid))

    def report(self, axis, value):
        spec = self.info.mappings[axis]
        data = bytearray(13)
        data[0] = spec.channel
        raw = int(value * self.info.axis_scale / spec.scale) & 0xFFFF
        data[spec.byte1], data[spec.byte2] = raw & 0xFF, raw >> 8
        self.hid.reports.append(bytes(data))

    def push_forward(self):
        self.report("x", 1.0)

    def rest(self):
        self.report("x", 0.0)

    def close_gripper(self):
        button = self.info.button_specs[0]
        data = bytearray(7)
        data[0] = button.channel
        data[button.byte] = 1 << button.bit
        self.hid.reports.append(bytes(data))

    def unplug(self):
        self.hid.gone = True

    def end(self):
        self.device.close()


class GamepadRig:
    """SDL's virtual joystick, attached through pygame's own SDL."""

    def __init__(self):
        pygame = pytest.importorskip("pygame")
        from tgrpo_ros.drivers.gamepad import Gamepad, _library

        _library()
        self.sdl, self.pygame = sdl_of(pygame), pygame
        self.index = self.sdl.SDL_JoystickAttachVirtual(GAME_CONTROLLER, 6, 15, 0)
        assert self.index >= 0
        pygame.event.pump()
        self.device = Gamepad(SETTINGS, self.index)
        self.sdl.SDL_JoystickOpen.restype = ctypes.c_void_p
        self.pad = ctypes.c_void_p(self.sdl.SDL_JoystickOpen(self.index))

    def axis(self, index, value):
        self.sdl.SDL_JoystickSetVirtualAxis(self.pad, index, ctypes.c_int16(int(value * 32767)))

    def button(self, index, down):
        self.sdl.SDL_JoystickSetVirtualButton(self.pad, index, ctypes.c_uint8(down))

    def push_forward(self):
        self.button(RIGHT_SHOULDER, 1)
        self.axis(1, -1.0)
        self.pygame.event.pump()

    def rest(self):
        for index in (A, RIGHT_SHOULDER):
            self.button(index, 0)
        self.axis(1, 0.0)
        self.pygame.event.pump()

    def close_gripper(self):
        self.button(RIGHT_SHOULDER, 1)
        self.button(A, 1)
        self.pygame.event.pump()

    def unplug(self):
        self.sdl.SDL_JoystickClose(self.pad)
        self.sdl.SDL_JoystickDetachVirtual(self.index)
        self.index = None
        self.pygame.event.pump()

    def end(self):
        self.device.close()
        if self.index is not None:
            self.sdl.SDL_JoystickClose(self.pad)
            self.sdl.SDL_JoystickDetachVirtual(self.index)


def sdl_of(pygame):
    """The SDL that this pygame is linked to: another copy would know nothing of its joysticks."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "libSDL2-2" in line:
            return ctypes.CDLL(line.split()[-1])
    pytest.skip("pygame's SDL was not found")


@pytest.fixture(params=[KeyboardRig, SpaceMouseRig, GamepadRig])
def rig(request):
    one = request.param()
    yield one
    one.end()


def test_keeps_the_protocol(rig):
    assert isinstance(rig.device, Teleop)


def test_rests(rig):
    reading = rig.device.read()
    assert (reading.motion.tolist(), reading.gripper, reading.engaged, reading.connected) == (
        [0.0] * 6,
        0.0,
        False,
        True,
    )


def test_forward_is_forward_and_letting_go_is_rest(rig):
    rig.push_forward()
    reading = rig.device.read()
    assert reading.engaged
    assert reading.motion == pytest.approx(FORWARD, abs=0.02)
    assert reading.action().shape == (7,)
    rig.rest()
    reading = rig.device.read()
    assert not reading.engaged
    assert not reading.motion.any()


def test_closes_the_gripper(rig):
    rig.close_gripper()
    assert rig.device.read().gripper == 1.0


def test_unplugging_is_reported_for_good(rig):
    rig.push_forward()
    rig.device.read()
    rig.unplug()
    limit = time.monotonic() + 5.0
    while rig.device.read().connected:
        assert time.monotonic() < limit
    reading = rig.device.read()
    assert (reading.connected, reading.engaged, reading.motion.any()) == (False, False, False)


def test_close_twice(rig):
    rig.device.close()
    rig.device.close()


def test_every_key_moves_one_axis_one_way():
    rig = KeyboardRig()
    seen = set()
    for key in KEYS:
        rig.type(key)
        motion = rig.device.read().motion
        seen.add((int(np.flatnonzero(motion)[0]), float(np.sign(motion).sum())))
        rig.rest()
    assert len(seen) == 12
    rig.type(b"\x1b")
    assert not rig.device.read().engaged
    rig.end()


def test_the_keyboard_gives_the_terminal_back():
    import termios

    rig = KeyboardRig()
    held = termios.tcgetattr(rig.terminal)[3] & termios.ICANON
    rig.device.close()
    assert not held
    assert termios.tcgetattr(rig.terminal)[3] & termios.ICANON
    rig.end()


def test_no_terminal():
    reading, writing = os.pipe()
    with pytest.raises(SettingsError, match="needs a terminal"):
        Keyboard(reading, SETTINGS)
    os.close(reading)
    os.close(writing)


def test_nothing_moves_without_the_dead_man():
    rig = GamepadRig()
    rig.axis(1, -1.0)
    rig.pygame.event.pump()
    reading = rig.device.read()
    assert not reading.engaged
    assert not reading.motion.any()
    rig.end()


def test_the_dead_zone_has_no_edge():
    deflections = np.linspace(-1.0, 1.0, 401)
    motion = np.array([shaped(np.array([x, 0, 0, 0, 0, 0]), SETTINGS)[0] for x in deflections])
    assert not motion[np.abs(deflections) <= 0.05].any()
    assert np.abs(np.diff(motion)).max() < 0.002
    assert motion[-1] == pytest.approx(SETTINGS.translation)
    assert np.abs(shaped(np.full(6, 50.0), SETTINGS)).max() == pytest.approx(SETTINGS.translation)


def test_a_deflection_gives_the_motion_it_was_made_for():
    motion = np.array([SETTINGS.translation, -0.5 * SETTINGS.translation, 0.0, 0.001, -SETTINGS.rotation, 0.0])
    assert shaped(deflection(motion, SETTINGS), SETTINGS) == pytest.approx(motion)
    assert deflection(np.full(6, -9.0), SETTINGS) == pytest.approx([-1.0] * 6)


def test_keys_speak_to_a_session():
    rig = KeyboardRig()
    for key, word in ((b"\n", "go"), (b"y", "success"), (b"n", "failure"), (b"x", "abort"), (b"w", "")):
        rig.type(key)
        assert rig.device.read().word == word
    rig.end()


def test_buttons_speak_to_a_session_unless_the_arm_is_held():
    rig = GamepadRig()
    for button, word in ((6, "go"), (3, "success"), (2, "failure"), (4, "abort"), (A, "")):
        for held in (False, True):
            rig.button(RIGHT_SHOULDER, held)
            rig.button(button, 1)
            rig.pygame.event.pump()
            assert rig.device.read().word == ("" if held else word)
        rig.button(button, 0)
    rig.end()


def test_unknown_device():
    with pytest.raises(UnknownNameError, match="spacemouse"):
        open_teleop("spacemouze", SETTINGS)


@pytest.mark.parametrize(("device", "package"), [("spacemouse", "pyspacemouse"), ("gamepad", "pygame")])
def test_without_its_library(monkeypatch, device, package):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"pip install '{package}>="):
        open_teleop(device, SETTINGS)
