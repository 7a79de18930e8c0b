"""Pictures between processes: nothing is lost unseen, late subscribers are served, junk does no harm."""

import time

import numpy as np
import pytest
import zmq

from tgrpo.errors import SettingsError
from tgrpo_ros.drivers.base import Frame
from tgrpo_ros.frames import FRAME, MARK, FrameReceiver, FrameSender, address_of
from tgrpo_ros.safety.cameras import digest


def picture(sequence, value=None):
    image = np.full((4, 6, 3), sequence if value is None else value, np.uint8)
    return Frame(image, 10.0 + sequence, sequence, "steady")


@pytest.fixture
def address(tmp_path):
    return f"ipc://{tmp_path / 'frames'}"


@pytest.fixture
def sender(address):
    one = FrameSender(address, "front")
    yield one
    one.close()


@pytest.fixture
def listen(address):
    opened = []

    def connect(images=True):
        opened.append(FrameReceiver({"front": address}, images=images))
        return opened[-1]

    yield connect
    for receiver in opened:
        receiver.close()


def first(sender, receiver):
    """The sender learns of a subscriber only when it looks."""
    limit = time.monotonic() + 30.0
    while not (found := receiver.receive(0.05)):
        sender.greet()
        assert time.monotonic() < limit
    return found["front"]


def test_a_late_subscriber_gets_the_newest_picture_with_its_stamp(sender, listen):
    sender.send(picture(1))
    sender.send(picture(2))
    sighting = first(sender, listen())
    assert (sighting.header.sequence, sighting.header.captured, sighting.header.domain) == (2, 12.0, "steady")
    assert np.array_equal(sighting.image, picture(2).image)
    assert sighting.header.digest == digest(picture(2).image)


def test_marks_come_without_pictures(sender, listen):
    sender.send(picture(1))
    assert first(sender, listen(images=False)).image is None


def test_only_the_newest_is_looked_at_and_the_others_are_counted(sender, listen, wait):
    receiver = listen()
    sender.send(picture(1))
    first(sender, receiver)
    for sequence in (2, 3, 6):
        sender.send(picture(sequence))
    seen = []
    wait(lambda: seen.extend(receiver.receive(0.05).values()) or receiver.received["front"] == 4)
    assert seen[-1].header.sequence == 6
    assert receiver.lost["front"] == 2  # 4 and 5
    assert receiver.skipped["front"] == 3 - len(seen)


def test_a_camera_that_was_started_anew_counts_from_its_beginning(address, listen, wait):
    receiver = listen()
    for _ in range(2):
        sender = FrameSender(address, "front")
        sender.send(picture(7))
        assert first(sender, receiver).header.sequence == 7
        sender.close()
    assert receiver.lost["front"] == 0
    assert receiver.received["front"] == 2


def test_a_second_subscriber_does_not_make_the_first_see_a_picture_twice(sender, listen):
    receiver = listen()
    sender.send(picture(1))
    first(sender, receiver)
    first(sender, listen())
    assert receiver.receive(0.2) == {}


@pytest.mark.parametrize(
    "parts", [[FRAME], [FRAME, b"junk"], [FRAME, b"\x80"], [MARK, b"\xff" * 9], [FRAME, b"\xc1", b"\0" * 72]]
)
def test_junk_is_dropped(address, listen, parts, wait):
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.linger = 0
    socket.bind(address)
    receiver = listen()
    for _ in range(20):
        socket.send_multipart(parts)
        assert receiver.receive(0.01) == {}
    socket.close()
    context.term()


@pytest.mark.parametrize("far", ["tcp://0.0.0.0:5600", "tcp://192.168.0.2:5600", "udp://127.0.0.1:1"])
def test_other_machines_are_refused(far):
    with pytest.raises(SettingsError, match="not of this machine"):
        FrameSender(far, "front")
    with pytest.raises(SettingsError, match="not of this machine"):
        FrameReceiver({"front": far}, images=True)


def test_addresses_tell_domains_namespaces_and_cameras_apart(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "5")
    one = address_of("wrist", "/left/arm")
    assert one.endswith("frames-5-left-arm-wrist")
    assert one != address_of("wrist", "/right/arm")
    assert address_of("wrist", "/") == address_of("wrist")
