"""The client against real and against misbehaving servers: it answers or raises by its deadline, and comes back."""

import ast
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq

from tgrpo import wire
from tgrpo.client import MISSES, ServedChunk
from tgrpo.errors import BusyError, DeadlineError, HandshakeError, PolicyError, SpecError
from tgrpo.policies.simple import RandomPolicy
from tgrpo.serving.model import ServedModel
from tgrpo.spec import Embodiment, ObservationSpec, PolicySpec

ROOT = Path(__file__).resolve().parents[3]
GENEROUS = 20_000.0
OVERRUN = 0.5
"""How much later than its deadline a call may return on a machine that is busy [s]; blocking would be for ever."""


class Puppet:
    """A ROUTER that answers as a test says: ``reply(request) -> frames or None`` for each request."""

    def __init__(self, reply, port=None):
        self.seen = []
        self._reply = reply
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            while True:
                identity, *frames = self._socket.recv_multipart()
                request, _ = wire.decode_request(frames)
                self.seen.append(request)
                for message in self._reply(request) or ():
                    self._socket.send_multipart([identity, *message])
        except zmq.ContextTerminated:
            self._socket.close()

    def close(self):
        self._context.term()
        self._thread.join(5)


@pytest.fixture
def puppet():
    made = []

    def make(reply, **options):
        made.append(Puppet(reply, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def card(request, model):
    return wire.encode(
        wire.Card(
            session=request.session,
            seq=request.seq,
            model=model.name,
            version=model.version,
            spec=model.policy.spec,
            normalisation=model.normalisation,
            contract=model.contract,
            codecs=("raw",),
            max_batch=1,
            quota=1,
        )
    )


def chunk(request, value, **changes):
    actions = np.full((8, 7), value, np.float32)
    reply = wire.Chunk(
        session=request.session,
        seq=request.seq,
        version="v",
        queue_ms=0.0,
        infer_ms=0.0,
        batch=1,
        tensors=(wire.tensor("actions", actions),),
    )
    return wire.encode(msgspec.structs.replace(reply, **changes), [actions.tobytes()])


def timed(call):
    started = time.monotonic()
    with pytest.raises(DeadlineError):
        call()
    return time.monotonic() - started


def test_imports_only_what_a_robot_pc_has():
    """Follows the client's imports through this package."""
    allowed = {"tgrpo", "numpy", "msgspec", "zmq", "xxhash", "yaml", "rich", "tyro"} | sys.stdlib_module_names
    todo, seen = ["tgrpo.client"], set()
    while todo:
        name = todo.pop()
        path = ROOT / Path(*name.split(".")).with_suffix(".py")
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        for node in ast.parse(path.read_text()).body:
            found = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            assert {one.partition(".")[0] for one in found} <= allowed, name
            todo += found
    assert "tgrpo.wire" in seen
    code = "import sys, tgrpo.client; sys.exit(bool({'torch', 'rclpy', 'PIL', 'websockets'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_asks_and_gets_a_chunk(make_server, connect, show):
    client = connect(make_server().address)
    assert client.hello().model == "obedient"
    found = client.act(show(51), GENEROUS)
    assert isinstance(found, ServedChunk)
    assert found.actions[:, 0] == pytest.approx(51 / 255)
    assert found.version == "obedient@1"
    assert client.stats()["answered"] == 1


def test_jpeg_pictures(make_server, connect, show):
    pytest.importorskip("PIL")
    client = connect(make_server().address, codec="jpeg")
    assert client.act(show(100), GENEROUS).actions[0, 0] == pytest.approx(100 / 255, abs=0.02)


def test_seeds_count_up_and_repeat(make_server, connect, show):
    address = make_server().address
    first, second = connect(address, seed=5), connect(address, seed=5)
    runs = [[c.act(show(), GENEROUS, temperature=1.0).actions for _ in range(3)] for c in (first, second)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][0], runs[0][1])
    again = second.act(show(), GENEROUS, temperature=1.0, seed=6).actions
    assert np.array_equal(again, runs[0][1])


@pytest.mark.parametrize(
    ("instruction", "match"), [("nan", "not finite"), ("shape", "shape"), ("raise", "ZeroDivision")]
)
def test_a_failing_policy_is_named_without_its_secrets(make_server, connect, show, instruction, match):
    client = connect(make_server().address)
    with pytest.raises(PolicyError, match=match) as caught:
        client.act(show(0, instruction), GENEROUS)
    assert "secret" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert client.act(show(1), GENEROUS).actions[0, 0] > 0, "and the server lives"


def test_an_observation_of_another_shape_is_explained(make_server, connect, show):
    client = connect(make_server().address)
    shown = show()
    with pytest.raises(PolicyError, match=r"the policy needs image/agentview uint8 \(16, 16, 3\)"):
        client.act(type(shown)({"agentview": np.zeros((8, 8, 3), np.uint8)}, "", shown.proprio), GENEROUS)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"gripper": "open_positive"}, "gripper: policy 'close_positive', embodiment 'open_positive'"),
        ({"rotation": "euler_xyz"}, "rotation: policy 'axis_angle', embodiment 'euler_xyz'"),
        ({"rate": 10.0}, "rate: policy 20.0, embodiment 10.0"),
        ({"dims": 8}, "dims: policy 7, embodiment 8"),
        ({"cameras": ("wrist",)}, r"cameras: policy \['agentview'\], embodiment \['wrist'\]"),
        ({"size": 224}, "size: policy 16, embodiment 224"),
        ({"proprio": False}, "proprio: policy True, embodiment False"),
        ({"normalisation": "franka_stats"}, "normalisation: policy 'none', embodiment 'franka_stats'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_policy_that_means_something_else_is_refused_before_any_action(make_server, connect, show, change, match):
    server = make_server()
    fits = Embodiment(observation=ObservationSpec(cameras=("wrist", "agentview"), size=16, proprio=True))
    assert connect(server.address, embodiment=fits).hello()
    robot = fits
    for name, value in change.items():
        if name in fits.action.__struct_fields__:
            robot = msgspec.structs.replace(fits, action=msgspec.structs.replace(fits.action, **{name: value}))
        elif name == "normalisation":
            robot = msgspec.structs.replace(fits, normalisation=value)
        else:
            seen = msgspec.structs.replace(fits.observation, **{name: value})
            robot = msgspec.structs.replace(fits, observation=seen)
    client = connect(server.address, embodiment=robot)
    for call in (client.hello, lambda: client.act(show(), GENEROUS)):
        with pytest.raises(SpecError, match=match):
            call()


def test_another_policy_on_the_same_port_is_compared_anew(make_core, make_server, make_model, connect, show, free_port):
    port = free_port()
    first = make_server(make_core(), port=port)
    robot = Embodiment(observation=make_model().policy.spec.observation)
    client = connect(first.address, embodiment=robot)
    client.act(show(), GENEROUS)
    first.close()
    action = msgspec.structs.replace(robot.action, gripper="open_positive")
    other = make_model(spec=msgspec.structs.replace(make_model().policy.spec, action=action))
    make_server(make_core(other), port=port)
    with pytest.raises(SpecError, match="gripper"):
        client.act(show(), GENEROUS)


def test_nobody_there(connect, show, free_port):
    client = connect(f"tcp://127.0.0.1:{free_port()}")
    assert 0.2 <= timed(lambda: client.act(show(), 200)) < 0.2 + OVERRUN
    assert timed(lambda: client.hello(100)) < 0.1 + OVERRUN


def test_a_server_that_says_nothing(puppet, connect, show, make_model):
    server = puppet(lambda request: [card(request, make_model())] if isinstance(request, wire.Hello) else None)
    client = connect(server.address)
    client.hello(GENEROUS)
    assert 0.2 <= timed(lambda: client.act(show(), 200)) < 0.2 + OVERRUN


def test_a_server_that_babbles_does_not_stretch_the_deadline(puppet, connect, show, make_model):
    def reply(request):
        if isinstance(request, wire.Hello):
            return [card(request, make_model())]
        return (
            msg
            for _ in range(200)
            for msg in [chunk(request, 1.0, seq=request.seq + 1), [b"junk"]]
            if not time.sleep(0.005)
        )

    client = connect(puppet(reply).address)
    client.hello(GENEROUS)
    assert timed(lambda: client.act(show(), 300)) < 0.3 + OVERRUN


def test_late_replies_are_dropped(puppet, connect, show, make_model):
    """The answer to the first request comes with the second one's; only the second's is used."""
    held = []

    def reply(request):
        if isinstance(request, wire.Hello):
            return [card(request, make_model())]
        if not held:
            held.append(chunk(request, -1.0))
            return None
        other = chunk(request, -2.0, session="someone else")
        return [held[0], other, chunk(request, -3.0, seq=request.seq + 1), chunk(request, 0.5)]

    client = connect(puppet(reply).address)
    client.hello(GENEROUS)
    timed(lambda: client.act(show(), 200))
    assert (client.act(show(), GENEROUS).actions == 0.5).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_actions_that_are_not_finite_never_reach_the_robot(puppet, connect, show, make_model, value):
    server = puppet(lambda r: [card(r, make_model())] if isinstance(r, wire.Hello) else [chunk(r, value)])
    with pytest.raises(ValueError, match="not finite"):
        connect(server.address).act(show(), GENEROUS)


def test_a_damaged_reply_never_reaches_the_robot(puppet, connect, show, make_model):
    def reply(request):
        if isinstance(request, wire.Hello):
            return [card(request, make_model())]
        head, actions = chunk(request, 0.5)
        return [[head, actions[:40] + bytes([actions[40] ^ 1]) + actions[41:]]]

    timed(lambda: connect(puppet(reply).address).act(show(), 300))


def test_a_card_that_contradicts_itself_is_refused(puppet, connect, make_model):
    model = ServedModel(RandomPolicy(PolicySpec(chunk=4)), "liar", "liar@1")
    lie = msgspec.structs.replace(make_model().policy.spec, chunk=8)

    def reply(request):
        honest, _ = wire.decode_reply(card(request, model))
        return [wire.encode(msgspec.structs.replace(honest, spec=lie))]

    with pytest.raises(SpecError, match="contradicts"):
        connect(puppet(reply).address).hello(GENEROUS)


def test_after_some_misses_a_new_session_begins(puppet, connect, show, make_model):
    silent = True

    def reply(request):
        if isinstance(request, wire.Hello):
            return [card(request, make_model())]
        return None if silent else [chunk(request, 0.25)]

    server = puppet(reply)
    client = connect(server.address)
    for _ in range(MISSES):
        timed(lambda: client.act(show(), 100))
    silent = False
    assert (client.act(show(), GENEROUS).actions == 0.25).all()
    sessions = list(dict.fromkeys(request.session for request in server.seen))
    assert len(sessions) == 2
    numbers = [request.seq for request in server.seen]
    assert numbers == sorted(set(numbers))


def test_a_server_that_comes_back(make_core, make_server, connect, show, free_port):
    port = free_port()
    core = make_core()
    server = make_server(core, port=port)
    client = connect(server.address)
    client.act(show(), GENEROUS)
    server.close()
    for _ in range(MISSES + 1):
        timed(lambda: client.act(show(), 100))
    make_server(core, port=port)
    assert client.act(show(), GENEROUS).actions.shape == (8, 7)


def test_busy_is_its_own_error(make_server, make_core, connect, show, until):
    core = make_core(quota=1, capacity=1)
    server = make_server(core)
    others = [
        threading.Thread(target=connect(server.address).act, args=(show(0, "sleep 0.5"), GENEROUS)) for _ in range(2)
    ]
    others[0].start()
    assert until(lambda: core.busy_ms > 0)
    others[1].start()
    assert until(lambda: core.waiting == 1)
    with pytest.raises(BusyError, match="waiting"):
        connect(server.address).act(show(), GENEROUS)
    for other in others:
        other.join(20)


def test_not_a_policy_server(connect, show, free_port):
    import http.server

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        client = connect(f"tcp://127.0.0.1:{other.server_address[1]}")
        with pytest.raises((HandshakeError, DeadlineError), match=r"policy server|tgrpo serve"):
            client.act(show(), 3000)
        other.shutdown()


def test_closing_twice_and_going_on(make_server, connect, show):
    client = connect(make_server().address)
    client.close()
    client.act(show(), GENEROUS)
    client.close()
    client.close()
    assert client.act(show(), GENEROUS).actions.shape == (8, 7)
