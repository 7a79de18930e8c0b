"""Who is next, without any thread of a model."""

import threading
import time

import pytest

from tgrpo.serving.clocks import Clocks
from tgrpo.serving.queue import FairQueue
from tgrpo.serving.request import Request


def request(owner, seconds=60.0, temperature=0.0, **options):
    def ignore(outcome):
        raise AssertionError(f"the queue answers nobody, but said {outcome}")

    return Request(owner, dict, ignore, time.monotonic() + seconds, seed=0, temperature=temperature, **options)


def queue(quota=8, capacity=1000, window=0.0):
    return FairQueue(quota, capacity, window)


def owners(batch):
    return [one.owner for one in batch]


def test_clients_take_turns_however_much_one_of_them_asks():
    line = queue()
    for _ in range(5):
        line.put(request("greedy"))
    for name in ("a", "b", "c"):
        line.put(request(name))
    first, late = line.take(4, 0.0, 0.0)
    assert sorted(owners(first)) == ["a", "b", "c", "greedy"]
    assert late == []
    assert owners(line.take(4, 0.0, 0.0)[0]) == ["greedy"] * 4


def test_whoever_came_first_in_a_batch_comes_last_in_the_next():
    line = queue()
    for name in "abab":
        line.put(request(name))
    assert owners(line.take(1, 0.0, 0.0)[0]) == ["a"]
    assert owners(line.take(1, 0.0, 0.0)[0]) == ["b"]
    assert owners(line.take(2, 0.0, 0.0)[0]) == ["a", "b"]


def test_quota_counts_what_waits_and_what_is_computed():
    line = queue(quota=2)
    first = request("a")
    assert [line.put(first), line.put(request("a")), line.put(request("a"))] == [True, True, False]
    assert line.put(request("b"))
    batch, _ = line.take(8, 0.0, 0.0)
    assert len(batch) == 3
    assert not line.put(request("a")), "both are still computed"
    line.done(first)
    assert line.put(request("a"))


def test_capacity_is_for_all_together():
    line = queue(capacity=3)
    assert [line.put(request(i)) for i in range(4)] == [True, True, True, False]


def test_late_requests_are_separated_and_not_computed():
    line = queue()
    line.put(request("late", seconds=-0.01))
    line.put(request("hopeless", seconds=0.05))
    line.put(request("fine"))
    batch, late = line.take(8, 0.0, least=0.1)
    assert owners(batch) == ["fine"]
    assert sorted(owners(late)) == ["hopeless", "late"]
    assert len(line) == 0


def test_a_batch_has_one_temperature():
    line = queue()
    for name, temperature in (("a", 0.0), ("b", 1.0), ("c", 0.0)):
        line.put(request(name, temperature=temperature))
    assert owners(line.take(8, 0.0, 0.0)[0]) == ["a", "c"]
    assert owners(line.take(8, 0.0, 0.0)[0]) == ["b"]


def test_a_single_client_does_not_wait_for_company():
    line = queue(window=30.0)
    line.put(request("alone"))
    started = time.monotonic()
    assert owners(line.take(8, 0.0, 0.0)[0]) == ["alone"]
    assert time.monotonic() - started < 10


def test_waits_for_an_active_client_until_it_asks():
    line = queue(window=30.0)
    line.put(request("a"))
    line.put(request("b"))
    for one in line.take(8, 0.0, 0.0)[0]:
        line.done(one)
    line.put(request("a"))
    threading.Timer(0.1, lambda: line.put(request("b"))).start()
    assert sorted(owners(line.take(8, 0.0, 0.0)[0])) == ["a", "b"]


def test_an_urgent_request_does_not_wait_for_company():
    line = queue(window=30.0)
    line.put(request("b"))
    line.take(8, 0.0, 0.0)
    line.put(request("urgent", seconds=0.5))
    batch, late = line.take(8, expected=0.3, least=0.0)
    assert owners(batch) == ["urgent"]
    assert late == []


def test_closing_wakes_the_model_and_returns_what_waits():
    line = queue(window=30.0)
    found = []
    thread = threading.Thread(target=lambda: found.append(line.take(8, 0.0, 0.0)))
    thread.start()
    assert line.close() == []
    thread.join(10)
    assert found == [None]
    assert not line.put(request("a"))


def test_a_message_that_lay_about_is_as_old_as_it_is():
    clocks = Clocks()
    assert clocks.sent("a", 1000.0, 50.0) == 50.0, "the first one of a session is believed to be fresh"
    assert clocks.sent("a", 1000.5, 52.5) == pytest.approx(50.5, abs=0.01), "two seconds in a buffer"
    assert clocks.sent("a", 1002.6, 52.6) == pytest.approx(52.6, abs=0.01)
    assert clocks.sent("b", 7.0, 60.0) == 60.0


def test_clocks_that_drift_apart_do_not_make_requests_old():
    clocks, now = Clocks(), 0.0
    for second in range(0, 36_000, 10):
        now = second * 1.0001  # ten hours at 100 ppm would be 3.6 s
        assert now - clocks.sent("a", float(second), now) < 0.01


def test_sessions_do_not_pile_up():
    clocks = Clocks()
    for session in range(10_000):
        clocks.sent(session, 0.0, 1.0)
    assert len(clocks._offsets) <= 4096


def test_only_a_lonely_client_passes_and_it_counts():
    line = queue(quota=1)
    first = request("a")
    assert line.pass_through(first)
    assert not line.pass_through(request("a")), "its quota is used up"
    assert not line.put(request("a"))
    line.done(first)
    again = request("a")
    assert line.pass_through(again)
    line.done(again)
    assert line.put(request("b"))
    assert not line.pass_through(request("a"))
    [taken], _ = line.take(1, 0.0, 0.0)
    line.done(taken)
    assert not line.pass_through(request("a")), "the other one is still about"
    line.close()
    assert not line.pass_through(request("b"))
