"""The order of an evaluation, what is left of it after a crash, and when it is enough."""

import dataclasses

import msgspec
import pytest

from tgrpo.errors import SettingsError
from tgrpo.session import plan as plans
from tgrpo.session.plan import Plan, PlannedPolicy, PlannedTask, Played, load, order, upcoming

TASKS = (
    PlannedTask(instruction="pick up the bowl", suite="table", task=0, starts=(3, 5)),
    PlannedTask(instruction="open the drawer", suite="table", task=4),
)
PLAN = Plan(policies=(PlannedPolicy(name="old"), PlannedPolicy(name="new")), tasks=TASKS, episodes=4, seed=1)


def changed(**keywords):
    return msgspec.structs.replace(PLAN, **keywords)


def played(slot, outcome="success", plan=PLAN):
    task = plan.tasks[slot.task]
    return Played(plan.policies[slot.policy].name, task.suite, task.task, slot.pair, outcome)


def run(plan, outcome_of, most=100):
    """Plays until the plan is done; what was played, and the attempt of each."""
    done, attempts = [], []
    while (following := upcoming(plan, done)) is not None and len(done) < most:
        done.append(played(following.slot, outcome_of(following, len(done)), plan))
        attempts.append(following.attempt)
    return done, attempts


def test_each_policy_plays_each_task_from_the_same_starts():
    slots = order(PLAN)
    assert len(slots) == 4 * 2 * 2
    assert [slot.number for slot in slots] == list(range(16))
    of = {
        (s.task, s.policy): [(x.pair, x.start) for x in slots if (x.task, x.policy) == (s.task, s.policy)]
        for s in slots
    }
    assert of[0, 0] == of[0, 1] == [(0, 3), (1, 5), (2, 3), (3, 5)]
    assert of[1, 0] == of[1, 1] == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_both_policies_of_a_pair_follow_each_other_and_each_goes_first_as_often():
    slots = order(PLAN)
    couples = list(zip(slots[::2], slots[1::2], strict=True))
    assert all((a.task, a.pair, a.policy + b.policy) == (b.task, b.pair, 1) for a, b in couples)
    for first in range(0, len(couples), 2):
        assert sorted(a.policy for a, _ in couples[first : first + 2]) == [0, 1]
    firsts = {seed: tuple(a.policy for a in order(changed(seed=seed))[::2]) for seed in range(8)}
    assert len(set(firsts.values())) > 1
    assert order(PLAN) == order(PLAN)


def test_one_policy_alone():
    slots = order(changed(policies=PLAN.policies[:1], episodes=2))
    assert [(slot.task, slot.pair, slot.policy) for slot in slots] == [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)]


def test_a_session_goes_on_where_it_was():
    done, attempts = run(PLAN, lambda following, count: "failure" if count % 3 else "success")
    assert [(d.policy, d.task, d.pair) for d in done] == [
        (PLAN.policies[s.policy].name, PLAN.tasks[s.task].task, s.pair) for s in order(PLAN)
    ]
    assert attempts == [1] * 16
    for count in range(16):
        assert upcoming(PLAN, done[:count]).slot.number == count


def test_an_attempt_that_says_nothing_is_repeated_as_such_and_not_for_ever():
    broken = {0: "infrastructure", 2: "aborted", 3: "interrupted"}
    done, attempts = run(PLAN, lambda following, count: broken.get(count, "success"))
    assert attempts[:6] == [1, 2, 1, 2, 1, 1]
    assert len(done) == 2 + 2 + 14  # the second slot was given up after two attempts
    assert run(changed(attempts=1), lambda following, count: "infrastructure")[1] == [1] * 16


def test_a_failure_is_never_repeated():
    assert run(PLAN, lambda following, count: "failure")[1] == [1] * 16


def test_it_is_enough_when_the_evidence_is():
    """Six pairs that only the second policy solves: E = 2^7 B(7, 1) (1 - 2^-7) = 18.14; with seven 31.875."""

    def second_wins(following, count):
        return "success" if following.slot.policy else "failure"

    plan = changed(episodes=20, stop_early=True)
    done, _ = run(plan, second_wins)
    assert len(done) == 14
    assert plans.decided(plan, done) == (7, "better")
    assert plans.decided(plan, done[:13]) is None
    assert (
        len(run(changed(episodes=20), lambda following, count: "success" if following.slot.policy else "failure")[0])
        == 80
    )


def test_pairs_count_the_first_of_repeated_episodes_and_nothing_uncounted():
    rows = [("old", 0, "infrastructure"), ("old", 0, "failure"), ("new", 0, "success"), ("new", 0, "failure")]
    rows += [("other", 1, "success"), ("new", 1, "success"), ("old", 1, "interrupted")]
    found = [Played(policy, "table", 0, pair, outcome) for policy, pair, outcome in rows]
    assert plans.pairs(PLAN, found) == [(False, True)]


def test_who_labels_learns_nothing():
    assert {plans.alias(PLAN, number) for number in range(16)} == {f"episode {number}" for number in range(16)}
    assert plans.alias(changed(blind=False), 0) in ("old", "new")


def test_a_plan_is_read(tmp_path):
    file = tmp_path / "plan.yaml"
    file.write_text(
        "policies: [{name: tiny}]\nepisodes: 2\n"
        "tasks:\n- {instruction: pick up the milk, starts: [25, 26], time_limit: 20}\n"
    )
    plan = load(file)
    assert plan.tasks[0].starts == (25, 26)
    assert plans.of_session(msgspec.to_builtins(plan)) == plan


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("{policies: [{name: a}, {name: a}], episodes: 1, tasks: [{instruction: b}]}", "two policies are called 'a'"),
        ("{policies: [{name: a}], episodes: 1, tasks: [{instruction: b}, {instruction: c}]}", "two tasks"),
        ("{policies: [{name: a}], episodes: 1, tasks: [{instruction: b}], stop_early: true}", "name a second one"),
        ("{policies: [{name: a}], episodes: 0, tasks: [{instruction: b}]}", "episodes"),
        ("{policies: [{name: a}], episodes: 1, tasks: [{instruction: b, limit: 3}]}", "unknown field `limit`"),
        ("{policies: [], episodes: 1, tasks: [{instruction: b}]}", "policies"),
        ("{policies: [{name: a}], episodes: 1, tasks: [{instruction: b, starts: []}]}", "starts"),
    ],
)
def test_what_a_plan_must_not_say(tmp_path, change, match):
    file = tmp_path / "plan.yaml"
    file.write_text(change)
    with pytest.raises(SettingsError, match=match):
        load(file)


def test_a_session_without_a_plan():
    with pytest.raises(SettingsError, match="without a plan"):
        plans.of_session({})


def test_slots_are_values():
    assert dataclasses.replace(order(PLAN)[0]) == order(PLAN)[0]
