"""`tgrpo serve` as a process: starts, answers, is killed and comes back, ends, and refuses what is not safe."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tgrpo import cli
from tgrpo.client import PolicyClient
from tgrpo.errors import DeadlineError
from tgrpo.policies.simple import RandomPolicy
from tgrpo.types import Observation

ROOT = Path(__file__).resolve().parents[3]
BLIND = Observation({}, "go")


@pytest.fixture
def start(tmp_path):
    folder = tmp_path / "random"
    folder.mkdir()
    RandomPolicy().save(folder)
    processes = []

    def run(port, *words):
        command = [sys.executable, "-m", "tgrpo.cli", "serve", str(folder), "--port", str(port)]
        command += ["--control", str(tmp_path / "run" / f"{port}.sock"), *words]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PYTHONUNBUFFERED": "1"},
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait(20)
        process.stdout.close()


def test_serves_until_it_is_told_to_stop(start, connect, free_port):
    port, metrics = free_port(), free_port()
    process = start(port, "--metrics-port", str(metrics))
    assert f"at tcp://127.0.0.1:{port} (this machine only, no keys)" in process.stdout.readline()
    client = connect(f"tcp://127.0.0.1:{port}")
    assert client.act(BLIND, 20_000).actions.shape == (8, 7)
    assert "control socket" in process.stdout.readline()
    assert f"http://127.0.0.1:{metrics}/metrics" in process.stdout.readline()
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=20) as reply:
        text = reply.read().decode()
    assert "tgrpo_serve_answered_total 1" in text
    assert all(
        re.fullmatch(r'# TYPE \w+ (counter|gauge)|\w+(\{version="[^"]+"\})? [\d.e+-]+', line)
        for line in text.splitlines()
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    with pytest.raises(DeadlineError):
        client.act(BLIND, 200)


def test_all_clients_come_back_after_a_kill(start, free_port):
    """Each asks in a loop with 300 ms; none may hang, and all have to be served again by the new process."""
    port = free_port()
    first = start(port)
    first.stdout.readline()
    stop, killed = threading.Event(), threading.Event()
    back, longest, failures = set(), [0.0] * 8, []

    def work(place):
        with PolicyClient(f"tcp://127.0.0.1:{port}") as client:
            while not stop.is_set():
                started = time.monotonic()
                try:
                    client.act(BLIND, 300)
                    if killed.is_set():
                        back.add(place)
                except DeadlineError:
                    failures.append(place)
                longest[place] = max(longest[place], time.monotonic() - started)
                time.sleep(0.05)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    first_failures = len(failures)
    first.kill()
    first.wait(20)
    time.sleep(1.0)
    killed.set()
    start(port).stdout.readline()
    end = time.monotonic() + 20
    while len(back) < 8 and time.monotonic() < end:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert back == set(range(8))
    assert len(failures) > first_failures
    assert max(longest) < 0.3 + 0.7


def test_sigstop_makes_requests_late_but_never_stale(start, connect, free_port):
    port = free_port()
    process = start(port)
    process.stdout.readline()
    client = connect(f"tcp://127.0.0.1:{port}")
    client.act(BLIND, 20_000)
    before = client.stats(20_000)["answered"]
    process.send_signal(signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)  # until its last thread has stopped, others still answer
    assert os.WIFSTOPPED(status)
    for _ in range(2):
        with pytest.raises(DeadlineError):
            client.act(BLIND, 200)
    time.sleep(0.5)
    process.send_signal(signal.SIGCONT)
    assert client.act(BLIND, 20_000).actions.shape == (8, 7)
    stats = client.stats(20_000)
    assert stats["answered"] == before + 1, "the two that were late were not computed"
    assert stats["expired"] == 2


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--host", "0.0.0.0"], "without keys"),
        (["--keys", "server.key"], "belong together"),
        (["--max-batch", "0"], "max_batch"),
        (["--port", "0"], "port"),
        (["nowhere"], "unknown policy"),
    ],
)
def test_wrong_settings_are_one_message(capsys, words, match):
    assert cli.main(["serve", *words]) == 2
    assert match in capsys.readouterr().err


def test_a_second_server_on_the_port(start, free_port):
    port = free_port()
    first = start(port)
    first.stdout.readline()
    second = start(port)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"in use by process {first.pid}" in output
    assert "Traceback" not in output
