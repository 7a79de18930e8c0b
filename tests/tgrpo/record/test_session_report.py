"""The numbers of a session, its report, and the verification that finds every changed number."""

import json
import re

import numpy as np
import pytest

from tests.tgrpo.record.episodes import info, paired_session, write_session
from tgrpo.errors import SettingsError
from tgrpo.record import report, session_numbers, session_page
from tgrpo.record.episode import MCAP
from tgrpo.record.sequential import e_value
from tgrpo.record.session import closed_episodes
from tgrpo.record.stats import mcnemar_exact, wilson

OLD, NEW = "0101010101", "1111101111"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return paired_session(tmp_path_factory.mktemp("sessions") / "session", OLD, NEW)


@pytest.fixture(scope="module")
def numbers(session):
    return session_numbers.of_session(session)


def policy(numbers, name):
    return next(one for one in numbers["policies"] if one["name"] == name)


def test_success_rates_count_evaluation_episodes_only(numbers):
    old, new = policy(numbers, "old v1"), policy(numbers, "new v1")
    assert (old["successes"], old["n"], new["successes"], new["n"]) == (5, 10, 9, 10)
    assert new["wilson"] == list(wilson(9, 10))
    assert new["tasks"][0]["name"] == "put_the_bowl_on_the_plate"
    assert old["failures"] == {"dropped the bowl": 5}


def test_infrastructure_failures_are_apart(numbers):
    assert numbers["episodes"]["begun"] == numbers["episodes"]["closed"] == 30
    assert numbers["episodes"]["outcomes"] == {"success": 22, "failure": 6, "infrastructure": 1, "aborted": 1}
    assert [(one["episode"], one["reason"]) for one in numbers["episodes"]["not_counted"]] == [
        (28, "camera unplugged"),
        (29, "operator: scene was wrong"),
    ]


def test_comparison_is_paired_with_the_path_of_its_e_value(numbers):
    (one,) = numbers["comparisons"]
    assert (one["baseline"], one["policy"], one["paired"]) == ("old v1", "new v1", True)
    assert (one["pairs"], one["gained"], one["lost"]) == (10, 5, 1)
    assert one["mcnemar_p"] == mcnemar_exact(5, 1)
    assert one["e_better"][-1] == e_value(5, 1)
    assert one["e_better"][:2] == [e_value(1, 0), e_value(1, 0)]
    assert one["verdict"] == "undecided"


def test_interventions_over_the_session(numbers):
    found = numbers["interventions"]
    assert found["total"] == 7
    assert found["first_half"] == {"interventions": 6, "episodes": 4}
    assert found["second_half"] == {"interventions": 1, "episodes": 4}
    assert found["halves_p"] == pytest.approx(2 * 8 / 128)
    assert sum(block["interventions"] for block in found["blocks"]) == 7
    last = found["blocks"][-1]
    assert last["interval"][0] <= last["per_episode"] <= last["interval"][1]


def test_stages_times_and_motion(numbers):
    stages = policy(numbers, "old v1")["tasks"][0]["stages"]
    found = [(stage["name"], stage["successes"], stage["n"]) for stage in stages]
    assert found == [("grasp", 10, 10), ("place", 5, 10)]
    assert policy(numbers, "old v1")["seconds_to_success"]["median"] == pytest.approx(0.95)
    assert policy(numbers, "old v1")["lag"]["median"] == pytest.approx(0.1, abs=0.02)
    assert policy(numbers, "old v1")["latency_p50"]["median"] == pytest.approx(0.01)
    assert numbers["safety"]["holds"] == {"stale_frame": {"count": 2, "seconds": pytest.approx(0.1), "episodes": 2}}


def test_help_is_no_success_and_a_repetition_does_not_count(tmp_path):
    episodes = [
        (info(pair=0), "success", {"human": (3, 4)}),
        (info(pair=1), "failure", {}),
        (info(pair=1), "success", {}),
        (info(pair=2), "infrastructure", {"steps": 0}),
        (info(pair=2), "success", {}),
    ]
    numbers = session_numbers.of_session(write_session(tmp_path / "session", episodes))
    (one,) = numbers["policies"]
    assert (one["successes"], one["n"], one["assisted"]) == (1, 3, 1)
    text = " ".join(numbers["warnings"])
    assert "episodes 2 repeat a start state" in text
    assert "episodes 0 a human took over" in text


def test_policies_without_shared_start_states_are_compared_in_blocks(tmp_path):
    episodes = [
        (info(policy=name, pair=None), "success" if bit == "1" else "failure", {"steps": 3, "stages": ()})
        for a, b in zip(OLD, "1111111111", strict=True)
        for name, bit in (("old", a), ("new", b))
    ]
    (one,) = session_numbers.of_session(write_session(tmp_path / "session", episodes, baseline="old"))["comparisons"]
    assert not one["paired"]
    assert one["e_better"][-1] == pytest.approx(7.6766, abs=5e-5)
    assert one["difference"] == pytest.approx(0.5)
    assert "no shared start states" in session_page._verdict(one, 20)


def test_an_empty_session_has_a_report(tmp_path):
    path = write_session(tmp_path / "session", [])
    assert report.main([str(path)]) == 0
    assert session_page.verify(path) == []


@pytest.fixture(scope="module")
def page(session):
    return session_page.write(session).read_text()


def test_report_is_complete_and_loads_nothing(page):
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    for words in (
        "5/10",
        "9/10",
        "No difference between new v1 and old v1 can be claimed yet",
        "exact McNemar p 0.219",
        "dropped the bowl (5)",
        "camera unplugged",
        "hold: stale_frame",
        "e-values of new v1 against old v1",
        "pair 6",
    ):
        assert words in page
    assert page.count("<video") == 8


def test_report_verifies(session, page, capsys):
    assert page
    assert report.main([str(session), "--verify"]) == 0
    assert "every number" in capsys.readouterr().out


def leaves(value, place=()):
    """Paths to all numbers of a JSON value."""
    if isinstance(value, dict):
        return [leaf for name, one in value.items() for leaf in leaves(one, (*place, name))]
    if isinstance(value, list):
        return [leaf for index, one in enumerate(value) for leaf in leaves(one, (*place, index))]
    return [place] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def test_every_changed_number_is_found(numbers):
    """One number after the other is changed by a thousandth."""
    places = leaves(numbers)
    assert len(places) > 400
    rng = np.random.default_rng(7)
    for index in rng.choice(len(places), 150, replace=False):
        changed = json.loads(json.dumps(numbers))
        *way, last = places[index]
        holder = changed
        for name in way:
            holder = holder[name]
        holder[last] = holder[last] * 1.001 + 1e-6
        assert len(session_page.differences(changed, numbers)) == 1


def test_an_edited_page_is_found(session, page, tmp_path, capsys):
    edited = tmp_path / "edited.html"
    edited.write_text(page.replace("9/10", "10/10"))
    assert "text of the report" in session_page.verify(session, edited)[0]
    edited.write_text(page.replace('"successes": 9', '"successes": 10', 1))
    assert report.main([str(session), "--verify", "--output", str(edited)]) == 1
    assert "the report says 10, the files give 9" in capsys.readouterr().out
    edited.write_text("<html></html>")
    with pytest.raises(SettingsError, match="carries no numbers"):
        session_page.verify(session, edited)
    with pytest.raises(SettingsError, match="no such file"):
        session_page.verify(session, tmp_path / "none.html")


def test_a_damaged_episode_is_named_and_in_no_number(tmp_path, caplog):
    outcomes = ["success", "failure", "success"]
    made = [(info(pair=pair), outcome, {"steps": 5}) for pair, outcome in enumerate(outcomes)]
    path = write_session(tmp_path / "session", made)
    file = closed_episodes(path)[2] / MCAP
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    assert report.main([str(path)]) == 0
    assert "checksum differs" in caplog.text
    numbers = session_numbers.of_session(path)
    episodes, (policy,) = numbers["episodes"], numbers["policies"]
    assert (episodes["begun"], episodes["closed"], episodes["outcomes"]) == (3, 3, {"success": 1, "failure": 1})
    assert [one["episode"] for one in episodes["damaged"]] == [2]
    assert (policy["successes"], policy["n"]) == (1, 2)
    assert [warning for warning in numbers["warnings"] if "recover" in warning and "begun" in warning] == []
    page = (path / "report.html").read_text()
    assert "Episode 2 is damaged and in no number: episodes/000002" in page
    assert session_page.verify(path) == []
    moved = path.rename(tmp_path / "moved")
    assert session_page.verify(moved) == []
    # Repaired or damaged after the report was written: the report is not what the files give.
    data[len(data) // 2] ^= 4
    (closed_episodes(moved)[2] / MCAP).write_bytes(data)
    assert any("damaged" in line for line in session_page.verify(moved))


def test_simulation_beside_the_robot(tmp_path, evaluation):
    path = write_session(tmp_path / "session", [(info(pair=0), "success", {"steps": 5})])
    file = tmp_path / "eval.json"
    file.write_text(json.dumps(evaluation("1110", task=0, suite="libero_spatial")))
    report.main([str(path), "--simulation", str(file)])
    page = (path / "report.html").read_text()
    assert "simulation: 3/4" in page
    assert session_page.verify(path) == []


def test_names_from_outside_are_escaped(tmp_path):
    nasty = "</script><script>alert(1)</script>"
    path = write_session(tmp_path / "session", [(info(policy=nasty), "failure", {"steps": 3, "reason": nasty})])
    page = session_page.write(path).read_text()
    assert "<script>alert" not in page
    assert session_page.verify(path) == []


def test_options_that_need_a_session(finished_run):
    with pytest.raises(SettingsError, match="is no session"):
        report.main([str(finished_run), "--verify"])
