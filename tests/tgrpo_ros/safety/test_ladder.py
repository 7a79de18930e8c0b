"""Every transition of the ladder, and every one that must not exist."""

import pytest

from tgrpo.errors import RobotFault
from tgrpo_ros.safety.ladder import Ladder, Level, Reason

HOLD, STOP, FAULT = (Reason(level, level.name.lower(), "why") for level in (Level.HOLD, Level.DECELERATE, Level.FAULT))


def at(level):
    ladder = Ladder(hold_stop=1.0, stop_time=0.7, now=0.0)
    if level is not Level.DECELERATE:
        ladder.arm(0.0, [], moving=False)
    if level is Level.HOLD:
        ladder.update(0.0, [HOLD], moving=False)
    if level is Level.FAULT:
        ladder.update(0.0, [FAULT], moving=False)
    assert ladder.level is level
    return ladder


def attempt(action):
    try:
        action()
    except RobotFault:
        return False
    return True


EVENTS = {
    "nothing": lambda ladder: ladder.update(0.1, [], moving=False),
    "hold": lambda ladder: ladder.update(0.1, [HOLD], moving=False),
    "stop": lambda ladder: ladder.update(0.1, [HOLD, STOP], moving=False),
    "fault": lambda ladder: ladder.update(0.1, [STOP, FAULT, HOLD], moving=False),
    "operator stop": lambda ladder: ladder.stop(0.1, "operator_stop", "why"),
    "arm": lambda ladder: attempt(lambda: ladder.arm(0.1, [], moving=False)),
    "arm while moving": lambda ladder: attempt(lambda: ladder.arm(0.1, [], moving=True)),
    "arm with a reason": lambda ladder: attempt(lambda: ladder.arm(0.1, [HOLD], moving=False)),
    "acknowledge": lambda ladder: attempt(lambda: ladder.acknowledge(0.1, [])),
    "acknowledge too early": lambda ladder: attempt(lambda: ladder.acknowledge(0.1, [FAULT])),
}
R, H, D, F = Level
TABLE = [  # event, and where it leads to from RUN, HOLD, DECELERATE, FAULT
    ("nothing", R, R, D, F),
    ("hold", H, H, D, F),
    ("stop", D, D, D, F),
    ("fault", F, F, F, F),
    ("operator stop", D, D, D, F),
    ("arm", R, R, R, F),
    ("arm while moving", R, H, D, F),
    ("arm with a reason", R, H, D, F),
    ("acknowledge", R, H, D, D),
    ("acknowledge too early", R, H, D, F),
]


@pytest.mark.parametrize(
    ("event", "level", "expected"),
    [(event, level, target) for event, *targets in TABLE for level, target in zip(Level, targets, strict=True)],
)
def test_transition(event, level, expected):
    ladder = at(level)
    EVENTS[event](ladder)
    assert ladder.level is expected


def test_the_table_is_complete():
    assert {event for event, *_ in TABLE} == set(EVENTS)


def test_starts_not_armed():
    ladder = Ladder(1.0, 0.7, 0.0)
    assert (ladder.level, ladder.reason.name) == (Level.DECELERATE, "not_armed")


def test_a_long_hold_becomes_a_stop_and_keeps_its_name():
    ladder = at(Level.HOLD)
    assert ladder.update(0.99, [HOLD], moving=False) is Level.HOLD
    assert ladder.update(1.0, [HOLD], moving=False) is Level.DECELERATE
    assert ladder.reason.name == "hold"
    assert ladder.update(50.0, [], moving=False) is Level.DECELERATE


def test_an_arm_that_does_not_stop_is_a_fault():
    ladder = at(Level.RUN)
    ladder.update(1.0, [STOP], moving=True)
    assert ladder.update(1.6, [], moving=True) is Level.DECELERATE
    assert ladder.update(1.71, [], moving=True) is Level.FAULT
    assert ladder.reason.name == "does_not_stop"


def test_an_arm_at_rest_may_stay_in_decelerate_for_ever():
    ladder = at(Level.RUN)
    ladder.update(1.0, [STOP], moving=True)
    ladder.update(1.3, [], moving=False)
    assert ladder.update(1e6, [], moving=False) is Level.DECELERATE


def test_the_first_fault_keeps_its_name():
    ladder = at(Level.FAULT)
    ladder.fault(0.2, "second", "why")
    assert ladder.reason is FAULT


def test_refusals_name_the_reason_and_the_remedy():
    ladder = at(Level.FAULT)
    with pytest.raises(RobotFault, match=r"FAULT fault: why.*acknowledge"):
        ladder.arm(1.0, [], moving=False)
    with pytest.raises(RobotFault, match="no fault to acknowledge"):
        at(Level.RUN).acknowledge(1.0, [])
