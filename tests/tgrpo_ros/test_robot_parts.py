"""Small parts of the robot's nodes: meter, host lock, joystick, pictures, messages, status."""

import multiprocessing
import os
import signal

import numpy as np
import pytest

from tgrpo import private_folder, view
from tgrpo.errors import RobotFault, SettingsError, WireError
from tgrpo_ros import status
from tgrpo_ros.drivers.base import Intrinsics
from tgrpo_ros.drivers.teleop import TeleopSettings
from tgrpo_ros.host_lock import HostLock
from tgrpo_ros.joy import SILENCE, Joy
from tgrpo_ros.launching import look_up, refuse_unknown_arguments
from tgrpo_ros.meter import Meter
from tgrpo_ros.motion import Command, Source


class TestMeter:
    def test_rate_jitter_and_age(self):
        meter = Meter()
        for time in (1.0, 1.1, 1.2, 1.5):
            meter.tick(time)
        pulse = meter.read(2.0)
        assert (pulse.count, pulse.rate) == (4, pytest.approx(6.0))
        assert pulse.jitter == pytest.approx(0.3 - 0.5 / 3)
        assert pulse.age == pytest.approx(0.5)

    def test_nothing_yet(self):
        pulse = Meter().read(1.0)
        assert (pulse.count, pulse.rate, pulse.age) == (0, 0.0, float("inf"))


def _hold(device, ready):
    with HostLock(device):
        ready.set()
        signal.pause()


class TestHostLock:
    @pytest.fixture(autouse=True)
    def own_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def test_one_process_at_a_time_and_a_killed_one_leaves_nothing(self):
        context = multiprocessing.get_context("fork")
        ready = context.Event()
        holder = context.Process(target=_hold, args=("arm at 172.16.0.2", ready))
        holder.start()
        assert ready.wait(30.0)
        with pytest.raises(RobotFault, match=f"used by process {holder.pid}"):
            HostLock("arm at 172.16.0.2")
        HostLock("arm at 172.16.0.3").close()
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
        HostLock("arm at 172.16.0.2").close()

    def test_a_folder_that_others_may_enter_is_refused(self, tmp_path):
        (tmp_path / "tgrpo").mkdir(mode=0o755)
        with pytest.raises(SettingsError, match="chmod 700"):
            HostLock("arm")
        assert private_folder.path() == tmp_path / "tgrpo"


class TestJoy:
    @pytest.fixture
    def clock(self):
        return [10.0]

    @pytest.fixture
    def joy(self, clock):
        return Joy(TeleopSettings(dead_zone=0.0, translation=1.0, rotation=1.0), lambda: clock[0])

    def message(self, **changes):
        axes, buttons = [0.0] * 6, [0] * 11
        buttons[10] = 1
        for name, value in changes.items():
            (axes if name[0] == "x" else buttons)[int(name[1:])] = value
        return axes, buttons

    def test_sticks_move_while_the_dead_man_button_is_held(self, joy):
        joy.hear(*self.message(x1=0.5, x0=-0.25, x5=1.0, x3=0.125, b0=1))
        reading = joy.read()
        assert reading.engaged
        assert reading.motion == pytest.approx([0.5, -0.25, 1.0, 0.0, 0.125, 0.0])
        assert reading.gripper == 1.0
        joy.hear(*self.message(x1=0.5, b10=0))
        assert not joy.read().engaged
        assert not joy.read().motion.any()

    def test_buttons_speak_unless_the_dead_man_button_is_held(self, joy):
        joy.hear(*self.message(b10=0, b3=1))
        assert joy.read().word == "success"
        joy.hear(*self.message(b3=1))
        assert joy.read().word == ""

    def test_a_space_mouse_is_held_while_it_moves(self, joy):
        joy.hear([0.1, -0.2, 0.3, 0.4, -0.5, 0.6], [0, 1])
        reading = joy.read()
        assert reading.motion == pytest.approx([0.1, -0.2, 0.3, 0.4, -0.5, 0.6])
        assert (reading.gripper, reading.engaged) == (-1.0, True)
        joy.hear([0.0] * 6, [0, 0])
        assert not joy.read().engaged

    def test_silence_lets_go(self, joy, clock):
        joy.hear(*self.message(x1=0.5))
        clock[0] += SILENCE - 0.01
        assert joy.read().engaged
        clock[0] += 0.02
        assert not joy.read().engaged

    def test_other_devices_and_absurd_numbers_are_dropped(self, joy):
        assert not joy.read().engaged
        joy.hear([1.0, 1.0], [1, 1])
        joy.hear(*self.message(x1=float("nan")))
        assert not joy.read().engaged


class TestPictures:
    def test_a_picture_that_fits_is_not_touched(self):
        image = np.zeros((64, 64, 3), np.uint8)
        assert np.shares_memory(view.fitted(image, 64), image)

    def test_the_middle_square_is_taken(self):
        image = np.zeros((4, 8, 3), np.uint8)
        image[:, 2:6] = 200
        assert (view.fitted(image, 4) == 200).all()

    def test_scaling_keeps_colours_and_place(self):
        image = np.zeros((480, 640, 3), np.uint8)
        image[:240, :320] = (255, 0, 0)
        small = view.fitted(image, 64)
        assert small.shape == (64, 64, 3)
        assert small[8, 8].tolist() == [255, 0, 0]
        assert small[56, 56].tolist() == [0, 0, 0]

    @pytest.mark.parametrize(("side", "size"), [(480, 224), (224, 64), (100, 224), (37, 5), (9, 8)])
    def test_scaling_is_that_of_pillow_but_for_its_rounding(self, side, size):
        """Pillow rounds between its passes too, so of smooth pictures, where that adds up to one level, all is seen."""
        pillow = pytest.importorskip("PIL.Image")
        y, x = np.mgrid[:side, :side] / side
        picture = np.stack([255 * x, 127 + 120 * np.sin(9 * y), 255 * x * y], -1).astype(np.uint8)
        theirs = np.asarray(pillow.fromarray(picture).resize((size, size), pillow.Resampling.LANCZOS))
        assert np.abs(view.fitted(picture, size).astype(int) - theirs).max() <= 1


class TestStatus:
    def test_round_trip(self):
        one = status.ArmStatus(level="HOLD", reason="starved", leases={"policy": "ab"}, refused={"expired": 2}, steps=3)
        assert status.decode(status.encode(one)) == one

    @pytest.mark.parametrize(
        "text", ["", "{}", '{"level": "RUN", "schema": "tgrpo/arm/2"}', '{"level": "RUN", "x": 1}']
    )
    def test_other_versions_are_refused(self, text):
        with pytest.raises(WireError, match="tgrpo/arm/1"):
            status.decode(text)


class TestMessages:
    @pytest.fixture
    def messages(self):
        pytest.importorskip("std_msgs")
        from tgrpo_ros import messages

        return messages

    def test_a_command_survives(self, messages):
        actions = np.arange(14, dtype=np.float32).reshape(2, 7) / 10
        sent = Command(Source.HUMAN, "ab-12", 2**40, 12345.678901234, actions, engaged=False)
        got = messages.command_of(messages.command_message(sent))
        assert (got.source, got.session, got.sequence, got.observed, got.engaged) == (
            *(Source.HUMAN, "ab-12", 2**40),
            *(12345.678901234, False),
        )
        assert got.actions.dtype == np.float32
        assert np.array_equal(got.actions, actions)

    def test_a_projection(self, messages):
        """A point 2 m ahead, 0.5 m right of and 0.25 m below the axis, by hand."""
        lens = Intrinsics(width=640, height=480, focal=(600.0, 610.0), centre=(320.0, 240.0), coefficients=(0.1,) * 5)
        info = messages.camera_info_message(lens)
        x, y, w = np.reshape(info.p, (3, 4)) @ [0.5, 0.25, 2.0, 1.0]
        assert (x / w, y / w) == (470.0, 316.25)
        assert np.array_equal(np.reshape(info.k, (3, 3)), np.reshape(info.p, (3, 4))[:, :3])
        assert (info.width, info.height, info.distortion_model, list(info.d)) == (640, 480, "plumb_bob", [0.1] * 5)

    def test_a_lease_is_a_command_without_actions(self, messages):
        got = messages.command_of(messages.lease_message(Source.POLICY, "ab", 7))
        assert (got.actions.shape, got.engaged) == ((0, 7), True)
        assert not messages.command_of(messages.lease_message(Source.POLICY, "ab", 7, keep=False)).engaged

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda m: m.layout.dim.pop(),
            lambda m: setattr(m.layout, "data_offset", 2),
            lambda m: m.data.pop(),
            lambda m: setattr(m.layout.dim[0], "size", 2**31),
            lambda m: setattr(m.layout.dim[0], "label", "safety/ab"),
            lambda m: setattr(m.layout.dim[0], "label", "policy/"),
            lambda m: setattr(m.layout.dim[0], "label", "policy/" + "a" * 65),
            lambda m: m.data.__setitem__(0, float("nan")),
            lambda m: m.data.__setitem__(0, -1.0),
            lambda m: m.data.__setitem__(0, 1.5),
        ],
    )
    def test_what_does_not_follow_the_layout_is_refused(self, messages, spoil):
        message = messages.command_message(Command(Source.POLICY, "ab", 1, 2.0, np.zeros((2, 7), np.float32)))
        spoil(message)
        with pytest.raises(WireError, match="not a command"):
            messages.command_of(message)

    def test_absurd_numbers_reach_the_safety_layer_as_infinite(self, messages):
        message = messages.command_message(Command(Source.POLICY, "ab", 1, 2.0, np.zeros((1, 7), np.float32)))
        message.data[3] = 1e300
        assert np.isinf(messages.command_of(message).actions[0, 0])

    def test_proprioception_survives_exactly(self, messages):
        values = np.random.default_rng(0).normal(size=8).astype(np.float32)
        now, got = messages.proprio_of(messages.proprio_message(12.25, values))
        assert now == 12.25
        assert np.array_equal(got, values)
        with pytest.raises(WireError, match="not proprioception"):
            messages.proprio_of(messages.lease_message(Source.POLICY, "ab", 7))


class TestLaunching:
    def test_unknown_arguments_are_refused_with_a_suggestion(self, monkeypatch):
        monkeypatch.setattr("sys.argv", ["ros2", "launch", "x/robot.launch.py", "robbot:=sim"])
        with pytest.raises(RuntimeError, match="Did you mean 'robot'"):
            refuse_unknown_arguments("elsewhere/robot.launch.py", ["robot", "workspace"])
        refuse_unknown_arguments("elsewhere/other.launch.py", ["robot"])

    def test_driver_and_cameras_of_a_robot(self, tmp_path):
        mine = tmp_path / "mine.yaml"
        mine.write_text("arm: {driver: sim}\ncameras:\n  - {name: front}\n  - {name: wrist}\n")
        assert look_up("mine", tmp_path) == look_up(str(mine), tmp_path) == ("sim", ["front", "wrist"])
        with pytest.raises(RuntimeError, match="Valid: mine"):
            look_up("yours", tmp_path)
        mine.write_text("cameras: []\n")
        with pytest.raises(RuntimeError, match=r"arm\.driver"):
            look_up("mine", tmp_path)
