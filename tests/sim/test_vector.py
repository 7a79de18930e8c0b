"""Workers that die, hang, fail or are no longer wanted; what they were playing is not lost."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sim.pool import CancelledRolloutsError
from sim.rollout import Part, StopSignal, Unit, play
from sim.vector import WorkerPool, WorkerSettings
from sim.worker import Crash, Report, SharedStop, answer
from tgrpo.algo.cutting import synchronise
from tgrpo.errors import CheckpointError, SettingsError, SimulationError, UnknownNameError, WorkerError
from tgrpo.policies import load
from tgrpo.rewards import load_stages

ROOT = Path(__file__).resolve().parents[2]


START = {"suite": "libero_object", "task": 0, "init_states": (1,), "temperature": 1.0, "max_steps": 24}


def units(count=4, **keywords):
    return [
        Unit(
            **{"suite": "libero_object", "task": 0, "init_states": (1,), "temperature": 1.0, "max_steps": 24} | keywords
        )
        for _ in range(count)
    ]


def seeded(count=4, **keywords):
    return [msgspec.structs.replace(unit, seeds=(place,)) for place, unit in enumerate(units(count, **keywords))]


def large():
    return units(1, seeds=tuple(range(24)), max_steps=80)[0]


def facts(results):
    """What must not depend on who played a unit, or how often."""
    return [
        (result.unit, result.state_hashes, t.success, t.executed.tolist(), t.rewards.tolist(), t.stages.tolist())
        for result in results
        for t in result.trajectories
    ]


@pytest.fixture(scope="module")
def expected(blind_env, random_folder):
    """The same units played in this process, one after another."""
    policy, stages = load(random_folder), load_stages("libero_object", blind_env.name)
    return facts([play(blind_env, policy, unit, stages=stages) for unit in seeded()])


def test_results_come_in_the_order_of_the_units_and_equal_those_of_one_process(pool, random_folder, expected):
    heard = []
    results = pool.play(seeded(), random_folder, heard.append)
    assert facts(results) == expected
    assert len(heard) == 4


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_is_replaced(pool, random_folder, expected, sign, caplog, monkeypatch, gone):
    # A worker that is still starting may be silent for long; both of them answer once before one is struck.
    pool.play(units(2, max_steps=1), random_folder)
    monkeypatch.setattr(pool, "_settings", WorkerSettings(timeout=15.0, retries=9))
    struck = []

    def strike(result):
        if not struck:
            struck.append(next(worker.process.pid for worker in pool._workers if worker.task is not None))
            os.kill(struck[0], sign)

    results = pool.play(seeded(), random_folder, strike)
    assert facts(results) == expected
    assert gone(struck[0])
    assert struck[0] not in pool.processes()
    assert "is replaced" in caplog.text


def test_a_worker_that_died_between_two_batches_is_replaced(pool, random_folder, expected):
    os.kill(pool.processes()[0], signal.SIGKILL)
    assert facts(pool.play(seeded(), random_folder)) == expected


def test_a_rollout_that_crashes_wherever_it_is_played_is_left_out_and_named(pool, random_folder, expected, monkeypatch):
    """Its worker is killed whenever it plays the state alone or beside others."""
    monkeypatch.setattr(pool, "_settings", WorkerSettings(retries=0, quarantine=1))
    culprit = units(1, init_states=(2,), seeds=(5,), max_steps=10**6)[0]

    def strike():
        for worker in pool._workers:
            if worker.task is not None and worker.task.unit == culprit and worker.pulse.running:
                os.kill(worker.process.pid, signal.SIGKILL)
        return False

    lost, known = pool.lost, len(pool.quarantined)
    results = pool.play([culprit, *seeded()], random_folder, cancelled=strike)
    [found] = pool.quarantined[known:]
    assert (found.suite, found.task, found.init_state, found.seed) == ("libero_object", 0, 2, 5)
    assert "exit code -9" in found.cause
    assert results[0].rows == ()
    assert facts(results) == expected
    assert pool.lost - lost == 1
    monkeypatch.setattr(pool, "_settings", WorkerSettings(retries=0, quarantine=0))
    with pytest.raises(WorkerError, match=r"exit code -9.*1 times.*at most 0.*--resume"):
        pool.play([culprit], random_folder, cancelled=strike)


@pytest.mark.parametrize(
    ("error", "cause"),
    [(ZeroDivisionError("by zero"), "ZeroDivisionError in a rollout worker: by zero"), (SimulationError("nan"), "nan")],
)
def test_an_unexpected_error_is_a_loss_and_the_environment_is_forgotten(error, cause):
    class Failing:
        forgotten = False

        def play(self, job, slots, helpers):
            raise error

        def forget(self):
            self.forgotten = True

    stage = Failing()
    assert answer(stage, None, [], None) == Crash(cause)
    assert stage.forgotten


def test_what_is_spent_is_counted(pool, random_folder):
    before = pool.spent()
    pool.play(seeded(), random_folder)
    after = pool.spent()
    assert (after.simulated - before.simulated, after.inferred - before.inferred) == (4 * 24, 4 * 3)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"task": 77}, UnknownNameError, "77"),
        ({"suite": "libero_moon"}, UnknownNameError, "libero_moon"),
        ({"init_states": (50,)}, SettingsError, "0 to 49"),
    ],
)
def test_what_a_worker_refuses_reaches_the_caller_and_the_pool_lives_on(pool, random_folder, change, error, match):
    with pytest.raises(error, match=match):
        pool.play(units(1, **change), random_folder)
    assert len(pool.play(units(1, max_steps=1), random_folder)) == 1


def test_a_policy_that_cannot_be_loaded_is_named(pool, tmp_path):
    with pytest.raises(CheckpointError, match=r"no policy\.json"):
        pool.play(units(1), tmp_path)


def test_rollouts_can_be_cancelled(pool, random_folder, expected):
    done = []
    with pytest.raises(CancelledRolloutsError):
        pool.play(seeded(40), random_folder, done.append, lambda: len(done) >= 2)
    assert len(done) < 40
    assert facts(pool.play(seeded(), random_folder)) == expected


def test_a_group_over_two_workers_stops_together(pool, replay_folder):
    group = units(2, group=3, max_steps=None) + units(1, group=4, max_steps=40)
    results = pool.play(group, replay_folder)
    first = synchronise([t for result in results[:2] for t in result.trajectories])
    assert [(t.success, t.steps) for t in first] == [(True, 106), (True, 106)]
    assert results[2].trajectories[0].steps == 40


def test_units_without_a_group_do_not_stop_each_other(pool, replay_folder):
    """Rollouts that start to differ only after the success of the first one."""
    results = pool.play([*units(1, max_steps=None), *units(1, max_steps=100)], replay_folder)
    assert [(r.trajectories[0].success, r.trajectories[0].steps) for r in results] == [(True, 106), (False, 100)]


def test_the_shared_stop_is_the_earliest_of_its_group():
    slots = [StopSignal.NEVER] * 4
    mine, others, stranger = SharedStop(slots, 0, (0, 2)), SharedStop(slots, 2, (0, 2)), SharedStop(slots, 1, (1,))
    others.lower(30, 0)
    mine.lower(50, 0)
    stranger.lower(7, 0)
    assert (mine.get(), others.get(), stranger.get()) == (30, 30, 7)
    mine.lower(20, 0)
    mine.lower(60, 0)
    assert others.get() == 20
    others.lower(10, 1)
    assert (slots, mine.get()) == ([20, 7, 30, 10], 20)


@pytest.fixture
def parts(pool, random_folder):
    """Plays one unit of many rollouts, which only moving can share; gives its result and those of its parts."""

    def together():
        pool.play(units(2, max_steps=1), random_folder)
        heard = []
        [result] = pool.play([large()], random_folder, heard.append)
        return result, heard

    return together


@pytest.fixture(scope="module")
def undivided(blind_env, random_folder):
    stages = load_stages("libero_object", blind_env.name)
    return facts([play(blind_env, load(random_folder), large(), stages=stages)])


def test_an_idle_worker_takes_over_half(parts, undivided):
    result, heard = parts()
    assert facts([result]) == undivided
    assert len(heard) > 1
    assert sorted(row for part in heard for row in part.rows) == list(range(24))


def test_rollouts_that_moved_survive_the_death_of_a_worker(parts, undivided, pool, monkeypatch):
    monkeypatch.setattr(pool, "_settings", WorkerSettings(retries=9))
    monkeypatch.setattr(pool, "_receive", receive := Struck(pool._receive, Part))
    result, heard = parts()
    assert receive.struck >= 1  # the first move is certain; load decides whether there is a second
    assert facts([result]) == undivided
    assert sorted(row for part in heard for row in part.rows) == list(range(24))


def test_what_is_lost_goes_on_from_the_last_report(pool, random_folder, undivided, monkeypatch):
    pool.play(units(2, max_steps=1), random_folder)
    monkeypatch.setattr(pool, "_settings", WorkerSettings(retries=9))
    monkeypatch.setattr(pool, "_receive", receive := Struck(pool._receive, Report))
    before = pool.spent()
    [result] = pool.play([large()], random_folder)
    assert receive.struck == 2
    assert facts([result]) == undivided
    # Each report was followed by a death, so at most the chunks of a few rollouts are played twice.
    assert pool.spent().simulated - before.simulated < 1.5 * 24 * 80


class Struck:
    """Kills the worker that has just given rollouts away or said how far they are, twice."""

    def __init__(self, receive, kind):
        self.receive, self.kind, self.struck = receive, kind, 0

    def __call__(self, worker):
        answer = self.receive(worker)
        if isinstance(answer, self.kind) and self.struck < 2:
            self.struck += 1
            os.kill(worker.process.pid, signal.SIGKILL)
        return answer


def test_nothing_to_play(pool, random_folder):
    assert pool.play([], random_folder) == []


def test_numbers_of_threads_are_not_left_behind(pool):
    assert os.environ.get("OMP_NUM_THREADS") == "1"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_closing_ends_the_processes(gone):
    with WorkerPool(1, WorkerSettings()) as pool:
        [pid] = pool.processes()
    assert gone(pid)


def test_workers_share_a_scene_that_was_prepared_and_end_with_their_parent(random_folder, blind_env, gone):
    """The parent is killed while its worker plays a rollout without end."""
    script = f"""
        from pathlib import Path
        from sim.rollout import Unit
        from sim.vector import WorkerPool, WorkerSettings
        if __name__ == "__main__":
            pool = WorkerPool(1, WorkerSettings(scene=("libero_object", 0)))
            policy = Path({str(random_folder)!r})
            unit = Unit(suite="libero_object", task=0, init_states=(0,), max_steps=1)
            print(pool.play([unit], policy)[0].state_hashes[0])
            print(pool.processes()[0], flush=True)
            pool.play([Unit(suite="libero_object", task=0, init_states=(0,), max_steps=10**6)], policy)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        start, worker = parent.stdout.readline().strip(), int(parent.stdout.readline())
        parent.kill()
    unit = Unit(suite="libero_object", task=0, init_states=(0,), max_steps=1)
    assert play(blind_env, load(random_folder), unit).state_hashes[0] == start
    assert gone(worker)


@pytest.mark.parametrize("name", ["timeout", "retries"])
def test_settings_have_ranges(name):
    from tgrpo.settings import validated

    with pytest.raises(SettingsError, match=name):
        validated(WorkerSettings(**{name: -1}))


def test_facts_notice_a_difference(expected):
    """The comparison above would see another reward."""
    assert np.ptp([sum(fact[4]) for fact in expected]) > 0
