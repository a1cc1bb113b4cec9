"""Curves of groups: which epochs they have, and that any name can be read in the figure."""

import re

import pytest
from made_runs import MAP, R1, make_run
from matplotlib.figure import Figure

from programs.results import curves
from programs.results.comparison import Comparison, compare
from programs.results.runs import find
from utilities.errors import UserError

ODD = "guided $x_1$ & <b> | 100% 狗"


@pytest.fixture
def compared(tmp_path) -> Comparison:
    for seed in range(2):
        make_run(tmp_path, "base", seed, {R1: [0.1 + seed / 10, 0.4, 0.5], MAP: [0.1, 0.2, 0.3]})
        make_run(tmp_path, ODD, seed, {R1: [0.3, 0.6, 0.7, 0.8]}, every=2)
    make_run(tmp_path, "one", 10, {R1: [0.7]})
    return compare(find([tmp_path]), "base")


def test_a_band_is_mean_and_deviation_at_the_group_s_own_epochs(compared):
    base, one, odd = compared.groups[0], compared.groups[2], compared.groups[1]
    recall = compared.metrics[0]
    band, missing = curves.measured_in_all(base, recall, "Test")
    assert band.epochs == [1, 2, 3] and band.means == pytest.approx([0.15, 0.4, 0.5])
    assert band.deviations == pytest.approx([0.1 / 2**0.5, 0, 0]) and not missing
    assert curves.measured_in_all(odd, recall, "Test")[0].epochs == [2, 4, 6, 8]
    assert curves.measured_in_all(one, recall, "Test") == (([1], [0.7], [0.0]), [])


def test_seeds_of_other_epochs_meet_where_all_were_measured(tmp_path):
    make_run(tmp_path, "a", 0, {R1: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    make_run(tmp_path, "a", 1, {R1: [0.4, 0.6]}, every=2)
    no_table, damaged = (make_run(tmp_path, "a", seed, {R1: [0.5]}) for seed in (2, 3))
    (no_table / "CSV_Logs" / "Data_Test_embeds_e_recall.csv").unlink()
    (damaged / "CSV_Logs" / "Data_Test_embeds_e_recall.csv").write_text("epoch,e_recall@1\n1,x")
    compared = compare(find([tmp_path]))
    band, missing = curves.measured_in_all(compared.groups[0], compared.metrics[0], "Test")
    assert band.epochs == [2, 4] and band.means == pytest.approx([0.3, 0.5])
    assert missing[0] == f"{no_table} has no curve of e_recall@1."
    assert "a_s3/CSV_Logs/Data_Test_embeds_e_recall.csv of a run cannot be read" in missing[1]
    assert missing[2:] == [
        "shapes/a: the curve of e_recall@1 has the 2 epochs that all its seeds have, of 6 that "
        "any has.",
    ]


@pytest.mark.parametrize(
    "suffix, begins", [(".pdf", b"%PDF"), (".svg", b"<?xml"), (".png", b"\x89PNG")]
)
def test_a_figure_is_written(compared, tmp_path, suffix, begins):
    file = tmp_path / f"curves{suffix}"
    file.write_text("of before")
    assert curves.draw(compared, file) == []
    assert file.read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [file.name]


def test_all_names_are_in_the_legend_as_they_are(compared, tmp_path):
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        curves.draw(compared, tmp_path / "curves.svg")
    words = re.findall(r"<text[^>]*>(.*?)</text>", (tmp_path / "curves.svg").read_text(), re.S)
    assert {"base", "one", "shapes, Test", "epoch", "e_recall@1 (%)"} <= set(words)
    assert any(word.startswith("guided $x_1$ &amp; &lt;b&gt; | 100% ") for word in words)


def test_many_groups_are_told_apart(tmp_path):
    for number in range(16):
        make_run(tmp_path, f"group{number}", 0, {R1: [0.1, number / 20]})
    drawn: list[tuple[object, object]] = []

    def keep(axes, metric, band, number):
        line = draw_band(axes, metric, band, number)
        drawn.append((line.get_color(), line.get_linestyle()))
        return line

    draw_band = curves._draw_band
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(curves, "_draw_band", keep)
        curves.draw(compare(find([tmp_path])), tmp_path / "curves.png")
    assert len(drawn) == len(set(drawn)) == 16


def test_a_full_disk_is_a_sentence_and_leaves_what_was(compared, tmp_path, monkeypatch):
    file = tmp_path / "curves.png"
    file.write_text("of before")

    def full(figure, path, **ignored):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(UserError, match=r"curves.png cannot be written \(No space left"):
        curves.draw(compared, file)
    assert file.read_text() == "of before" and len(list(tmp_path.glob("*.png"))) == 1
