import json
import sys

import pytest

from tgrpo.errors import MissingDependencyError
from tgrpo_ros.child import TrainingProcess, exit_code, find_command


@pytest.fixture
def child(fake_tgrpo, tmp_path):
    children = []

    def begin(*words):
        children.append(TrainingProcess([str(fake_tgrpo), "train", "--run-dir", str(tmp_path / "run"), *words]))
        return children[-1]

    yield begin
    for one in children:
        one.kill()
        one.close()


def heard(tmp_path):
    return json.loads((tmp_path / "run" / "heard.json").read_text())


def ready(tmp_path):
    return lambda: (tmp_path / "run" / "status.json").exists()


def test_forwards_both_streams_and_exit_code(child, capfd):
    assert child("--iterations", "1", "--exit", "7").close() == 7
    output = capfd.readouterr()
    assert output.out == "a line on stdout\n"
    assert output.err == "a line on stderr\n"


def test_control_words_arrive_in_order(child, tmp_path, wait):
    process = child()
    wait(ready(tmp_path))
    assert [process.send(word) for word in ("pause", "resume", "checkpoint", "stop")] == [True] * 4
    assert process.close() == 0
    assert heard(tmp_path) == ["pause", "resume", "checkpoint", "stop"]


def test_word_to_an_ended_child_is_refused(child):
    process = child("--iterations", "0")
    process.close()
    assert process.send("pause") is False


def test_interrupt_arrives_once(child, tmp_path, wait):
    process = child()
    wait(ready(tmp_path))
    for _ in range(3):
        process.interrupt()
    assert process.close() == 0
    assert heard(tmp_path) == ["SIGINT"]


def test_terminate_ends_a_deaf_child(child, tmp_path, wait):
    process = child("--deaf")
    wait(ready(tmp_path))
    process.interrupt()
    process.terminate()
    assert process.close() == 128 + 15


@pytest.mark.parametrize(("returncode", "code"), [(0, 0), (3, 3), (-2, 130), (-9, 137)])
def test_exit_code_is_the_shells(returncode, code):
    assert exit_code(returncode) == code


def test_find_command_names_the_remedy(monkeypatch, tmp_path):
    monkeypatch.delenv("TGRPO_COMMAND", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(MissingDependencyError, match="make setup"):
        find_command()


def test_find_command_prefers_the_environment(fake_tgrpo):
    assert find_command() == str(fake_tgrpo)
