"""The data socket among clients that flood it, do not read, or send what is no message at all."""

import os
import threading
import time

import msgspec
import numpy as np
import pytest
import zmq

from benchmarks.hostile import attackers
from benchmarks.mutations import mutated
from tgrpo import payload, wire
from tgrpo.errors import PolicyError, SettingsError
from tgrpo.serving.server import Server

GENEROUS = 20_000.0


def hello(session="s", seq=1, clock=None):
    return wire.Hello(session=session, seq=seq, clock_ms=time.monotonic() * 1000 if clock is None else clock)


def act(model, shown, session="s", seq=1, deadline_ms=GENEROUS, clock=None, **changes):
    tensors, buffers = payload.pack_observation(shown)
    message = wire.Act(
        session=session,
        seq=seq,
        clock_ms=time.monotonic() * 1000 if clock is None else clock,
        contract=model.contract,
        deadline_ms=deadline_ms,
        instruction=shown.instruction,
        seed=0,
        temperature=0.0,
        tensors=tensors,
    )
    return wire.encode(msgspec.structs.replace(message, **changes), buffers)


@pytest.fixture
def dealer():
    """A socket without any of the client's manners."""
    context = zmq.Context()

    def make(address, **options):
        made = context.socket(zmq.DEALER)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.RCVTIMEO, 20_000)
        for name, value in options.items():
            made.setsockopt(getattr(zmq, name), value)
        made.connect(address)
        return made

    yield make
    context.destroy(linger=0)


def answers(made, count):
    return [wire.decode_reply(made.recv_multipart())[0] for _ in range(count)]


def test_a_ping_is_answered_while_the_model_is_busy(make_core, make_server, connect, show, until):
    core = make_core()
    server = make_server(core)
    slow = threading.Thread(target=connect(server.address).act, args=(show(0, "sleep 1.5"), GENEROUS))
    slow.start()
    assert until(lambda: core.busy_ms > 0)
    client = connect(server.address)
    pong = client.ping(1400)
    assert pong.busy_ms > 0
    assert client.hello(1400).version == pong.version
    assert client.stats(1400)["requests"] == 1
    assert core.busy_ms > 0, "all of that while the model was busy"
    slow.join(20)
    assert client.ping().busy_ms == 0


def test_quota_of_one_connection(make_core, make_server, dealer, show):
    core = make_core(quota=2)
    made = dealer(make_server(core).address)
    for seq in range(10):
        made.send_multipart(act(core.model, show(0, "sleep 0.3"), seq=seq, session=f"session {seq}"))
    replies = answers(made, 10)
    busy = [reply for reply in replies if isinstance(reply, wire.Refusal)]
    assert len(busy) == 8, "another session on the same connection is no way around it"
    assert {reply.code for reply in busy} == {"busy"}


def test_a_request_that_lay_in_a_buffer_is_not_computed(make_core, make_server, dealer, show):
    """As after SIGSTOP: it arrives now, but was sent two seconds ago by its sender's own clock."""
    core = make_core()
    made = dealer(make_server(core).address)
    made.send_multipart(wire.encode(hello(clock=5_000_000.0)))
    answers(made, 1)
    made.send_multipart(act(core.model, show(0, "stale"), seq=2, deadline_ms=500, clock=5_000_000.0 - 2000))
    made.send_multipart(act(core.model, show(0, "fresh"), seq=3, clock=5_000_000.0 + 1))
    first, second = answers(made, 2)
    assert first.seq == 3 or first.code == "expired"
    assert {type(first), type(second)} == {wire.Refusal, wire.Chunk}
    assert core.model.policy.batches == [["fresh"]]


def test_another_contract_is_refused(make_core, make_server, dealer, show):
    core = make_core()
    made = dealer(make_server(core).address)
    made.send_multipart(act(core.model, show(), contract="something else"))
    [reply] = answers(made, 1)
    assert reply.code == "contract"
    assert core.model.policy.batches == []


def test_there_is_nothing_to_command_on_the_data_socket(make_core, make_server, dealer, connect, until):
    """Only questions are read; a swap or an end of the server are not among the messages."""
    server = make_server()
    made = dealer(server.address)
    made.send_multipart([wire.encode(hello())[0][:12] + msgspec.msgpack.encode({"type": "swap", "folder": "/tmp"})])
    made.send_multipart(wire.encode(wire.Refusal(session="s", seq=1, code="stopping", message="")))
    client = connect(server.address)
    assert client.ping(GENEROUS)
    assert until(lambda: client.stats()["damaged"] == 2)


def test_oversized_frames_drop_their_sender_and_nobody_else(make_server, connect, dealer, show):
    server = make_server()
    client = connect(server.address)
    client.act(show(), GENEROUS)
    made = dealer(server.address)
    for _ in range(3):
        made.send(bytes(wire.MAX_BYTES + 1))
    made.send_multipart([wire.encode(hello())[0], *[bytes(2**20)] * 30])
    assert client.act(show(), GENEROUS).actions.shape == (8, 7)


def test_damaged_messages_never_reach_the_policy(make_core, make_server, dealer, connect, show, until):
    core = make_core()
    server = make_server(core)
    made = dealer(server.address, SNDHWM=100_000, RCVHWM=100_000)
    count = 0
    for frames in mutated(3000, seed=2):
        if frames:
            made.send_multipart(frames)
            count += 1
    assert connect(server.address).act(show(), GENEROUS).actions.shape == (8, 7)
    assert until(lambda: core.counters.values()["damaged"] > count / 2, 30)
    assert core.model.policy.batches == [["go"]]


def test_honest_clients_among_hostile_ones(make_core, make_server, connect, show):
    core = make_core()
    server = make_server(core)
    clients = [connect(server.address) for _ in range(4)]
    stop = threading.Event()
    port = int(server.address.rpartition(":")[2])
    threads = [threading.Thread(target=one) for one in attackers(port, act(core.model, show()), 500, stop)]
    for thread in threads:
        thread.start()
    wrong = []

    def work(place):
        for step in range(20):
            value = 10 * place + step
            found = clients[place].act(show(value), GENEROUS).actions
            if found[0, 0] != np.float32(value / 255):
                wrong.append((place, step))
            time.sleep(0.02)

    workers = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    until = time.monotonic() + 30.0
    while not core.counters.values().get("busy") and time.monotonic() < until:
        time.sleep(0.05)  # on a busy machine the flood begins late
    stop.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    counted = core.counters.values()
    assert counted["answered"] >= 80
    assert counted["damaged"] > 0
    assert counted["busy"] > 0


def test_a_client_that_does_not_read_costs_nothing(make_server, dealer, connect, show):
    server = make_server()
    made = dealer(server.address, RCVHWM=1, RCVBUF=4096, SNDHWM=100_000)
    for seq in range(30_000):
        made.send_multipart(wire.encode(hello(seq=seq)))
    client = connect(server.address)
    assert client.act(show(), GENEROUS).actions.shape == (8, 7)


def test_the_owner_of_a_taken_port_is_named(make_core, make_server):
    server = make_server()
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(SettingsError, match=rf"127.0.0.1:{port}: in use by process {os.getpid()} .*--port"):
        Server(make_core(), port=port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "10.0.0.1"])
def test_beyond_this_machine_only_with_keys(make_core, host):
    with pytest.raises(SettingsError, match=r"without keys.*tgrpo keys"):
        Server(make_core(), host=host)


@pytest.mark.parametrize("host", ["*", "localhost", "eth0", ""])
def test_a_host_is_an_address(make_core, host):
    with pytest.raises(SettingsError, match="is no address"):
        Server(make_core(), host=host)


def test_what_waits_is_refused_when_the_server_stops(make_core, make_server, connect, show, until):
    core = make_core()
    server = make_server(core)
    found = []

    def ask():
        try:
            connect(server.address).act(show(0, "sleep 0.3"), GENEROUS)
        except PolicyError as error:
            found.append(str(error))

    clients = [threading.Thread(target=ask) for _ in range(3)]
    clients[0].start()
    assert until(lambda: core.busy_ms > 0)
    for client in clients[1:]:
        client.start()
    assert until(lambda: core.waiting == 2)
    core.close()
    time.sleep(0.1)
    server.close()
    for client in clients:
        client.join(20)
    assert len(found) == 2
    assert all("being stopped" in text for text in found)
