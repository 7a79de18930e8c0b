"""Rollouts on the machines of a Ray cluster: what joins it, what travels, and what happens when a machine is lost."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from sim import train
from sim.cluster.connect import (
    ClusterCommand,
    ClusterSettings,
    check_token,
    environment,
    join,
    make_token,
    start_command,
)
from sim.cluster.versions import Cache, Shelf
from sim.pool import CancelledRolloutsError
from sim.rollout import Unit, play
from sim.vector import WorkerSettings
from tgrpo.errors import CheckpointError, SettingsError, UnknownNameError, WorkerError
from tgrpo.policies import load

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")
"""Not importorskip: Ray reads its variables when it is imported."""


@pytest.fixture
def token(tmp_path):
    make_token(tmp_path / "token")
    return tmp_path / "token"


def test_a_token_is_secret_and_made_once(tmp_path):
    path = tmp_path / "deep" / "token"
    make_token(path)
    made = path.read_text()
    make_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(made) == 64
    assert path.read_text() == made


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_token_that_others_can_read_or_change_is_refused(token, mode):
    token.chmod(mode)
    with pytest.raises(SettingsError, match=f"mode 0{mode:o}.*chmod 600"):
        check_token(token)


def test_a_token_that_is_missing_or_short_is_refused(token, tmp_path):
    with pytest.raises(SettingsError, match="no such token"):
        check_token(tmp_path / "none")
    token.write_text("12345")
    with pytest.raises(SettingsError, match="32 characters"):
        check_token(token)


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0:1", "", "here"])
def test_a_host_is_an_address(token, host):
    with pytest.raises(SettingsError, match="no address"):
        environment(host, token)


def test_another_loopback_address_is_refused_as_ray_would_then_listen_everywhere(token):
    with pytest.raises(SettingsError, match=r"127\.0\.0\.2.*all interfaces"):
        environment("127.0.0.2", token)


@needs_ray
def test_ray_is_started_with_a_token_on_the_loopback_interface_unless_another_is_asked_for(tmp_path):
    token = tmp_path / "token"
    command, variables = start_command(ClusterCommand(token=token, cores=3))
    assert command[1:3] == ["start", "--block"]
    assert {f"--node-ip-address={HOST}", "--head", "--num-cpus=3", "--include-dashboard=false"} <= set(command)
    assert variables["RAY_AUTH_MODE"] == "token"
    assert variables["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    command, variables = start_command(ClusterCommand(token=token, host="192.0.2.7", join="192.0.2.1:6379"))
    assert {"--node-ip-address=192.0.2.7", "--address=192.0.2.1:6379"} <= set(command)
    assert "--head" not in command
    assert variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "1"


@needs_ray
def test_a_machine_that_joins_makes_no_token_of_its_own(tmp_path):
    with pytest.raises(SettingsError, match="Copy it from the first machine"):
        start_command(ClusterCommand(token=tmp_path / "token", join="192.0.2.1:6379"))


def test_a_ray_that_was_imported_without_the_token_is_refused(token, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(WorkerError, match="before it was told of its token"):
        join(ClusterSettings(token=token))
    assert "RAY_AUTH_MODE" not in os.environ


def test_the_cluster_needs_to_be_asked_for(tmp_path):
    with pytest.raises(SettingsError, match="needs --ray"):
        train.main(["--run-dir", str(tmp_path / "run"), "--cluster.address", "192.0.2.1:6379"])
    assert not (tmp_path / "run").exists()


class Store(dict):
    """Keeps bytes under numbers, and which of them were fetched."""

    def __init__(self):
        self.fetched = []

    def put(self, data):
        self[len(self)] = data
        return len(self) - 1

    def get(self, reference):
        self.fetched.append(self[reference])
        return self[reference]


def checkpoint(folder, **files):
    folder.mkdir()
    (folder / "inner").mkdir()
    for name, text in files.items():
        (folder / "inner" / name).write_text(text)
    return folder


def read(folder):
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_only_what_has_changed_travels(tmp_path):
    store = Store()
    shelf, cache = Shelf(store.put), Cache(tmp_path, store.get)
    first = cache.folder(shelf.version(checkpoint(tmp_path / "a", base="large", adapter="one")))
    assert read(first) == {"base": "large", "adapter": "one"}
    second = cache.folder(shelf.version(checkpoint(tmp_path / "b", base="large", adapter="two")))
    assert read(second) == {"base": "large", "adapter": "two"}
    assert sorted(store.fetched) == [b"large", b"one", b"two"]
    assert len(store) == 3
    assert not first.exists()


def test_the_name_of_a_version_changes_with_its_bytes(tmp_path):
    shelf = Shelf(Store().put)
    folder = checkpoint(tmp_path / "a", adapter="one")
    before = shelf.version(folder).name
    assert shelf.version(folder).name == before
    (folder / "inner" / "adapter").write_text("two")
    assert shelf.version(folder).name != before


def test_damaged_and_escaping_files_are_refused(tmp_path):
    store = Store()
    version = Shelf(store.put).version(checkpoint(tmp_path / "a", adapter="one"))
    (tmp_path / "cache").mkdir()
    cache = Cache(tmp_path / "cache", store.get)
    store[0] = b"other"
    with pytest.raises(CheckpointError, match="damaged on its way"):
        cache.folder(version)
    for name in ("../x", "/tmp/x", "a/../../x"):
        with pytest.raises(CheckpointError, match="outside of its folder"):
            cache.folder(type(version)("v", {name: "0"}, {}))
    assert not (tmp_path / "x").exists()


def unit(seed, steps=24):
    return Unit(suite="libero_object", task=0, init_states=(1,), seeds=(seed,), temperature=1.0, max_steps=steps)


def facts(results):
    return [
        (result.unit, result.state_hashes, trajectory.success, trajectory.executed.tolist())
        for result in results
        for trajectory in result.trajectories
    ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two machines with one core each, both of them this one; and how to join them."""
    token = tmp_path_factory.mktemp("ray") / "token"
    make_token(token)
    before = dict(os.environ)
    os.environ.update(environment(HOST, token))
    import ray
    from ray.cluster_utils import Cluster

    one = {"num_cpus": 1, "node_ip_address": HOST}
    whole = Cluster(initialize_head=True, head_node_args={**one, "include_dashboard": False})
    try:
        whole.add_node(**one)
        yield whole, ClusterSettings(address=whole.address, token=token, silence=10.0)
    finally:
        ray.shutdown()
        whole.shutdown()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def machines(cluster):
    """The workers of both machines."""
    from sim.cluster.pool import RayPool

    with RayPool(cluster[1], WorkerSettings()) as pool:
        assert pool.size == 2
        yield pool


@needs_ray
@pytest.mark.realtime  # a busy machine is silent for as long as a lost one
def test_without_the_token_nobody_joins(cluster, tmp_path):
    make_token(tmp_path / "other")
    said = subprocess.run(
        [sys.executable, "-c", JOIN, cluster[0].address, str(tmp_path / "other")],
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "WorkerError" in said.stderr, said.stderr[-2000:]
    assert "--cluster.token" in said.stderr


JOIN = """
import sys
from pathlib import Path
from sim.cluster.connect import ClusterSettings, join
join(ClusterSettings(address=sys.argv[1], token=Path(sys.argv[2])))
"""


@needs_ray
@pytest.mark.realtime  # a busy machine is silent for as long as a lost one
def test_machines_play_what_one_process_plays_and_errors_come_back(machines, random_folder, blind_env):
    units = [unit(seed) for seed in range(6)]
    heard = []
    results = machines.play(units, random_folder, heard.append)
    assert facts(results) == facts([play(blind_env, load(random_folder), one) for one in units])
    assert len(heard) == 6
    assert results[0].trajectories[0].executed.flags.writeable
    assert machines.spent().simulated == 6 * 24
    with pytest.raises(UnknownNameError, match="nowhere"):
        machines.play([msgspec.structs.replace(unit(0), suite="nowhere")], random_folder)
    with pytest.raises(CancelledRolloutsError):
        machines.play([unit(seed, 10**6) for seed in range(2)], random_folder, cancelled=After(3))
    assert facts(machines.play(units, random_folder)) == facts(results)


class After:
    """True from a certain call on."""

    def __init__(self, calls):
        self.calls = calls

    def __call__(self):
        self.calls -= 1
        return self.calls < 0


@needs_ray
@pytest.mark.realtime  # a busy machine is silent for as long as a lost one
def test_a_machine_that_hangs_and_one_that_dies_are_lost_and_each_rollout_is_delivered_once(
    cluster, machines, random_folder, blind_env, caplog, gone
):
    units = [unit(seed, 200) for seed in range(8)]  # several times longer than until the second question
    expected = facts([play(blind_env, load(random_folder), one) for one in units])
    while len(machines.machines()) < 2:  # one that was slow to end cancelled rollouts is being started anew
        machines.play(units[:1], random_folder)
    frozen = next(iter(machines.machines().values()))
    assert (
        facts(machines.play(units, random_folder, cancelled=Once(lambda: os.kill(frozen, signal.SIGSTOP)))) == expected
    )
    assert machines.size == 1
    assert machines.lost == 4
    assert "gave no sign of life" in caplog.text
    assert gone(frozen)
    # The machine is still there, so it takes part again; this time one is switched off.
    node = next(iter(cluster[0].worker_nodes))
    pull = Once(lambda: cluster[0].remove_node(node, allow_graceful=False))
    heard = []
    assert facts(machines.play(units, random_folder, heard.append, pull)) == expected
    assert sorted(result.unit.seeds for result in heard) == [(seed,) for seed in range(8)]
    assert len(machines.machines()) == 1


class Once:
    """Does something at the second question whether to give up, when work was handed out, in a thread; says no."""

    def __init__(self, act):
        self._act, self._calls = act, 0

    def __call__(self):
        self._calls += 1
        if self._calls == 2:
            threading.Thread(target=self._act, daemon=True).start()
        return False
