"""A robot of real nodes in processes of their own, for tests; only physics and the model are stood in for."""

import json
import math
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import zmq
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from sensor_msgs.msg import Joy
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

from tgrpo import sim_link
from tgrpo.spec import ActionSpec, ObservationSpec, PolicySpec
from tgrpo.types import ActionChunk
from tgrpo_ros.managed import LATCHED

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
PERIOD = 0.05
# The follower and the gates of a real arm, with watchdogs that a busy machine does not trip.
ROBOT = """
arm: {driver: sim}
action: {dims: 7, control: delta_pose, rotation: axis_angle, frame: world, gripper: close_positive,
  position_scale: 0.05, rotation_scale: 0.5, rate: 10.0}
safety:
  rate: 50.0
  workspace: {low: [0.2, -0.5, 0.0], high: [0.8, 0.5, 0.9]}
  joints: {low: [-2.7, -2.7, -2.7, -2.7, -2.7, -2.7, -2.7], high: [2.7, 2.7, 2.7, 2.7, 2.7, 2.7, 2.7]}
  watchdogs: {command_hold: 1.0, command_stop: 3.0, human_hold: 1.0, state_stop: 3.0, camera_hold: 4.0, frame_age: 4.0,
    missed_ticks: 500}
  chunks: {max_age: 4.0}
cameras:
  - {name: agentview, driver: sim}
"""


class Scene:
    """Speaks the protocol of a simulated arm in real time; the arm is where it is told to be, the picture changes."""

    def __init__(self, address):
        self.address, self.position, self.begun = address, (0.5, 0.0, 0.3), time.monotonic()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        self._closing = True
        self._thread.join()

    def _serve(self):
        context = zmq.Context()
        socket = context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.bind(self.address)
        looking = []
        while not self._closing:
            if socket.poll(5):
                client, data = socket.recv_multipart()
                request = sim_link.decode_request(data)
                if isinstance(request, sim_link.Look):
                    looking.append((client, request.after))
                else:
                    socket.send_multipart([client, sim_link.encode(self._answer(request))])
            for client, after in [one for one in looking if self.step > one[1]]:
                looking.remove((client, after))
                socket.send_multipart([client, sim_link.encode(self._frames())])
        socket.close()
        context.term()

    @property
    def step(self):
        return int((time.monotonic() - self.begun) / PERIOD)

    def _answer(self, request):
        if isinstance(request, sim_link.Describe):
            return sim_link.Description(
                suite="test",
                task=0,
                name="wave",
                instruction="wave",
                cameras=("agentview",),
                size=32,
                pace="real",
                rate=1.0 / PERIOD,
                max_steps=100,
                init_states=1,
                fields_of_view=(math.pi / 2,),
            )
        if isinstance(request, sim_link.Follow):
            self.position = request.position
        now = time.monotonic()
        return sim_link.State(
            step=self.step,
            time=now - self.begun,
            stamp=now,
            episode=1,
            position=self.position,
            quaternion=(0.0, 0.0, 0.0, 1.0),
            joints=(0.0,) * 7,
            joint_velocities=(0.0,) * 7,
            fingers=(0.04, -0.04),
            proprio=(*self.position, 0.0, 0.0, 0.0, 0.04, -0.04),
            success=False,
        )

    def _frames(self):
        step, now = self.step, time.monotonic()
        image = np.full((32, 32, 3), step % 256, np.uint8).tobytes()
        return sim_link.Frames(step=step, time=now - self.begun, stamp=now, size=32, images={"agentview": image})


class Swaying:
    """A policy that moves up and down; a chunk lasts 0.8 s."""

    spec = PolicySpec(
        action=ActionSpec(rate=10.0), observation=ObservationSpec(cameras=("agentview",), size=32), chunk=8
    )

    def __init__(self):
        self.asked = 0

    def reset(self, seeds):
        pass

    def act(self, observations, *, temperature=0.0, rows=None):
        self.asked += 1
        actions = np.zeros((8, 7), np.float32)
        actions[:, 2] = 0.2 if self.asked % 2 else -0.2
        return [ActionChunk(actions)] * len(observations)


class WallClock:
    """A wall clock that can be set, for processes with this environment.

    Attributes:
        environment: What such a process needs.
    """

    def __init__(self, folder, compiler):
        library, path = folder / "wall_clock.so", folder / "wall_clock"
        source = Path(__file__).with_name("wall_clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        path.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(path)}
        self._path = path

    def set(self, seconds):
        """Says by how much the wall clock is off [s]."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("q", seconds))


class Robot:
    """Starts nodes, and talks to them as a client would."""

    def __init__(self, ros, folder, port):
        self.folder, self.port = folder, port
        self.config = folder / "robot.yaml"
        self.config.write_text(ROBOT)
        self.scene = Scene(f"ipc://{folder / 'scene'}")
        self.ros, self.node = ros, ros.create_node("tester")
        self.processes, self.statuses, self.diagnostics, self.said = {}, [], [], []
        self.environment = {}
        self.node.create_subscription(String, "/tgrpo_arm/status", self._hear, LATCHED)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        self.node.create_subscription(String, "/tgrpo_session/say", lambda m: self.said.append(m.data), 10)
        self.command = self.node.create_publisher(Float64MultiArray, "/tgrpo_arm/command", 10)
        self.joy = self.node.create_publisher(Joy, "/joy", 10)

    def _hear(self, message):
        self.statuses.append(json.loads(message.data))

    def start(self, kind, name=None, **parameters):
        """Starts a node; returns its process, whose messages are in a file."""
        values = {"robot": str(self.config), "scene": self.scene.address, **parameters}
        if kind == "policy":
            values.setdefault("server", f"tcp://127.0.0.1:{self.port}")
            values.setdefault("instruction", "wave")
        words = [word for key, value in values.items() for word in ("-p", f"{key}:={value}")]
        renamed = ["-r", f"__node:={name}"] if name else []
        command = [sys.executable, "-m", f"tgrpo_ros.{kind}_node", "--ros-args", *renamed, *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}
        with self.log(name or kind).open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.processes[name or kind] = process
        return process

    def log(self, name):
        return self.folder / f"{name}.txt"

    def until(self, condition, why="waited in vain"):
        limit = time.monotonic() + PATIENCE
        while not (result := condition()):
            if time.monotonic() > limit:
                logs = {name: self.log(name).read_text()[-600:] for name in self.processes}
                raise AssertionError(f"{why}; {self.statuses[-1:]}; {logs}")
            self.ros.spin_once(self.node, timeout_sec=0.02)
        return result

    def status(self, **wanted):
        """Waits for a status."""
        fits = lambda: self.statuses and all(self.statuses[-1][key] == value for key, value in wanted.items())  # noqa: E731
        self.until(fits, f"no status {wanted}")
        return self.statuses[-1]

    def call(self, kind, name, request=None):
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"no service {name}")
        future = client.call_async(request or kind.Request())
        self.until(future.done, f"no answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def trigger(self, name):
        return self.call(Trigger, f"/tgrpo_arm/{name}")

    def enable(self, data):
        return self.call(SetBool, "/tgrpo_policy/enable", SetBool.Request(data=data))

    def transition(self, node, number):
        request = ChangeState.Request()
        request.transition.id = number
        return self.call(ChangeState, f"/{node}/change_state", request).success

    def state(self, node):
        return self.call(GetState, f"/{node}/get_state").current_state.label

    def armed(self):
        """Arm, camera and policy, running."""
        self.start("camera")
        self.start("arm")
        self.start("policy")
        self.until(lambda: self.statuses and "policy" in self.statuses[-1]["leases"], "no lease")
        self.until(lambda: self.trigger("arm").success, "not armed")
        self.status(level="RUN", source="policy")

    def close(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        self.scene.close()
        self.node.destroy_node()
