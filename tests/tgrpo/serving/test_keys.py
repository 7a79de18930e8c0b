"""Who gets in: key files, the folder of clients, and handshakes that fail."""

import os
import stat
import time

import pytest
import zmq

from tgrpo import cli, keys
from tgrpo.errors import DeadlineError, HandshakeError, SettingsError
from tgrpo.keys import ClientKeys
from tgrpo.serving import zap
from tgrpo.serving.server import Server, ServerKeys

GENEROUS = 20_000.0


@pytest.fixture
def ring(tmp_path):
    """Keys of a server that knows robot1 but not robot2."""
    keys.make("server", tmp_path)
    keys.make("robot1", tmp_path)
    keys.make("robot2", tmp_path)
    clients = tmp_path / "clients"
    clients.mkdir(mode=0o700)
    (clients / "robot1.pub").write_bytes((tmp_path / "robot1.pub").read_bytes())
    return tmp_path


def server_keys(ring):
    return ServerKeys(ring / "server.key", ring / "clients")


def client_keys(ring, name="robot1"):
    return ClientKeys(secret=ring / f"{name}.key", server=ring / "server.pub")


def test_a_known_client_gets_in_also_on_other_interfaces(make_server, connect, show, ring):
    server = make_server(host="0.0.0.0", keys=server_keys(ring))
    port = server.address.rpartition(":")[2]
    client = connect(f"tcp://127.0.0.1:{port}", client_keys(ring))
    assert client.act(show(51), GENEROUS).actions[0, 0] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("unknown", "does not know this client's key"),
        ("wrong server", "server's public key is not the one"),
        ("none", "the server wants keys"),
    ],
)
def test_a_failed_handshake_has_a_name_within_two_seconds(make_server, make_core, connect, show, ring, name, match):
    core = make_core()
    server = make_server(core, keys=server_keys(ring))
    good = connect(server.address, client_keys(ring))
    good.act(show(), GENEROUS)
    wrong = {
        "unknown": client_keys(ring, "robot2"),
        "wrong server": ClientKeys(secret=ring / "robot1.key", server=ring / "robot2.pub"),
        "none": None,
    }[name]
    client = connect(server.address, wrong)
    for call in (client.hello, lambda: client.act(show(), 2000)):
        started = time.monotonic()
        with pytest.raises(HandshakeError, match=match):
            call()
        assert time.monotonic() - started < 2.5
    assert good.act(show(), GENEROUS).actions.shape == (8, 7)
    assert len(core.model.policy.batches) == 2, "only the good one's requests were computed"


def test_keys_against_a_server_without(make_server, connect, show, ring):
    client = connect(make_server().address, client_keys(ring))
    with pytest.raises(HandshakeError, match="the server has no keys"):
        client.act(show(), 2000)


def test_a_client_that_is_added_later_gets_in(make_server, connect, show, ring, monkeypatch):
    monkeypatch.setattr(zap, "RELOAD_S", 0.05)
    server = make_server(keys=server_keys(ring))
    client = connect(server.address, client_keys(ring, "robot2"))
    with pytest.raises(HandshakeError):
        client.hello(GENEROUS)
    (ring / "clients" / "robot2.pub").write_bytes((ring / "robot2.pub").read_bytes())
    time.sleep(0.1)
    assert client.act(show(), GENEROUS).actions.shape == (8, 7)


def test_a_revoked_client_is_out_even_if_it_is_connected(make_server, make_core, connect, show, ring, monkeypatch):
    monkeypatch.setattr(zap, "RELOAD_S", 0.05)
    core = make_core()
    server = make_server(core, keys=server_keys(ring))
    client = connect(server.address, client_keys(ring))
    client.act(show(), GENEROUS)
    (ring / "clients" / "robot1.pub").unlink()
    time.sleep(0.1)
    with pytest.raises(HandshakeError, match="no longer allowed"):
        client.act(show(), GENEROUS)
    client.close()
    with pytest.raises(HandshakeError, match="does not know this client's key"):
        client.act(show(), GENEROUS)
    assert len(core.model.policy.batches) == 1


def test_a_folder_that_became_unsafe_admits_nobody(make_server, connect, show, ring, monkeypatch):
    monkeypatch.setattr(zap, "RELOAD_S", 0.05)
    server = make_server(keys=server_keys(ring))
    (ring / "clients").chmod(0o777)
    time.sleep(0.1)
    with pytest.raises(HandshakeError):
        connect(server.address, client_keys(ring)).act(show(), GENEROUS)


def test_replies_and_requests_are_not_readable_on_the_line(make_server, ring, show, connect):
    """A relay in the middle sees neither the picture nor the instruction."""
    import socket
    import threading

    server = make_server(keys=server_keys(ring))
    port = int(server.address.rpartition(":")[2])
    seen = bytearray()
    relay = socket.create_server(("127.0.0.1", 0))

    def pump(source, target):
        try:
            while data := source.recv(65536):
                seen.extend(data)
                target.sendall(data)
        except OSError:
            pass

    def accept():
        near, _ = relay.accept()
        far = socket.create_connection(("127.0.0.1", port))
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    client = connect(f"tcp://127.0.0.1:{relay.getsockname()[1]}", client_keys(ring))
    client.act(show(170, "a secret instruction"), GENEROUS)
    relay.close()
    assert len(seen) > 1000
    assert b"secret instruction" not in seen
    assert bytes([170]) * 20 not in seen


def test_the_secret_file_is_for_its_owner_alone(tmp_path):
    previous = os.umask(0)
    try:
        secret, public = keys.make("robot", tmp_path / "new")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    assert zmq.curve_public(keys.secret_key(secret)) == keys.public_key(public)
    with pytest.raises(SettingsError, match="exists"):
        keys.make("robot", tmp_path / "new")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o700 | 0o001])
def test_loose_secret_files_are_refused_on_both_sides(make_core, connect, show, ring, mode):
    (ring / "server.key").chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        Server(make_core(), keys=server_keys(ring))
    (ring / "robot1.key").chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        connect("tcp://127.0.0.1:9", client_keys(ring)).act(show(), 100)


@pytest.mark.parametrize("where", ["clients", "clients/robot1.pub"])
def test_a_folder_of_clients_that_others_can_change_is_refused(make_core, ring, where):
    (ring / where).chmod(0o777)
    with pytest.raises(SettingsError, match="chmod"):
        Server(make_core(), keys=server_keys(ring))


@pytest.mark.parametrize("content", [b"", b"too short\n", b"\x00" * 40, b"~" * 40, b"x" * 4000])
def test_what_is_no_key_is_refused(ring, content):
    (ring / "robot1.key").write_bytes(content)
    with pytest.raises(SettingsError, match="is no key"):
        keys.secret_key(ring / "robot1.key")


def test_missing_files_are_named(tmp_path, make_core):
    with pytest.raises(SettingsError, match=r"No such file.*tgrpo keys"):
        keys.secret_key(tmp_path / "none.key")
    with pytest.raises(SettingsError, match="none"):
        Server(make_core(), keys=ServerKeys(tmp_path / "a.key", tmp_path / "none"))


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["keys", "robot7"]) == 0
    assert "keys/robot7.key  secret" in capsys.readouterr().out
    assert cli.main(["keys", "robot7"]) == 2
    assert cli.main(["keys", "../robot"]) == 2
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["robot7.key", "robot7.pub"]


def test_a_known_client_with_nobody_there(connect, show, ring, free_port):
    with pytest.raises(DeadlineError):
        connect(f"tcp://127.0.0.1:{free_port()}", client_keys(ring)).act(show(), 200)
