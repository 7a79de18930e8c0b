"""Charts are well-formed SVG whose marks lie where the numbers say."""

import re
from xml.etree import ElementTree

import pytest

from tgrpo.record import charts
from tgrpo.record.charts import Series

SVG = "{http://www.w3.org/2000/svg}"


def _parse(text):
    return ElementTree.fromstring(text)


def _circles(text):
    return [(float(item.get("cx")), float(item.get("cy"))) for item in _parse(text).iter(f"{SVG}circle")]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1.0]),
        (0, 40, [0, 10, 20, 30, 40]),
        (3, 17, [0, 5, 10, 15, 20]),
        (0.0013, 0.0049, [0.001, 0.002, 0.003, 0.004, 0.005]),
        (5, 5, [2, 4, 6, 8]),
        (0, 0, [0, 0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_ticks_are_round_and_cover(low, high, ticks):
    assert charts.nice_ticks(low, high) == pytest.approx(ticks)


def test_smoothing():
    assert charts.smooth([0.0, 0.0, 5.0, 0.0, 0.0]) == pytest.approx([0.0, 5 / 3, 1.0, 5 / 3, 0.0])
    assert charts.smooth([1.0, 2.0, 3.0, 4.0]) == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert charts.smooth([]) == []


def test_points_lie_on_the_scale():
    svg = charts.line_chart([Series("a", [0, 10], [0.0, 1.0])], percent=True)
    (left, bottom), (right, top) = _circles(svg)
    assert (left, right) == (52, 350)
    assert (bottom, top) == (190 - 24, 8)


def test_missing_values_leave_a_gap():
    svg = charts.line_chart([Series("a", [1, 2, 3], [0.5, None, float("nan")])])
    assert len(_circles(svg)) == 1
    assert charts.line_chart([Series("a", [1], [None])]) == ""
    assert charts.line_chart([]) == ""


def test_long_curves_are_smoothed_and_keep_their_points():
    svg = charts.line_chart([Series("a", list(range(30)), [float(i % 2) for i in range(30)])])
    classes = [line.get("class") for line in _parse(svg).iter(f"{SVG}polyline")]
    assert classes == ["raw", "curve"]
    assert len(_circles(svg)) == 30


def test_markers_have_bars():
    svg = charts.line_chart([Series("a", [0, 5], [0.4, 0.6], intervals=[(0.2, 0.6), (0.4, 0.8)])], percent=True)
    bars = [line for line in _parse(svg).iter(f"{SVG}line") if line.get("class") == "bar"]
    heights = [float(bar.get("y2")) - float(bar.get("y1")) for bar in bars]
    assert heights == pytest.approx([0.4 * 158, 0.4 * 158], abs=0.2)


def test_intervals():
    svg = charts.interval_chart([("before", 0.5, (0.25, 0.75)), ("after", 1.0, (0.9, 1.0))])
    assert [x for x, _ in _circles(svg)] == [58 + 0.5 * 348, 58 + 348]
    assert "before: 50.0 % (25.0 to 75.0 %)" in svg


def test_timeline_shows_each_stretch():
    svg = charts.timeline([0, 0, 1, 1, 1, 2], ["reach", "grasp"], total=12)
    tips = [item.text for item in _parse(svg).iter(f"{SVG}title")]
    assert tips == ["reach: steps 0 to 1", "grasp: steps 2 to 4", "done: steps 5 to 5"]
    widths = [float(item.get("width")) for item in _parse(svg).iter(f"{SVG}rect")]
    assert widths == [300, 50, 75, 25]
    assert charts.timeline([], []) == ""


def test_names_cannot_inject_markup():
    for svg in (
        charts.line_chart([Series("<b>&", [1], [1.0])], label='"<x>'),
        charts.interval_chart([("<b>", 0.5, (0, 1))]),
        charts.timeline([0], ["<b>"]),
    ):
        _parse(svg)
        assert "<b>" not in svg


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (12.0, "12"),
        (0.25, "0.25"),
        (-0.01, "-0.01"),
        (0.0005, "5e-4"),
        (250000.0, "2.5e5"),
        (1234.5, "1234"),
    ],
)
def test_numbers_are_short(value, text):
    assert charts.number(value) == text


def test_percent():
    assert charts.number(0.125, percent=True) == "12.5 %"


def test_powers_of_ten_cover_the_range():
    assert charts.powers_of_ten(0.08, 30) == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert charts.powers_of_ten(1, 1) == pytest.approx([1, 10])
    assert len(charts.powers_of_ten(1e-12, 1e12)) <= 8


def test_logarithmic_axis_spaces_ratios_equally():
    svg = charts.line_chart([charts.Series("e", [0, 1, 2], [1, 10, 100])], log=True, x_name="pair")
    heights = [float(y) for y in re.findall(r'<circle[^>]* cy="([\d.]+)"', svg)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.11)
    assert "pair" in svg
    assert "iteration" not in svg
