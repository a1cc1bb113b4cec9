"""Where lines, marks and labels of a chart stand."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from programs.page import chart
from programs.page.chart import Chart, Series

FINITE = some.floats(-1e8, 1e8)


def points(path: str) -> list[tuple[float, float]]:
    pairs = (point.split() for point in path.strip("MZ").split("L"))
    return [(float(across), float(along)) for across, along in pairs]


def test_values_stand_where_the_labels_say():
    drawing = chart.drawn(Chart("R", [Series("a", [1, 2, 3], [0.2, 0.4, 0.3])]))
    labels = {float(tick.label): tick.place for tick in drawing.along}
    places = [along for _, along in points(drawing.lines[0].path)]
    assert places == pytest.approx([labels[0.2], labels[0.4], labels[0.3]])
    assert [tick.label for tick in drawing.across] == ["1", "2", "3"]
    assert drawing.columns == [tick.place for tick in drawing.across]
    assert places[1] < places[0]  # larger is higher


@given(FINITE, FINITE, some.integers(3, 8))
@example(0.0, 5e-324, 3)
@example(-1e-322, 1e-310, 8)
def test_ticks_are_round_and_reach_around(one, other, most):
    low, high = sorted((one, other))
    found = chart.ticks(low, high, most)
    step = found[1] - found[0]
    slack = 1e-6 * max(step, abs(low), abs(high))
    assert found[0] <= low + slack and found[-1] >= high - slack and 2 <= len(found) <= most + 2
    leading = step / 10 ** math.floor(math.log10(step * (1 + 1e-6)))
    assert min(abs(leading - round_one) for round_one in (1, 2, 5)) < 1e-3


def test_ticks_of_epochs_are_whole():
    assert chart.ticks(1, 4, 6, whole=True) == [1, 2, 3, 4]
    assert chart.ticks(1, 100, 6, whole=True) == [0, 20, 40, 60, 80, 100]
    assert all(tick == round(tick) for tick in chart.ticks(1, 7, 6, whole=True))


@pytest.mark.parametrize("values", [[0.5], [0.0], [-3.0], [1e-7], [4e9]])
def test_a_single_value_is_drawn(values):
    drawing = chart.drawn(Chart("R", [Series("a", [7], values)]))
    ((across, along),) = drawing.lines[0].marks
    assert chart.LEFT <= across <= chart.WIDTH and 0 < along < chart.HEIGHT - chart.BOTTOM
    assert [tick.label for tick in drawing.across] == ["7"]


def test_lines_of_other_epochs_share_a_readout():
    drawing = chart.drawn(Chart("R", [Series("a", [1, 3], [0.25, 0.5]), Series("b", [2], [0.125])]))
    assert drawing.readout["epochs"] == [1, 2, 3]
    assert drawing.readout["cells"] == [["0.2500", "-", "0.5000"], ["-", "0.1250", "-"]]
    assert drawing.summary == "R, epochs 1 to 3: a ends at 0.5000; b ends at 0.1250."


def test_a_band_reaches_around_its_line():
    drawing = chart.drawn(Chart("R", [Series("a", [1, 2], [0.3, 0.4], [0.2, 0.3], [0.4, 0.6])]))
    line = drawing.lines[0]
    upper, lower = points(line.band)[:2], points(line.band)[2:][::-1]
    for (_, top), (_, middle), (_, bottom) in zip(upper, points(line.path), lower):
        assert top < middle < bottom
    assert line.cells[2] == "0.4000 (0.3000 to 0.6000)"


def test_what_has_no_value_is_not_drawn():
    assert chart.drawn(Chart("R", [Series("a", [], [])])) is None


def test_tables_of_long_runs_keep_the_first_and_the_last_epoch():
    epochs = list(range(1, 1001))
    drawing = chart.drawn(Chart("R", [Series("a", epochs, [0.5] * 1000)]))
    assert len(drawing.rows) == chart.MOST_ROWS and drawing.rows[0] == 1
    assert drawing.rows[-1] == 1000 and not drawing.lines[0].marks
    assert len(drawing.readout["cells"][0]) == 1000
