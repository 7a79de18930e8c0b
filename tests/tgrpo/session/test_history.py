"""What a session goes on with: its folder decides, also after a kill."""

import os

import msgspec
import pytest

from tests.tgrpo.record.episodes import info
from tgrpo.errors import SettingsError
from tgrpo.record.recorder import RecorderSettings
from tgrpo.session import history
from tgrpo.session import plan as plans
from tgrpo.session.plan import Plan, PlannedPolicy, PlannedTask

PLAN = Plan(
    policies=(PlannedPolicy(name="old"), PlannedPolicy(name="new")),
    tasks=(PlannedTask(instruction="put the bowl on the plate", suite="libero_spatial", starts=(3, 5)),),
    episodes=2,
)
QUICK = RecorderSettings(reserve_mb=0)


def play(session, outcome):
    """Records the next episode of the plan and says which one it was."""
    chosen = plans.upcoming(PLAN, history.played(session.path))
    known = history.episode_info(PLAN, chosen, version="v1", rate=20.0, scale=0.05, robot="simulation", operator="")
    session.begin(known).close(outcome)
    return chosen


def test_it_goes_on_with_what_is_left(tmp_path):
    path = tmp_path / "session"
    with history.open_session(path, PLAN, QUICK) as session:
        first = play(session, "success")
        broken = play(session, "infrastructure")
    with history.open_session(path, PLAN, QUICK) as session:
        again = play(session, "failure")
        rest = [play(session, "success") for _ in range(2)]
    assert again.slot == broken.slot
    assert again.attempt == 2
    assert [one.slot.number for one in (first, broken, *rest)] == [0, 1, 2, 3]
    assert plans.upcoming(PLAN, history.played(path)) is None
    assert [one.outcome for one in history.played(path)] == [
        "success", "infrastructure", "failure", "success", "success",
    ]  # fmt: skip


def test_an_episode_that_a_kill_left_open_is_closed_and_played_again(tmp_path):
    path = tmp_path / "session"
    session = history.open_session(path, PLAN, QUICK)
    chosen = plans.upcoming(PLAN, [])
    recorder = session.begin(history.episode_info(PLAN, chosen, version="", rate=20.0, scale=0.05))
    recorder.event("note", "alive")
    os.close(session._lock)  # what the end of a killed process does
    session._lock = None
    with history.open_session(path, PLAN, QUICK) as resumed:
        assert [result.outcome for _, result in resumed.recovered] == ["interrupted"]
        assert plans.upcoming(PLAN, history.played(path)).slot == chosen.slot


def test_another_plan_is_refused_and_the_folder_is_free_again(tmp_path):
    path = tmp_path / "session"
    history.open_session(path, PLAN, QUICK).close()
    other = msgspec.structs.replace(PLAN, episodes=3)
    with pytest.raises(SettingsError, match="started with another plan"):
        history.open_session(path, other, QUICK)
    history.open_session(path, PLAN, QUICK).close()


def test_what_is_known_of_an_episode_comes_from_the_plan():
    grouped = msgspec.structs.replace(PLAN, group=2, episodes=4, temperature=0.5)
    slots = plans.order(grouped)
    infos = [history.episode_info(grouped, plans.Next(s, 1), version="v", rate=20.0, scale=0.05) for s in slots]
    mine = [(one.pair, one.group, slot.start) for one, slot in zip(infos, slots, strict=True) if one.policy == "old"]
    assert mine == [(0, 0, 3), (1, 0, 3), (2, 1, 5), (3, 1, 5)]
    assert info().group is None
    assert (
        history.episode_info(PLAN, plans.Next(plans.order(PLAN)[0], 1), version="", rate=20.0, scale=0.05).group is None
    )


def test_a_group_without_a_temperature_is_refused():
    with pytest.raises(SettingsError, match="temperature"):
        plans.check(msgspec.structs.replace(PLAN, group=2))


def test_an_episode_whose_header_is_damaged_is_played_again(tmp_path):
    session = history.open_session(tmp_path / "session", PLAN, QUICK)
    first = play(session, "success")
    (session.episodes()[0] / "episode.json").write_text("{")
    assert play(session, "success").slot == first.slot
    assert play(session, "success").slot != first.slot
    session.close()
