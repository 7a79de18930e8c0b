"""The simulated arm: the same physics as an evaluation, and a server that survives its clients."""

import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq

from sim.libero import make
from sim.robot import Scene, Server, SimRobotSettings, main
from tgrpo import rotation, sim_link
from tgrpo.errors import SettingsError, SimulationError

ROOT = Path(__file__).resolve().parents[2]
RECORDING = Path(__file__).parent / "data" / "libero_object_0_state1.json"


@pytest.fixture
def scene(blind_env):
    return Scene(blind_env, SimRobotSettings(init_state=1, cameras=(), pace="fast"))


def follow(scene, action):
    """What the robot side does with an action: target = measured pose + action."""
    state = scene.state()
    action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
    target = rotation.turned(np.array(state.quaternion), action[3:6] * 0.5)
    scene.grip(bool(action[6] > 0))
    scene.aim(np.array(state.position) + action[:3] * 0.05, target)
    scene.advance()


def test_targets_move_the_arm_as_actions_do(scene, blind_env, recording):
    for action in recording[:40]:
        follow(scene, action)
    driven = scene.state()
    blind_env.reset(1)
    for action in recording[:40]:
        blind_env.step(np.clip(action, -1.0, 1.0))
    position, quaternion = blind_env.tool_pose()
    assert np.array(driven.position) == pytest.approx(position, abs=1e-9)
    assert np.abs(rotation.difference(quaternion, np.array(driven.quaternion))).max() < 1e-8
    assert np.array(driven.proprio) == pytest.approx(blind_env.proprio(), abs=1e-6)


def test_the_recorded_actions_solve_the_task_through_targets(scene):
    actions = np.array(json.loads(RECORDING.read_text()), np.float32) / 100
    steps = 0
    for action in actions:
        follow(scene, action)
        steps += 1
        if scene.state().success:
            break
    assert scene.state().success
    assert steps == len(actions)


def test_a_scene_needs_nothing_that_learns():
    """Loading torch and transformers takes longer than loading the scene."""
    program = "import sys, sim.robot; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_staying_is_at_rest(scene):
    scene.stay()
    before = np.array(scene.state().position)
    for _ in range(20):
        scene.advance()
    assert np.array(scene.state().position) == pytest.approx(before, abs=2e-3)


def test_a_target_far_away_is_approached_no_faster_than_an_action_of_one(scene):
    before = np.array(scene.state().position)
    scene.aim(before + np.array([10.0, 0.0, 0.0]), np.array(scene.state().quaternion))
    scene.advance()
    assert np.linalg.norm(np.array(scene.state().position) - before) < 0.05


@pytest.mark.parametrize("position", [[np.nan, 0, 0], [np.inf, 0, 0]])
def test_targets_that_are_none(scene, position):
    with pytest.raises(SimulationError, match="not finite"):
        scene.aim(np.array(position, float), rotation.identity())
    with pytest.raises(SimulationError, match="is no rotation"):
        scene.aim(np.zeros(3), np.zeros(4))


class TestServer:
    @pytest.fixture
    def ask(self, scene, tmp_path):
        """A served scene, and a client."""
        address = f"ipc://{tmp_path / 'scene'}"
        context = zmq.Context()
        router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        router.bind(address)
        dealer.connect(address)
        for socket in (router, dealer):
            socket.linger = 0
        settings = SimRobotSettings(cameras=(), pace="fast")
        server, running = Server(scene, settings, router), [True]

        def serve():
            while running[0]:
                server.turn()

        thread = threading.Thread(target=serve)
        thread.start()

        def send(request):
            dealer.send(request if isinstance(request, bytes) else sim_link.encode(request))
            assert dealer.poll(30_000)
            return sim_link.decode_reply(dealer.recv())

        send.dealer = dealer
        yield send
        running[0] = False
        dealer.send(sim_link.encode(sim_link.Report()))
        thread.join()
        dealer.close()
        router.close()
        context.term()

    def test_describes_itself(self, ask):
        description = ask(sim_link.Describe())
        assert (description.suite, description.task, description.rate) == ("libero_object", 0, 20.0)
        assert "alphabet soup" in description.instruction

    def test_tells_how_far_its_cameras_see(self):
        cameras = ("agentview", "robot0_eye_in_hand")
        env = make("libero_object", 0, "fast", cameras, 64)
        try:
            scene = Scene(env, SimRobotSettings(cameras=cameras, pace="fast"))
            angles = [math.degrees(angle) for angle in scene.describe().fields_of_view]
        finally:
            env.close()
        assert angles == pytest.approx([45.0, 75.0])  # MuJoCo's default, and robosuite's Panda

    def test_another_version_is_refused(self, ask):
        assert "version 99" in ask(sim_link.Describe(version=99)).reason

    def test_follow_advances_by_one_step(self, ask):
        before = ask(sim_link.Report())
        after = ask(sim_link.Follow(position=before.position, quaternion=before.quaternion))
        assert (after.step, after.time) == (before.step + 1, pytest.approx(before.time + 0.05))

    def test_a_reset_starts_an_episode_and_time_goes_on(self, ask):
        before = ask(sim_link.Report())
        ask(sim_link.Grip(close=True))
        ask(sim_link.Follow(position=before.position, quaternion=before.quaternion))
        after = ask(sim_link.Reset(init_state=2))
        assert after.episode == before.episode + 1
        assert after.time >= before.time
        assert "0 to 49" in ask(sim_link.Reset(init_state=50)).reason

    @pytest.mark.parametrize("junk", [b"", b"junk", b"\xff" * 100, msgspec.msgpack.encode({"type": "Exec"})])
    def test_junk_is_refused_and_the_server_lives(self, ask, junk):
        assert "not a message" in ask(junk).reason
        assert ask(sim_link.Report()).step >= 0

    def test_nobody_waits_for_ever_for_a_picture(self, ask):
        state, begun = ask(sim_link.Report()), time.monotonic()
        frames = ask(sim_link.Look(after=state.step, patience=0.2))
        assert frames.images == {}
        assert time.monotonic() - begun >= 0.2


class TestCommand:
    def test_listens_on_this_machine_only(self):
        with pytest.raises(SettingsError, match="address"):
            main(["--address", "tcp://0.0.0.0:5570"])

    def test_an_address_in_use(self, tmp_path):
        with pytest.raises(SettingsError, match="Choose another --address"):
            main(["--address", f"ipc://{tmp_path / 'no' / 'folder'}", "--cameras"])


def test_messages_survive_the_wire():
    request = sim_link.Follow(position=(0.1, 0.2, 0.3), quaternion=(0.0, 0.0, 0.0, 1.0))
    assert sim_link.decode_request(sim_link.encode(request)) == request
    with pytest.raises(SimulationError, match="not a message"):
        sim_link.decode_reply(sim_link.encode(request))
    with pytest.raises(SimulationError, match="longer than"):
        sim_link.decode_request(b"\0" * (sim_link.LIMIT + 1))
