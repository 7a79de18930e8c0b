"""Requests from outside."""

import os
import signal
import time

import pytest

from sim.control import Control


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return met


@pytest.fixture
def line():
    read, write = os.pipe()
    yield read, write
    os.close(read)


def test_nothing_is_asked_for_at_first():
    control = Control()
    assert not control.stopping
    assert not control.paused
    assert not control.take_checkpoint()


def test_a_checkpoint_is_taken_once():
    control = Control()
    control.obey("checkpoint")
    assert control.take_checkpoint()
    assert not control.take_checkpoint()


@pytest.mark.parametrize("command", ["resume", "stop"])
def test_resume_and_stop_end_a_pause(command):
    control = Control()
    control.obey("pause")
    assert control.paused
    control.obey(command)
    assert not control.paused
    control.wait_while_paused(60.0)
    assert control.stopping == (command == "stop")


def test_lines_are_obeyed_one_by_one_and_their_end_stops(line, caplog):
    read, write = line
    control = Control()
    control.listen(read)
    os.write(write, b"pau")
    os.write(write, b"se\n\nfly\ncheckpoint\n")
    assert until(lambda: control.paused)
    assert until(control.take_checkpoint)
    assert "unknown request 'fly'" in caplog.text
    assert not control.stopping
    os.close(write)
    assert until(lambda: control.stopping)
    assert not control.paused


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_stops_and_the_second_ends(number):
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    control = Control()
    control.catch_interrupts()
    try:
        os.kill(os.getpid(), number)
        assert until(lambda: control.stopping)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
