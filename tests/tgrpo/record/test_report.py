"""The report of a finished run, of one that is not, and of hostile or damaged folders."""

import html.parser
import re
import shutil
from xml.etree import ElementTree

import pytest

from tgrpo.errors import CheckpointError, SettingsError
from tgrpo.record import report, report_text
from tgrpo.record.files import write_json

VOID = {"meta", "br", "img", "link", "input", "hr"}


class _Balance(html.parser.HTMLParser):
    """Finds tags that are not closed and addresses that a browser would load."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def _read(text):
    page = _Balance()
    page.feed(text)
    assert page.open == []
    return page, re.sub(r"\s+", " ", " ".join(page.text))


@pytest.fixture(scope="module")
def finished(finished_run):
    return report.render(finished_run)


def test_headline(finished):
    _, words = _read(finished)
    for expected in (
        "Pick up the cream cheese".lower(),
        "19 of 38 → 29 of 38",
        "The policy improved by 26.3 points: of 38 initial states, 12 are solved only after the training and 2",
        "exact McNemar p = 0.013",
        "12 gained: solved only after the training",
        "2 lost: solved only before it",
        "The training started from states 0 to 11",
        "38 episodes, greedy actions, simulator mode exact, seed 0",
        "7 min 40 s",
    ):
        assert expected in words


def test_it_needs_no_network(finished):
    page, _ = _read(finished)
    assert page.addresses
    assert all(address.startswith("data:video/mp4;base64,") for address in page.addresses)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", finished)
    assert "<script" not in finished
    assert "@import" not in finished
    assert "url(" not in finished


def test_every_chart_is_well_formed(finished):
    pictures = re.findall(r"<svg.*?</svg>", finished, flags=re.DOTALL)
    assert len(pictures) > 15
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_grid_and_stages(finished):
    _, words = _read(finished)
    assert finished.count('class="gained"') == 12
    assert finished.count('class="lost"') == 2
    assert "initial state 14: gained" in finished
    for name in ("approach", "grasp", "move", "place", "done"):
        assert name in words


def test_settings_and_provenance(finished):
    _, words = _read(finished)
    assert "group_size: 8" in words
    assert "run 7" in words
    assert "numpy" in words


def test_unfinished_run_says_so(unfinished_run):
    page, words = _read(report.render(unfinished_run))
    assert "unfinished, iteration 7 of 40" in words
    assert "there is nothing to conclude" in words
    assert "improved" not in words
    assert "not solved before the training" in words
    assert page.addresses == []


def test_a_run_that_has_only_begun(tmp_path):
    (tmp_path / "settings.yaml").write_text("suite: libero_goal\ntask: 3\n")
    _, words = _read(report.render(tmp_path))
    assert "libero_goal, task 3" in words
    assert "No evaluation has been made yet" in words


def test_failed_run_shows_its_error(tmp_path):
    (tmp_path / "settings.yaml").write_text("suite: libero_goal\n")
    write_json(tmp_path / "status.json", {"state": "failed", "iteration": 2, "iterations": 9, "message": "disk full"})
    assert "failed at iteration 2 of 9: disk full" in report.render(tmp_path)


def test_names_cannot_inject_markup(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    summary = report.read_run(run).summary
    write_json(run / "summary.json", {**summary, "task_name": "<script>alert(1)</script>"})
    text = report.render(run)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_videos_without_description_are_shown(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    for side in (run / "videos").glob("*.json"):
        side.unlink()
    (run / "videos" / "before_task1_init14.mp4").rename(run / "videos" / "before_state14_success.mp4")
    text = report.render(run)
    assert text.count("<video") == 4
    _read(text)


def test_big_videos_are_linked(finished_run, monkeypatch):
    monkeypatch.setattr(report, "_EMBED_LIMIT", 0)
    page, _ = _read(report.render(finished_run))
    assert sorted(page.addresses)[0] == "videos/after_task1_init14.mp4"


def test_no_run_folder(tmp_path):
    with pytest.raises(SettingsError, match="is not a run folder"):
        report.render(tmp_path)


def test_damaged_json_is_named(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "eval_after.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"eval_after\.json: not valid JSON"):
        report.render(run)


def test_command(finished_run, tmp_path, capsys):
    assert report.main([str(finished_run), "--output", str(tmp_path / "a.html")]) == 0
    assert "a.html" in capsys.readouterr().out
    assert (tmp_path / "a.html").stat().st_size < 1_000_000
    assert report.write(finished_run) == finished_run / "report.html"


def test_words():
    assert report_text.states_text([5, 0, 1, 2]) == "0 to 2, 5"
    assert report_text.states_text([]) == ""
    assert [report_text.duration(s) for s in (9, 60, 460, 7300)] == ["9 s", "1 min 0 s", "7 min 40 s", "2 h 1 min"]
    assert report_text.info_from_name("before_state07_success").init_state == 7
    info = report_text.info_from_name("after_task3_init12")
    assert (info.label, info.task, info.init_state, info.success) == ("after", 3, 12, False)
