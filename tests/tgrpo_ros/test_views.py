"""Which pictures a decision is made on: those of one moment, if that does not take too long."""

import numpy as np
import pytest

from tgrpo_ros.frames import Header, Sighting
from tgrpo_ros.views import View, Views, worth_waiting

T = 1.0 / 30.0
LATE = 0.002
"""From a picture to its arrival [s]."""


def seen(*ages, now=10.0, interval=T):
    """Views of pictures that were taken so long ago [s]."""
    return [View(now - age, now - age + LATE, interval) for age in ages]


@pytest.mark.parametrize(
    ("ages", "worth"),
    [
        ((0.002, 0.002), False),  # both are here
        ((0.002, 0.002 + T), True),  # the partner of the first one is on its way
        ((0.002, 0.002 + T, 0.002 + T), True),  # so are two partners
        ((0.002, 0.002 + 0.75 * T), True),  # in a quarter of an interval the oldest will be half an interval younger
        ((0.002, 0.002 + 0.6 * T), False),  # two fifths of an interval to wait, for one fifth that it gains
        ((0.002, 0.002 + T / 3, 0.002 + 2 * T / 3), False),  # evenly spread: there is always an older one
        ((0.002,), False),
        ((), False),
    ],
)
def test_waiting_must_gain_more_than_it_takes(ages, worth):
    assert worth_waiting(seen(*ages), now=10.0) is worth


def test_a_picture_that_is_overdue_is_not_waited_for():
    newest, *_ = seen(0.002)
    (silent,) = seen(0.002 + 1.4 * T)
    assert worth_waiting([newest, silent], now=10.0)
    (lost,) = seen(0.002 + 1.6 * T)
    assert not worth_waiting([newest, lost], now=10.0)


def test_the_first_picture_of_a_camera_says_nothing_about_its_next_one():
    newest, old = seen(0.002, 0.035)
    assert not worth_waiting([newest, View(old.captured, old.arrived)], now=10.0)


def sighting(camera, sequence, captured, sender="a"):
    header = Header(
        camera=camera,
        sender=sender,
        sequence=sequence,
        captured=captured,
        digest=0,
        height=1,
        width=1,
        domain="steady",
    )
    return Sighting(header, np.zeros((1, 1, 3), np.uint8))


@pytest.fixture
def views():
    """Two cameras that were triggered together twice."""
    one = Views()
    for sequence in (1, 2):
        for camera in ("front", "wrist"):
            one.add({camera: sighting(camera, sequence, sequence * T)}, sequence * T + LATE)
    return one


def test_partners_are_waited_for_until_they_are_here(views):
    now = 3 * T + LATE
    assert views.settled(("front", "wrist"), 2 * T + LATE)
    views.add({"front": sighting("front", 3, 3 * T)}, now)
    assert not views.settled(("front", "wrist"), now)
    assert views.settled(("front",), now)  # nobody asks for the other one
    views.add({"wrist": sighting("wrist", 3, 3 * T)}, now + 0.001)
    assert views.settled(("front", "wrist"), now + 0.001)
    assert views.newest["wrist"].header.sequence == 3


def test_a_picture_is_scaled_once(views):
    """One pixel becomes four of its colour."""
    scaled = views.scaled("front", 2)
    assert scaled.shape == (2, 2, 3)
    assert views.scaled("front", 2) is scaled
    assert views.scaled("front", 1).shape == (1, 1, 3)
    views.add({"front": sighting("front", 3, 3 * T)}, 3 * T + LATE)
    assert views.scaled("front", 2) is not scaled
    views.add({"front": Sighting(views.newest["front"].header, None)}, 3 * T + LATE)
    assert views.scaled("front", 2) is None


def test_a_lost_picture_does_not_double_the_interval(views):
    views.add({"wrist": sighting("wrist", 4, 4 * T)}, 4 * T + LATE)  # the third one was lost
    views.add({"front": sighting("front", 5, 5 * T)}, 5 * T + LATE)
    assert not views.settled(("front", "wrist"), 5 * T + LATE)


def test_a_camera_that_was_started_anew_is_not_waited_for(views):
    views.add({"wrist": sighting("wrist", 1, 2.5 * T, sender="b")}, 2.5 * T + LATE)
    views.add({"front": sighting("front", 4, 4 * T)}, 4 * T + LATE)
    assert views.settled(("front", "wrist"), 4 * T + LATE)
