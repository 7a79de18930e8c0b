"""A policy that does what its instruction says, and servers around it on the loopback interface."""

import socket
import time

import numpy as np
import pytest

from tgrpo.client import PolicyClient
from tgrpo.serving.core import Core
from tgrpo.serving.model import ServedModel
from tgrpo.serving.server import Server
from tgrpo.spec import ObservationSpec, PolicySpec
from tgrpo.types import ActionChunk, Observation

SIZE = 16
SPEC = PolicySpec(observation=ObservationSpec(cameras=("agentview",), size=SIZE, proprio=True))


class Obedient:
    """Answers with the first pixel of the picture; an instruction makes it fail or take its time."""

    def __init__(self, spec=SPEC, value=None):
        self.spec = spec
        self.value = value
        self.batches = []
        self.largest = 1000

    def reset(self, seeds):
        self.streams = [np.random.default_rng(seed) for seed in seeds]

    def act(self, observations, *, temperature=0.0, rows=None):
        self.batches.append([one.instruction for one in observations])
        if len(observations) > self.largest:
            raise MemoryError(f"{len(observations)} do not fit")
        time.sleep(max(float([*one.instruction.split("sleep "), "0"][1]) for one in observations))
        if any("raise" in one.instruction for one in observations):
            raise ZeroDivisionError("secret of the server")
        return [self._one(row, one, temperature) for row, one in enumerate(observations)]

    def _one(self, row, observation, temperature):
        actions = np.zeros((self.spec.chunk, self.spec.action.dims), np.float32)
        actions[:, 0] = float(observation.images["agentview"][0, 0, 0]) / 255 if self.value is None else self.value
        if temperature:
            actions[:, 1:] = self.streams[row].random((self.spec.chunk, self.spec.action.dims - 1))
        if "nan" in observation.instruction:
            actions[3, 3] = np.nan
        return ActionChunk(actions[:2] if "shape" in observation.instruction else actions)


def look(value=0, instruction="go"):
    return Observation({"agentview": np.full((SIZE, SIZE, 3), value, np.uint8)}, instruction, np.zeros(8, np.float32))


@pytest.fixture
def show():
    return look


@pytest.fixture
def make_model():
    def make(version="obedient@1", **options):
        return ServedModel(Obedient(**options), "obedient", version)

    return make


@pytest.fixture
def make_core(make_model):
    cores = []

    def make(model=None, *, max_batch=32, window=0.002, quota=2, capacity=1024):
        core = Core(model or make_model(), max_batch=max_batch, window=window, quota=quota, capacity=capacity)
        cores.append(core)
        return core

    yield make
    for core in cores:
        core.close()


@pytest.fixture
def make_server(make_core):
    servers = []

    def make(core=None, **options):
        server = Server(core or make_core(), **options)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def connect():
    clients = []

    def make(address, *args, **options):
        client = PolicyClient(address, *args, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def free_port():
    def find():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture
def until():
    def wait(condition, seconds=10.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.01)
        return False

    return wait
