"""The policy's thread against a real server and real pictures: when it asks, and what it drops."""

import socket
import threading
import time

import numpy as np
import pytest

from tgrpo.serving.core import Core
from tgrpo.serving.model import ServedModel
from tgrpo.serving.server import Server
from tgrpo.settings import from_builtins
from tgrpo.spec import ActionSpec, ObservationSpec, PolicySpec
from tgrpo.types import ActionChunk
from tgrpo_ros import policy_loop
from tgrpo_ros.drivers.base import Frame
from tgrpo_ros.frames import FrameReceiver, FrameSender
from tgrpo_ros.policy_loop import PolicyLoop
from tgrpo_ros.robot_config import RobotConfig
from tgrpo_ros.status import ArmStatus
from tgrpo_ros.strategies import Strategy

CONFIG = {
    "arm": {"driver": "sim"},
    "action": {"rate": 10.0},
    "safety": {
        "workspace": {"low": [0.0, 0.0, 0.0], "high": [1.0, 1.0, 1.0]},
        "joints": {"low": [-2.7] * 7, "high": [2.7] * 7},
        "watchdogs": {"frame_age": 5.0},
        "chunks": {"max_age": 5.0},
    },
}


CAMERAS = ("agentview", "wrist")


class Policy:
    """Remembers what it saw."""

    def __init__(self, rate=10.0, cameras=("agentview",)):
        observation = ObservationSpec(cameras=cameras, size=8, proprio=True)
        self.spec = PolicySpec(action=ActionSpec(rate=rate), observation=observation)
        self.seen, self.entered, self.gate = [], threading.Event(), threading.Event()
        self.gate.set()

    def reset(self, seeds):
        pass

    def act(self, observations, *, temperature=0.0, rows=None):
        self.entered.set()
        assert self.gate.wait(60.0)
        self.seen += observations
        return [ActionChunk(np.full((8, 7), 0.5, np.float32))] * len(observations)


class Bench:
    """A policy loop, its server and its cameras; the test is the arm."""

    def __init__(self, folder, policy, execute=2, cameras=CAMERAS[:1]):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.policy = policy
        self.core = Core(ServedModel(policy, "test", "test@1"), max_batch=4, window=0.0, quota=2)
        self.server = Server(self.core, port=port)
        addresses = {camera: f"ipc://{folder / camera}" for camera in cameras}
        senders = [FrameSender(address, camera) for camera, address in addresses.items()]
        self.camera, self.second = senders[0], senders[-1]
        self.sent, self.sequence = [], 0
        self.loop = PolicyLoop(
            f"tcp://127.0.0.1:{port}",
            from_builtins({**CONFIG, "cameras": [{"name": name, "driver": "sim"} for name in cameras]}, RobotConfig),
            Strategy("receding_horizon", 0.1, execute=execute),
            FrameReceiver(addresses, images=True),
            "mine",
            self.sent.append,
            deadline_ms=10_000.0,
        )
        self.loop.instruction = "wave"
        self.loop.start()

    def status(self, level="RUN", session="mine", **more):
        self.loop.hear(ArmStatus(level=level, leases={"policy": session} if session else {}, **more))

    def look(self, captured=None, at=None):
        """The camera takes a picture and the arm reports, at a time of the scene or now."""
        self.sequence += 1
        now = time.monotonic() if at is None else at
        self.camera.send(
            Frame(np.full((8, 8, 3), 7, np.uint8), now if captured is None else captured, self.sequence, "steady")
        )
        self.loop.feel(now, np.arange(8, dtype=np.float32))

    def close(self):
        self.loop.close()
        self.server.close()
        self.core.close()
        self.camera.close()
        self.second.close()


@pytest.fixture
def bench(tmp_path):
    one = Bench(tmp_path, Policy())
    yield one
    one.close()


def looking(bench, condition):
    """Looks until something is the case."""

    def step():
        bench.look()
        return condition()

    return step


def greeting(bench, condition):
    """Serves late subscribers, as a camera's loop does, until something is the case."""
    return lambda: (bench.camera.greet(), condition())[1]


def test_real_time_commands_carry_session_sequence_and_the_time_of_the_picture(bench, wait):
    bench.status()
    begun = time.monotonic()
    wait(looking(bench, lambda: len(bench.sent) >= 2))
    first, second = bench.sent[:2]
    assert (first.session, first.sequence, second.sequence) == ("mine", 1, 2)
    assert begun <= first.observed < second.observed <= time.monotonic()
    assert first.actions.shape == (8, 7)  # the rest bridges the time of thinking
    assert bench.policy.seen[0].instruction == "wave"
    assert bench.policy.seen[0].proprio.tolist() == list(range(8))
    assert (bench.policy.seen[0].images["agentview"] == 7).all()


def test_a_scene_that_waits_is_asked_once_for_each_step_that_is_due(bench, wait):
    bench.status(waits=True)
    bench.look(at=0.4)
    wait(greeting(bench, lambda: len(bench.sent) == 1))
    assert (bench.sent[0].observed, bench.sent[0].actions.shape) == (0.4, (2, 7))
    bench.look(at=0.5)  # one of two actions is done
    bench.look(captured=0.5, at=0.6)  # due, but the picture is of the step before
    time.sleep(0.2)
    assert len(bench.sent) == 1
    bench.look(at=0.6)
    wait(greeting(bench, lambda: len(bench.sent) == 2))


def test_a_command_that_a_waiting_scene_has_lost_is_sent_again(bench, wait, monkeypatch):
    monkeypatch.setattr(policy_loop, "STUCK", 0.2)
    bench.status(waits=True)
    bench.look(at=0.4)
    wait(greeting(bench, lambda: len(bench.sent) >= 2))
    assert bench.sent[0].observed == bench.sent[1].observed == 0.4
    assert bench.sent[1].sequence == 2


def test_a_command_for_a_step_that_had_passed_is_decided_anew(bench, wait, monkeypatch):
    """After a hand-over the scene may be a step further than the one that the policy was asked about."""
    monkeypatch.setattr(policy_loop, "STUCK", 0.2)
    bench.status(waits=True)
    bench.look(at=0.4)
    wait(greeting(bench, lambda: len(bench.sent) == 1))
    bench.look(at=0.5)
    wait(greeting(bench, lambda: len(bench.sent) >= 2))
    assert bench.sent[1].observed == 0.5


@pytest.mark.parametrize(
    "status",
    [
        {"level": "DECELERATE", "reason": "not_armed"},
        {"level": "FAULT", "reason": "reflex"},
        {"level": "HOLD", "reason": "camera_frozen"},
        {"source": "human"},
        {"session": ""},
        {"session": "another"},
    ],
)
def test_nobody_asks_what_must_not_be_executed(bench, wait, status):
    bench.status(**status)
    wait(looking(bench, lambda: bench.loop.doing.startswith(("waiting for the", "waiting:", "paused"))))
    wait(looking(bench, lambda: "policy server" not in bench.loop.doing))
    for _ in range(10):
        bench.look()
        time.sleep(0.02)
    assert bench.policy.seen == []
    bench.status()
    wait(looking(bench, lambda: bench.sent))


def test_hold_because_the_chunk_has_ended_is_no_reason_not_to_ask(bench, wait):
    bench.status(level="HOLD", reason="starved")
    wait(looking(bench, lambda: bench.sent))


def test_the_service_pauses_and_an_instruction_is_needed(bench, wait):
    bench.loop.instruction = ""
    bench.status()
    wait(looking(bench, lambda: "instruction" in bench.loop.doing))
    bench.loop.instruction, bench.loop.enabled = "wave", False
    wait(looking(bench, lambda: "enable" in bench.loop.doing))
    assert bench.policy.seen == []


def test_an_answer_from_before_a_takeover_is_dropped(bench, wait):
    bench.policy.gate.clear()
    bench.status()
    wait(looking(bench, bench.policy.entered.is_set))
    bench.status(source="human")
    bench.policy.gate.set()
    wait(lambda: bench.loop.counters.late == 1)
    assert bench.sent == []


def test_a_picture_from_before_permission_is_not_used(bench, wait):
    bench.status(level="DECELERATE", reason="not_armed")
    wait(looking(bench, lambda: bench.loop.doing.startswith("waiting for the arm")))
    bench.status()
    time.sleep(0.3)  # only the old picture is there
    assert bench.policy.seen == []
    bench.look()
    bench.look()
    wait(looking(bench, lambda: bench.sent))


def test_another_session_that_keeps_the_lease_ends_the_loop(bench, wait, monkeypatch):
    monkeypatch.setattr(policy_loop, "FOREIGN", 0.3)
    bench.status(session="another")
    wait(lambda: "another policy node (session another)" in bench.loop.failure)


@pytest.mark.parametrize(
    ("policy", "message"),
    [(Policy(rate=20.0), "rate: policy 20.0, embodiment 10.0"), (Policy(cameras=("wrist",)), "cameras: policy")],
)
def test_a_policy_with_other_conventions_is_refused_before_anything_moves(tmp_path, wait, policy, message):
    bench = Bench(tmp_path, policy)
    try:
        bench.status()
        wait(looking(bench, lambda: bench.loop.failure))
        assert message in bench.loop.failure
        assert bench.sent == []
    finally:
        bench.close()


def test_a_server_that_does_not_answer_is_counted_and_said(bench, wait):
    bench.status()
    wait(looking(bench, lambda: bench.sent))
    bench.loop._deadline_ms = 50.0
    bench.server.close()
    wait(looking(bench, lambda: bench.loop.counters.missed >= 1))
    wait(looking(bench, lambda: "does not answer" in bench.loop.doing))


def test_pictures_that_were_taken_together_are_shown_together(tmp_path, wait):
    """The second camera's picture comes 5 ms after the first one's; alone it would be one interval older."""
    bench = Bench(tmp_path, Policy(cameras=CAMERAS), cameras=CAMERAS)
    stop = threading.Event()

    def film():
        sequence, due = 0, time.monotonic()
        while not stop.is_set():
            sequence, due = sequence + 1, due + 0.25
            stop.wait(max(0.0, due - time.monotonic()))
            captured = time.monotonic()
            for camera in (bench.camera, bench.second):
                camera.send(Frame(np.full((8, 8, 3), sequence, np.uint8), captured, sequence, "steady"))
                bench.loop.feel(time.monotonic(), np.zeros(8, np.float32))
                stop.wait(0.005)

    thread = threading.Thread(target=film)
    thread.start()
    try:
        bench.status()
        wait(lambda: len(bench.policy.seen) >= 5)
    finally:
        stop.set()
        thread.join()
        bench.close()
    # The first decision may come before anybody knows how often the cameras take pictures.
    pairs = [[int(seen.images[camera][0, 0, 0]) for camera in CAMERAS] for seen in bench.policy.seen[1:]]
    assert all(first == second for first, second in pairs), pairs
