"""The owner's socket: what replaces the policy, what does not, and who can reach it."""

import stat
import threading

import msgspec
import pytest
import zmq

from tgrpo import cli
from tgrpo.errors import CheckpointError, PolicyError, SettingsError
from tgrpo.policies.simple import RandomPolicy, ReplayPolicy
from tgrpo.record import files
from tgrpo.serving import control
from tgrpo.serving.model import load, replacement, version_of
from tgrpo.spec import PolicySpec

SPEC = RandomPolicy().spec


def checkpoint(folder, spec=SPEC, *, sealed=False):
    if sealed:
        files.write_folder(folder, RandomPolicy(spec).save)
    else:
        folder.mkdir()
        RandomPolicy(spec).save(folder)
    return folder


@pytest.fixture
def owned(make_core, tmp_path):
    """A core that serves checkpoint 1 and its control socket."""
    core = make_core(load(checkpoint(tmp_path / "one")))
    made = control.Control(core, tmp_path / "run" / "serve.sock")
    yield core, tmp_path / "run" / "serve.sock"
    made.close()


def test_swap(owned, tmp_path):
    core, path = owned
    second = tmp_path / "two"
    second.mkdir()
    ReplayPolicy([[0.0] * 7], SPEC).save(second)
    version = control.swap(second, path, 20)
    assert version == core.model.version
    assert version.startswith("two@")


@pytest.mark.parametrize("kind", ["missing", "damaged", "other conventions", "not sealed any more", "raises"])
def test_what_cannot_be_loaded_keeps_the_old(owned, tmp_path, kind, monkeypatch):
    core, path = owned
    old = core.model
    bad = tmp_path / "bad"
    if kind == "damaged":
        bad.mkdir()
        (bad / "policy.json").write_text('{"kind": "replay"}')
    elif kind == "other conventions":
        checkpoint(bad, PolicySpec(chunk=4, observation=SPEC.observation))
    elif kind == "not sealed any more":
        checkpoint(bad, sealed=True)
        (bad / "policy.json").write_bytes((bad / "policy.json").read_bytes() + b" ")
    elif kind == "raises":
        checkpoint(bad)
        monkeypatch.setattr(RandomPolicy, "act", lambda *args, **options: 1 / 0)
    with pytest.raises(CheckpointError, match="keeps its policy"):
        control.swap(bad, path, 20)
    assert core.model is old


def test_only_the_owner_reaches_it(owned):
    _, path = owned
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_folder_that_others_may_enter_is_refused(make_core, tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(SettingsError, match="0700"):
        control.Control(make_core(), tmp_path / "serve.sock")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="0700"):
        control.Control(make_core(), tmp_path / "link" / "serve.sock")


def test_a_path_that_is_too_long(make_core, tmp_path):
    with pytest.raises(SettingsError, match=r"control socket.*--control"):
        control.Control(make_core(), tmp_path / ("x" * 150) / "serve.sock")


def test_garbage_is_answered_and_the_next_one_served(owned, tmp_path):
    _, path = owned
    with zmq.Context() as context, context.socket(zmq.REQ) as made:
        made.setsockopt(zmq.RCVTIMEO, 20_000)
        made.connect(f"ipc://{path}")
        for junk in (b"", b"\xc1", b"\x91" * 5000, msgspec.msgpack.encode({"type": "stop"}), msgspec.msgpack.encode(3)):
            made.send(junk)
            assert msgspec.msgpack.decode(made.recv(), type=control.Answer).result == "failed"
    assert control.swap(tmp_path / "one", path, 20).startswith("one@")


def test_no_server(tmp_path):
    with pytest.raises(SettingsError, match="tgrpo serve"):
        control.swap(tmp_path, tmp_path / "none.sock", 1)


def test_no_answer_in_time(tmp_path):
    with zmq.Context() as context, context.socket(zmq.REP) as silent:
        silent.bind(f"ipc://{tmp_path}/silent.sock")
        with pytest.raises(PolicyError, match="still be loading"):
            control.swap(tmp_path, tmp_path / "silent.sock", 0.1)


def test_serving_goes_on_while_a_policy_is_loaded(owned, make_server, connect, show, tmp_path, monkeypatch):
    core, path = owned
    server = make_server(core)
    client = connect(server.address)
    loading, go_on = threading.Event(), threading.Event()

    def slow(*arguments):
        loading.set()
        assert go_on.wait(20)
        return replacement(*arguments)

    monkeypatch.setattr(control, "replacement", slow)
    second = checkpoint(tmp_path / "two")
    done = []
    thread = threading.Thread(target=lambda: done.append(control.swap(second, path, 30)))
    thread.start()
    assert loading.wait(20)
    blind = type(show())({}, "go")
    assert client.act(blind, 20_000).version.startswith("one@")
    go_on.set()
    thread.join(30)
    assert client.act(blind, 20_000).version == done[0]


def test_a_version_changes_with_any_byte(tmp_path):
    one, two = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b", sealed=True)
    before = version_of(one)
    assert len(before) == len(version_of(two)) == 12
    (one / "weights.bin").write_bytes(b"1")
    changed = version_of(one)
    (one / "weights.bin").write_bytes(b"2")
    assert len({before, changed, version_of(one)}) == 3


def test_the_command(owned, tmp_path, capsys):
    _, path = owned
    assert cli.main(["swap", str(checkpoint(tmp_path / "two")), "--control", str(path)]) == 0
    assert "now serving two@" in capsys.readouterr().out
    assert cli.main(["swap", str(tmp_path / "nothing"), "--control", str(path)]) == 2
    assert cli.main(["swap", str(tmp_path / "one"), "--control", str(tmp_path / "no.sock")]) == 2
