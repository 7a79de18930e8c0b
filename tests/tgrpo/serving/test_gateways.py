"""The gateways: what they refuse, and that the clients of openpi and OpenVLA themselves work with them."""

import base64
import contextlib
import http.client
import json
import re
import subprocess
import threading
import time
import venv

import msgspec
import numpy as np
import pytest

from tgrpo.errors import SettingsError, WireError
from tgrpo.serving import gateway
from tgrpo.serving.http import CONNECTIONS, Http, Response
from tgrpo.serving.openvla import OpenVlaGateway
from tgrpo.spec import ObservationSpec, PolicySpec

websockets = pytest.importorskip("websockets.sync.client")
openpi = pytest.importorskip("tgrpo.serving.openpi")

# openpi-client imports typing_extensions without asking for it.
PEERS = ("openpi-client==0.1.2", "typing-extensions", "json-numpy==2.1.1", "requests")
TWO_CAMERAS = PolicySpec(observation=ObservationSpec(cameras=("agentview", "wrist"), size=16, proprio=True))


@pytest.fixture
def two(make_core, make_model):
    return make_core(make_model(spec=TWO_CAMERAS))


@pytest.fixture
def rest(two):
    """``ask(body, **headers) -> status, JSON`` at the gateway for clients of OpenVLA."""
    server = Http({"POST /act": OpenVlaGateway(two, 20_000.0).act})
    port = server.server_address[1]

    def ask(body, method="POST", path="/act", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json", **headers})
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        return reply.status, json.loads(text)

    ask.port = port
    yield ask
    server.close()


@pytest.fixture
def pi(two):
    """Address of the gateway for clients of openpi."""
    server = openpi.OpenPiGateway(two, 20_000.0)
    yield server.address
    server.close()


def numpy_json(array):
    data = base64.b64encode(array.tobytes()).decode()
    return {"__numpy__": data, "dtype": array.dtype.str, "shape": list(array.shape)}


def picture(value=0, size=16):
    return np.full((size, size, 3), value, np.uint8)


def question(**changes):
    state = np.zeros(8, np.float64)
    full = {"full_image": picture(51), "wrist_image": picture(), "state": state}
    return {"instruction": "go", **{name: numpy_json(array) for name, array in full.items()}, **changes}


def array_of(found):
    return np.frombuffer(base64.b64decode(found["__numpy__"]), found["dtype"]).reshape(found["shape"])


def test_rest_answers_like_openvla_oft(rest):
    status, actions = rest(question())
    assert status == 200
    assert np.stack([array_of(one) for one in actions]).shape == (8, 7)
    assert array_of(actions[0])[0] == pytest.approx(0.2)


def test_rest_answers_like_openvla(rest):
    changed = question(unnorm_key=None)
    changed["image"] = changed.pop("full_image")
    status, action = rest(changed)
    assert status == 200
    assert array_of(action).shape == (7,)
    status, text = rest({"encoded": json.dumps(changed)})
    assert status == 200
    assert array_of(json.loads(text)).shape == (7,)


OBJECT = {"__numpy__": base64.b64encode(b"x" * 8).decode(), "dtype": "|O", "shape": [1]}


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"", "truncated"),
        (b"[" * 100_000, "Expected"),
        (b'{"instruction": "\xff"}', ""),
        ({"instruction": "go"}, "full_image"),
        (question(extra=1), "unknown field"),
        (question(image=numpy_json(picture())), "either image"),
        (question(unnorm_key="bridge_orig"), "bridge_orig.*'none'"),
        (question(state=OBJECT), r"\|O"),
        (question(state={**OBJECT, "dtype": [["a", "<f8"]]}), "Expected `str`"),
        (question(full_image={**numpy_json(picture()), "shape": [16, 16, 4]}), "768 bytes"),
        (question(full_image={**numpy_json(picture()), "shape": [2**40, 2**40, 3]}), "not taken"),
        (question(full_image={**numpy_json(picture()), "shape": [-16, -16, 3]}), "not taken"),
        (question(full_image={**numpy_json(picture()), "__numpy__": "***"}), "base64"),
        (question(full_image=numpy_json(picture(size=8))), "the policy needs"),
        (question(wrist_image=None), "1 pictures"),
        (question(state=numpy_json(np.full(8, np.nan))), "not finite"),
        ({"encoded": "[" * 10_000}, "Expected"),
        ({"encoded": 3}, "Expected"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_rest_refuses(rest, two, body, match):
    status, found = rest(body)
    assert status == 400
    assert found["error"] == "invalid"
    assert re.search(match, found["message"])
    assert "Traceback" not in found["message"]
    assert two.model.policy.batches == []
    assert rest(question())[0] == 200


@pytest.mark.parametrize(
    ("instruction", "status", "code"), [("nan", 500, "policy"), ("raise", 500, "policy"), ("shape", 500, "policy")]
)
def test_rest_names_what_failed(rest, instruction, status, code):
    found, answer = rest(question(instruction=instruction))
    assert (found, answer["error"]) == (status, code)
    assert "secret" not in answer["message"]


def test_rest_is_not_for_web_pages_nor_for_everything(rest):
    assert rest(question(), **{"Content-Type": "text/plain"})[0] == 415
    assert rest(question(), Host="attacker.example")[0] == 403
    assert rest(question(), Host="localhost:1")[0] == 200
    assert rest(b"", path="/kill")[0] == 404
    assert rest(b"", method="GET")[0] == 404
    assert rest(b"", **{"Content-Length": "99999999"})[0] == 413
    assert rest(b"", **{"Content-Length": "-1"})[0] == 413


def test_http_survives_a_failing_route_and_silent_connections():
    server = Http({"GET /": lambda _: 1 / 0, "GET /fine": lambda _: Response(b"1")})
    port = server.server_address[1]
    silent = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(CONNECTIONS - 2)]
    for one in silent:
        one.connect()
    for path, status in (("/", 500), ("/fine", 200)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", path)
        reply = connection.getresponse()
        assert reply.status == status
        assert b"ZeroDivision" not in reply.read()
        connection.close()
    for one in silent:
        one.close()
    server.close()


def test_gateways_are_for_this_machine_only(two, rest):
    for host in ("0.0.0.0", "10.1.2.3"):
        with pytest.raises(SettingsError, match="without keys"):
            Http({}, host=host)
        with pytest.raises(SettingsError, match="without keys"):
            openpi.OpenPiGateway(two, 1.0, host=host)
    with pytest.raises(SettingsError, match="in use by process"):
        Http({}, port=rest.port)
    with pytest.raises(SettingsError, match="--openpi-port"):
        openpi.OpenPiGateway(two, 1.0, port=rest.port)


def pi_array(array):
    return {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": list(array.shape)}


def pi_observation(**changes):
    shown = {
        "observation/image": pi_array(picture(51)),
        "observation/wrist_image": pi_array(picture()),
        "observation/state": pi_array(np.zeros(8)),
        "prompt": "go",
    }
    shown.update({f"observation/{name}" if name != "prompt" else name: value for name, value in changes.items()})
    return msgspec.msgpack.encode({name: value for name, value in shown.items() if value is not None})


def test_pi_says_what_it_serves_and_answers(pi):
    with websockets.connect(pi, compression=None) as connection:
        about = msgspec.msgpack.decode(connection.recv(20))
        assert about["version"] == "obedient@1"
        assert about["spec"]["chunk"] == 8
        connection.send(pi_observation())
        reply = msgspec.msgpack.decode(connection.recv(20))
        actions = np.frombuffer(reply["actions"][b"data"], "<f4").reshape(reply["actions"][b"shape"])
        assert actions.shape == (8, 7)
        assert actions[0, 0] == pytest.approx(0.2)
        assert reply["server_timing"]["infer_ms"] > 0
        names = {"image": None, "wrist_image": None, "agentview": pi_array(picture(255)), "wrist": pi_array(picture())}
        connection.send(pi_observation(**names))
        assert msgspec.msgpack.decode(connection.recv(20))["version"] == "obedient@1"


ATTACKS = [
    "text",
    b"",
    b"\xc1",
    b"\xdf\xff\xff\xff\xff",
    b"\x81\xa6prompt\xdd\xff\xff\xff\xff",
    b"\x91" * 1000,
    b"\xdd\x00\x10\x00\x00" + b"\x80" * 2**20,
    pi_observation()[:500],
    pi_observation() + b"\x00",
    pi_observation(state=3),
    pi_observation(state="zero"),
    pi_observation(prompt=pi_array(np.zeros(3))),
    pi_observation(image=None),
    pi_observation(other=pi_array(picture())),
    pi_observation(agentview=pi_array(picture())),
    pi_observation(image={**pi_array(picture()), b"dtype": "|O"}),
    pi_observation(image={**pi_array(picture()), b"shape": [2**40, 2, 2]}),
    pi_observation(image={**pi_array(picture()), b"extra": 1}),
    pi_observation(image={b"__npgeneric__": True, b"data": 1.0, b"dtype": "<f8"}),
    pi_observation(image=pi_array(picture(size=8))),
    pi_observation(state=pi_array(np.full(8, np.inf))),
]


def test_pi_refuses_with_a_text_and_goes_on(pi, two):
    with websockets.connect(pi, compression=None) as connection:
        connection.recv(20)
        for attack in ATTACKS:
            connection.send(attack)
            reply = connection.recv(20)
            assert isinstance(reply, str), attack
            assert reply.startswith("invalid: ")
        assert two.model.policy.batches == []
        connection.send(pi_observation(prompt="raise"))
        assert connection.recv(20).startswith("policy: ")
        connection.send(pi_observation())
        assert isinstance(connection.recv(20), bytes)


def test_pi_limits_size_connections_and_web_pages(pi, monkeypatch):
    from websockets.exceptions import ConnectionClosed, InvalidStatus

    with websockets.connect(pi, compression=None) as connection:
        connection.recv(20)
        with contextlib.suppress(ConnectionClosed):
            connection.send(bytes(17 * 2**20))
        with pytest.raises(ConnectionClosed):
            connection.recv(20)
    with pytest.raises(InvalidStatus), websockets.connect(pi, origin="https://attacker.example"):
        pass
    port = int(pi.rpartition(":")[2])
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    asked.request("GET", "/healthz")
    assert asked.getresponse().status == 200
    asked.close()


def test_a_second_client_is_served_while_the_first_one_waits(pi):
    """What openpi's own server does not do: it computes in the loop that reads."""
    done = []

    def slow():
        with websockets.connect(pi, compression=None) as connection:
            connection.recv(20)
            connection.send(pi_observation(prompt="sleep 1.0"))
            connection.recv(20)
            done.append("slow")

    thread = threading.Thread(target=slow)
    thread.start()
    time.sleep(0.3)
    with websockets.connect(pi, compression=None) as connection:
        assert connection.recv(20)
        done.append("second was greeted")
    thread.join(20)
    assert done == ["second was greeted", "slow"]


def test_a_deadline_holds_for_clients_that_have_none(two, show):
    shown = type(show())({"agentview": picture(), "wrist": picture()}, "sleep 0.5", np.zeros(8, np.float32))
    assert gateway.ask(two, "a", shown, 20_000.0).version == "obedient@1"
    blocker = threading.Thread(target=gateway.ask, args=(two, "a", shown, 20_000.0))
    blocker.start()
    time.sleep(0.1)
    assert gateway.ask(two, "b", shown, 50.0).code == "expired"
    blocker.join(20)


def test_arrays_are_strict():
    with pytest.raises(WireError, match=r"\|u1, <f4, <f8"):
        gateway.array(b"", "V8", [1])
    with pytest.raises(WireError, match="shape"):
        gateway.array(b"", "|u1", [0])
    with pytest.raises(WireError, match="shape"):
        gateway.array(b"1", "|u1", [])


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    """A Python with the peers' own clients, which need an older numpy than ours."""
    folder = tmp_path_factory.mktemp("peers")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:"]
    done = subprocess.run([*command, *PEERS], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the clients of openpi and OpenVLA cannot be installed here: {done.stderr[-300:]}")
    return python


OPENPI_CLIENT = """
import sys, numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy
client = WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]))
assert client.get_server_metadata()["version"] == "obedient@1"
shown = {
    "observation/image": np.full((16, 16, 3), 51, np.uint8), "observation/wrist_image": np.zeros((16, 16, 3), np.uint8),
    "observation/state": np.zeros(8), "prompt": "go",
}
for _ in range(3):
    actions = client.infer(shown)["actions"]
    assert actions.shape == (8, 7) and abs(actions[0, 0] - 0.2) < 1e-6, actions
try:
    client.infer({**shown, "prompt": "raise"})
except RuntimeError as error:
    assert "policy failed with ZeroDivisionError" in str(error) and "secret" not in str(error), error
else:
    raise SystemExit("no error")
print("fine")
"""
OPENVLA_CLIENT = """
import sys, numpy as np, requests, json_numpy
json_numpy.patch()
import json
url = "http://127.0.0.1:%s/act" % sys.argv[1]
rest = {"wrist_image": np.zeros((16, 16, 3), np.uint8), "state": np.zeros(8), "instruction": "go"}
picture = np.full((16, 16, 3), 51, np.uint8)
action = requests.post(url, json={"image": picture, **rest}).json()
assert action.shape == (7,) and abs(action[0] - 0.2) < 1e-6, action
chunk = np.stack(requests.post(url, json={"full_image": picture, **rest}).json())
assert chunk.shape == (8, 7), chunk
double = requests.post(url, json={"encoded": json.dumps({"image": picture, **rest})}).json()
assert json.loads(double).shape == (7,), double
failed = requests.post(url, json={"image": picture, **rest, "instruction": "raise"})
assert failed.status_code == 500 and "secret" not in failed.text, failed.text
print("fine")
"""


@pytest.mark.slow
def test_openpis_own_client(peers, pi):
    run = [str(peers), "-c", OPENPI_CLIENT, pi.rpartition(":")[2]]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "fine", done.stderr


@pytest.mark.slow
def test_openvlas_own_way_to_ask(peers, rest):
    run = [str(peers), "-c", OPENVLA_CLIENT, str(rest.port)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "fine", done.stderr
