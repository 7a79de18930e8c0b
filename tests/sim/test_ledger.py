"""The books of a batch: losses are divided until the culprit is alone, and nothing is counted twice."""

import random

import pytest

from sim.ledger import Ledger
from sim.rollout import Part, Unit, UnitResult, whole
from sim.worker import Job
from tgrpo.errors import WorkerError


def job(rollouts=4, states=(7,)):
    unit = Unit(suite="libero_object", task=3, init_states=states, seeds=tuple(range(10, 10 + rollouts)))
    return Job(whole(unit), "policy", 0, None)


def result(part):
    """What a worker would send; the trajectories are only numbers here."""
    return UnitResult(part.unit, part.rows, tuple(f"hash {row}" for row in part.rows), list(part.rows), [], 1.0)


def finish(ledger, crashes=lambda unit, row: False, chance=lambda: False):
    """Plays everything; returns how often something was lost."""
    losses = 0
    while not ledger.done:
        task = ledger.waiting.pop()
        part = task.job.part
        if chance() or any(crashes(part.unit, row) for row in part.rows):
            losses += 1
            ledger.lose(task, "it crashed")
        else:
            ledger.deliver(task, result(part))
    return losses


def test_units_are_played_in_order_and_joined():
    ledger = Ledger([job(3), job(2)], retries=0, most=0)
    assert [task.index for task in reversed(ledger.waiting)] == [0, 1]
    assert finish(ledger) == 0
    assert [(r.rows, r.trajectories) for r in ledger.results()] == [((0, 1, 2), [0, 1, 2]), ((0, 1), [0, 1])]
    assert ledger.results()[0].state_hashes == ("hash 0", "hash 1", "hash 2")


def test_a_rollout_that_always_crashes_is_found_among_eight_and_named():
    ledger = Ledger([job(8, states=tuple(range(20, 28))), job(8)], retries=2, most=1)
    losses = finish(ledger, lambda unit, row: unit.start(row) == 25)
    [found] = ledger.quarantined
    assert (found.task, found.init_state, found.seed, found.cause) == (3, 25, 15, "it crashed")
    assert str(found) == "libero_object task 3 init state 25 seed 15: it crashed"
    assert losses == 3 + 3  # with 8, 4 and 2 rollouts, then three times alone
    assert [r.rows for r in ledger.results()] == [(0, 1, 2, 3, 4, 6, 7), tuple(range(8))]


def test_an_initial_state_that_lost_a_rollout_for_good_is_not_tried_to_the_end_again():
    ledger = Ledger([job(4, states=(9,)), job(4, states=(9,)), job(1, states=(8,))], retries=2, most=8)
    losses = finish(ledger, lambda unit, row: unit.start(row) == 9)
    assert len(ledger.quarantined) == 8
    assert losses == 2 + 3 + 1 + 1 + 1  # of 4 and 2, thrice alone; then its neighbour, the other two, the other unit
    assert [r.rows for r in ledger.results()] == [(), (), (0,)]


def test_more_than_allowed_ends_the_run_and_names_the_last_one():
    with pytest.raises(WorkerError, match=r"task 3 init state 7 seed 10: it crashed, 2 times.*at most 0.*--resume"):
        finish(Ledger([job(1)], retries=1, most=0), lambda unit, row: True)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_by_chance_each_rollout_comes_once(seed):
    rng = random.Random(seed)
    ledger = Ledger([job(8) for _ in range(5)], retries=10**6, most=0)
    assert finish(ledger, chance=lambda: rng.random() < 0.7) > 0
    assert [r.trajectories for r in ledger.results()] == [list(range(8))] * 5


def test_a_rollout_that_comes_twice_is_refused():
    ledger = Ledger([job(2)], retries=0, most=0)
    task = ledger.waiting.pop()
    ledger.deliver(task, result(Part(task.unit, (0,))))
    with pytest.raises(WorkerError, match=r"\[0\] of unit 0 came twice"):
        ledger.deliver(task, result(task.job.part))


def test_what_was_given_away_is_a_task_of_its_own():
    ledger = Ledger([job(4)], retries=0, most=0)
    task = ledger.waiting.pop()
    given = task.take(Part(task.unit, (2, 3)))
    assert (task.job.part.rows, given.job.part.rows) == ((0, 1), (2, 3))
    ledger.deliver(given, result(given.job.part))
    assert not ledger.done
    ledger.deliver(task, result(task.job.part))
    assert ledger.done
