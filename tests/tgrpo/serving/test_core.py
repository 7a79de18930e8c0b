"""The model's thread: one bad item spoils no other, seeds decide, and swaps fall between batches."""

import threading
import time
from concurrent.futures import Future

import msgspec
import numpy as np
import pytest

from tgrpo.errors import SpecError, WireError
from tgrpo.serving import batch
from tgrpo.serving.model import ServedModel
from tgrpo.serving.request import Decided, Refused, Request
from tgrpo.types import ActionChunk


class Asked(Future):
    """Counts its answers, because each request has exactly one."""

    answers = 0

    def take(self, outcome):
        self.answers += 1
        self.set_result(outcome)


def ask(core, observation, owner=None, seconds=60.0, seed=0, temperature=0.0):
    asked = Asked()
    deadline = time.monotonic() + seconds
    core.submit(Request(owner or object(), lambda: observation, asked.take, deadline, seed, temperature))
    return asked


def decided(model, observations, seeds=None, temperature=0.0):
    seeds = seeds or [0] * len(observations)
    requests = [
        Request(i, lambda o=o: o, print, time.monotonic() + 60, seed, temperature)
        for i, (o, seed) in enumerate(zip(observations, seeds, strict=True))
    ]
    return batch.decide(model, requests)


@pytest.mark.parametrize("bad", ["nan", "shape", "raise"])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_one_bad_item_spoils_no_other(make_model, show, bad, place):
    observations = [show(i, bad if i == place else "go") for i in range(7)]
    outcomes, out_of_memory = decided(make_model(), observations)
    assert not out_of_memory
    for i, outcome in enumerate(outcomes):
        if i == place:
            assert isinstance(outcome, Refused)
            assert outcome.code == "policy"
            assert "secret" not in outcome.message
        else:
            assert outcome.chunk.actions[0, 0] == pytest.approx(i / 255)


def test_every_item_bad(make_model, show):
    outcomes, _ = decided(make_model(), [show(0, "raise")] * 5)
    assert [outcome.code for outcome in outcomes] == ["policy"] * 5


def test_an_item_that_cannot_be_decoded_spoils_no_other(make_model, show):
    def broken():
        raise WireError("damaged JPEG picture")

    ends = time.monotonic() + 60
    requests = [Request(i, one, print, ends, 0) for i, one in enumerate([lambda: show(9), broken, lambda: show(8)])]
    outcomes, _ = batch.decide(make_model(), requests)
    assert outcomes[1] == Refused("invalid", "damaged JPEG picture")
    assert [outcomes[i].chunk.actions[0, 0] for i in (0, 2)] == pytest.approx([9 / 255, 8 / 255])


def test_wrong_number_of_chunks(make_model, show):
    model = make_model()
    whole = model.policy.act
    model.policy.act = lambda observations, **options: whole(observations, **options)[1:]
    outcomes, _ = decided(model, [show(i) for i in range(3)])
    assert all("0 chunks for 1 observations" in outcome.message for outcome in outcomes)


def test_out_of_memory_halves_the_batch_for_good(make_model, make_core, show, until):
    model = make_model()
    model.policy.largest = 2
    core = make_core(model, max_batch=8)
    blocker = ask(core, show(0, "sleep 0.2"))
    assert until(lambda: core.busy_ms > 0)
    asked = [ask(core, show(i)) for i in range(8)]
    assert [one.result(20).chunk.actions[0, 0] for one in asked] == pytest.approx([i / 255 for i in range(8)])
    assert isinstance(blocker.result(20), Decided)
    assert core.max_batch == 4
    assert isinstance(ask(core, show(1)).result(20), Decided), "the server lives"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_seed_decides_whatever_else_is_in_the_batch(make_model, show, temperature):
    def row(seeds, place):
        outcomes, _ = decided(make_model(), [show(7 + seed) for seed in seeds], seeds, temperature)
        return outcomes[place].chunk.actions

    alone = row([42], 0)
    for others in ([1, 42], [42, 1, 2], [9, 8, 42, 7, 6]):
        assert np.array_equal(row(others, others.index(42)), alone)
    if temperature:
        assert not np.array_equal(row([43], 0)[:, 1:], alone[:, 1:])


def test_a_seed_decides_when_a_batch_had_to_be_split(make_model, show):
    alone, _ = decided(make_model(), [show(1)], [5], 1.0)
    split, _ = decided(make_model(), [show(1), show(2, "raise")], [5, 6], 1.0)
    assert np.array_equal(split[0].chunk.actions, alone[0].chunk.actions)


def test_the_tiny_vla_samples_by_seed(show):
    from tgrpo.policies import load, shipped
    from tgrpo.serving.model import blank

    model = ServedModel(load(shipped("tiny-libero")), "tiny", "tiny@1")
    shown = blank(model)
    alone, _ = decided(model, [shown], [11], 1.0)
    crowded, _ = decided(model, [shown] * 4, [1, 2, 11, 3], 1.0)
    assert np.array_equal(crowded[2].chunk.tokens, alone[0].chunk.tokens)
    assert not np.array_equal(crowded[1].chunk.tokens, alone[0].chunk.tokens)


def test_expired_requests_are_answered_and_not_computed(make_model, make_core, show, until):
    model = make_model()
    core = make_core(model)
    blocker = ask(core, show(0, "sleep 0.3"))
    assert until(lambda: core.busy_ms > 0)
    late = ask(core, show(1, "too late"), seconds=0.1)
    fine = ask(core, show(2, "in time"))
    assert late.result(20).code == "expired"
    assert isinstance(fine.result(20), Decided)
    assert isinstance(blocker.result(20), Decided)
    assert ["too late"] not in model.policy.batches
    assert core.counters.values()["expired"] == 1


def test_requests_that_arrive_late_do_not_use_up_the_quota(make_core, show):
    core = make_core(quota=1)
    for _ in range(5):
        assert ask(core, show(0), owner="a", seconds=-0.1).result(0.1).code == "expired"
    assert isinstance(ask(core, show(0), owner="a").result(20), Decided)


def test_slow_batches_do_not_refuse_everything_for_ever(make_core, show):
    core = make_core()
    assert isinstance(ask(core, show(0, "sleep 0.4")).result(20), Decided)
    outcomes = [ask(core, show(0), seconds=0.2).result(20) for _ in range(10)]
    assert isinstance(outcomes[0], Refused)
    assert isinstance(outcomes[-1], Decided)


def answering_thread(core, observation, owner):
    """The thread in which a request was answered."""
    answered = Future()
    take = lambda outcome: answered.set_result((threading.current_thread(), outcome))  # noqa: E731
    core.submit(Request(owner, lambda: observation, take, time.monotonic() + 60.0, 0, 0.0))
    thread, outcome = answered.result(20)
    assert isinstance(outcome, Decided)
    return thread


def test_the_only_client_of_a_fast_policy_is_answered_in_its_own_thread(make_core, show, monkeypatch):
    monkeypatch.setattr("tgrpo.serving.core.AT_ONCE_S", 60.0)
    core, mine = make_core(quota=1), threading.current_thread()
    assert answering_thread(core, show(0), "a") is not mine, "how fast it is must be seen first"
    assert [answering_thread(core, show(0), "a") is mine for _ in range(3)] == [True] * 3
    assert answering_thread(core, show(0), "b") is not mine
    assert answering_thread(core, show(0), "a") is not mine, "two clients share batches"
    assert core.counters.values()["answered"] == 6


def test_a_slow_policy_is_never_waited_for(make_core, show):
    core, mine = make_core(), threading.current_thread()
    assert [answering_thread(core, show(0, "sleep 0.01"), "a") is mine for _ in range(3)] == [False] * 3


def test_while_the_model_is_busy_nobody_passes(make_core, show, until, monkeypatch):
    monkeypatch.setattr("tgrpo.serving.core.AT_ONCE_S", 60.0)
    core = make_core(quota=2)
    assert isinstance(ask(core, show(0), owner="a").result(20), Decided)
    thread = threading.Thread(target=lambda: ask(core, show(0, "sleep 0.3"), owner="a"))
    thread.start()
    assert until(lambda: core.busy_ms > 0)
    second = ask(core, show(0), owner="a")
    assert not second.done()
    assert isinstance(second.result(20), Decided)
    thread.join()


def test_quota_is_answered_busy_at_once(make_core, show, until):
    core = make_core(quota=2)
    first = [ask(core, show(0, "sleep 0.5"), owner="a") for _ in range(2)]
    third = ask(core, show(0), owner="a")
    other = ask(core, show(5), owner="b")
    assert third.result(0.1).code == "busy"
    assert other.result(20).chunk.actions[0, 0] == pytest.approx(5 / 255)
    assert [isinstance(one.result(20), Decided) for one in first] == [True, True]
    assert isinstance(ask(core, show(0), owner="a").result(20), Decided), "the quota is given back"


def test_every_request_is_answered_once_when_the_server_stops(make_core, show, until):
    core = make_core()
    asked = [ask(core, show(0, "sleep 0.2"))]
    assert until(lambda: core.busy_ms > 0)
    asked += [ask(core, show(0)) for _ in range(5)]
    core.close()
    asked.append(ask(core, show(0)))
    assert [getattr(one.result(20), "code", "decided") for one in asked] == ["decided", *["stopping"] * 5, "busy"]
    assert [one.answers for one in asked] == [1] * 7


def test_versions_do_not_mix_while_policies_are_swapped(make_model, make_core, show):
    """Each policy answers with its own number, so a chunk of one version with the other's number would show."""
    models = [make_model(f"v@{i}", value=float(i)) for i in range(4)]
    core = make_core(models[0])
    stop = threading.Event()
    seen, wrong = set(), []

    def client(seed):
        while not stop.is_set():
            outcome = ask(core, show(0), seed=seed).result(20)
            seen.add(outcome.version)
            if not (outcome.chunk.actions[:, 0] == float(outcome.version[2:])).all():
                wrong.append(outcome)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        core.swap(models[turn % 4])
        time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert len(seen) > 1
    assert core.counters.values()["swaps"] == 60


def test_a_policy_with_other_conventions_does_not_replace_one(make_model, make_core):
    old = make_model()
    core = make_core(old)
    action = msgspec.structs.replace(old.policy.spec.action, gripper="open_positive")
    other = make_model("other@2", spec=msgspec.structs.replace(old.policy.spec, action=action))
    with pytest.raises(SpecError, match=r"open_positive.*close_positive"):
        core.swap(other)
    with pytest.raises(SpecError, match="franka_stats"):
        core.swap(ServedModel(old.policy, "obedient", "obedient@3", "franka_stats"))
    assert core.model is old


def test_lists_instead_of_arrays_are_refused(make_model, show):
    model = make_model()
    model.policy.act = lambda observations, **options: [ActionChunk([[0.0] * 7] * 8) for _ in observations]
    outcomes, _ = decided(model, [show(0)])
    assert outcomes[0].code == "policy"
