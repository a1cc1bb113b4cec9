"""Figures of a split: what they choose, and that they show something."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import main
from evaluation import Protocol, figures

MEMORY = 2**26


def space(
    classes: int = 5, each: int = 8, spread: float = 0.1, dim: int = 6
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings around a centre of each class, and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(each)
    centres = torch.randn(classes, dim, generator=generator)
    noise = torch.randn(len(labels), dim, generator=generator)
    return centres[labels] + spread * noise, labels


def picture(row: int) -> Image.Image:
    return Image.new("RGB", (20 + row % 7, 24), (row % 256, 2 * row % 256, 99))


def colours(file: Path) -> int:
    with Image.open(file) as image:
        return len(image.convert("RGB").getcolors(2**24))


@pytest.mark.parametrize("classes, each", [(2, 2), (1, 3), (3, 1), (45, 3)])
def test_all_are_drawn_for_any_split(tmp_path, classes, each):
    rows, labels = space(classes, each)
    shown = figures.shown_classes(labels)
    texts = torch.nn.functional.normalize(rows[shown], dim=1)
    files = figures.draw(
        tmp_path / "Figures",
        rows,
        Protocol(labels),
        [f"class {label}" for label in range(classes)],
        picture,
        text_vectors=texts,
        memory=MEMORY,
    ).files
    drawn = {"projection", "class_similarity"} | ({"retrieval"} if each > 1 else set())
    assert files.keys() == drawn
    written = {file.name for file in (tmp_path / "Figures").iterdir()}
    assert written == {f"{name}.png" for name in files}
    assert len(shown) == min(classes, figures.CLASSES)
    assert all(colours(file) > 50 for file in files.values())


def test_a_collapsed_space_is_drawn_too(tmp_path):
    labels = torch.arange(3).repeat_interleave(5)
    files = figures.draw(
        tmp_path / "Figures",
        torch.ones(15, 4),
        Protocol(labels),
        ["a", "b", "c"],
        picture,
        text_vectors=None,
        memory=MEMORY,
    ).files
    assert files.keys() == {"retrieval", "projection"}


@pytest.mark.parametrize("there_before", [False, True])
def test_a_figure_of_which_there_is_nothing_goes(tmp_path, there_before):
    """As that of language, where a run goes on without guidance."""
    file = tmp_path / "class_similarity.png"
    if there_before:
        file.touch()
    assert figures.attempted(lambda file: None, file) is None
    assert not file.exists()


def test_extreme_queries_are_the_best_and_the_worst():
    rows, labels = space(classes=6, each=8)
    # The last class is everywhere.
    rows[40:] = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    panels = figures.extreme_queries(rows, Protocol(labels), list("abcdef"), picture, MEMORY)
    kinds = [panel.title.split("\n")[0] for panel in panels]
    assert kinds == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    precisions = [float(panel.title.split(" ")[1]) for panel in panels]
    assert precisions[0] == 1 and precisions[6] == min(precisions) < 0.5
    assert panels[6].query.caption == "f"
    for group in (panels[:3], panels[3:6], panels[6:]):
        assert len({panel.query.caption for panel in group}) == 3
    for panel in panels:
        similarities = [float(neighbour.caption.split("  ")[0]) for neighbour in panel.neighbours]
        assert len(similarities) == figures.NEAREST
        assert similarities == sorted(similarities, reverse=True)
        for neighbour in panel.neighbours:
            is_right = neighbour.caption.endswith(panel.query.caption)
            assert (neighbour.frame == figures.RIGHT) == is_right
    assert [neighbour.frame for neighbour in panels[0].neighbours[:7]] == [figures.RIGHT] * 7


def test_a_panel_is_a_row_of_a_table():
    rows, labels = space(classes=2, each=3)
    panels = figures.extreme_queries(rows, Protocol(labels), ["a", "b"], picture, MEMORY)
    row = panels[0].row()
    assert list(row) == ["kind", "class", "query", *map(str, range(1, figures.NEAREST + 1))]
    assert row["kind"].startswith("best, AP ") and row["class"] == panels[0].query.name
    captions = [row[str(rank)].caption for rank in range(1, 6)]
    assert captions[0].startswith("right, ") and captions[0].endswith(row["class"])
    assert captions[4].startswith("wrong, ") and row["6"] is None
    assert max(row["query"].read().size) == figures.THUMBNAIL


def test_queries_search_in_their_gallery():
    rows, labels = space(classes=4, each=10)
    queries, gallery = torch.arange(40)[::2], torch.arange(40)[1::2]
    protocol = Protocol(labels, queries=queries, gallery=gallery)
    shown: list[int] = []

    def read(row: int) -> Image.Image:
        shown.append(row)
        return picture(row)

    panels = figures.extreme_queries(rows, protocol, list("abcd"), read, MEMORY)
    assert len(panels) == 9 and len(shown) == 81
    # A query is read after its 8 neighbours.
    assert all((row % 2 == 0) == (place % 9 == 8) for place, row in enumerate(shown))


def test_points_are_sampled_of_each_class():
    _, labels = space(classes=3, each=100)
    rows = figures._of_each_class(labels, torch.tensor([0, 2]), 30)
    assert labels[rows].tolist() == [0] * 30 + [2] * 30 and len(rows.unique()) == 60


def test_related_texts_stand_next_to_each_other():
    groups = np.array([0, 1, 2, 0, 1, 2, 0])
    similarities = np.where(groups[:, None] == groups, 0.9, 0.1) + 0.001 * np.arange(7)[:, None]
    ordered = groups[figures.related_first(similarities)]
    assert (np.diff(ordered) != 0).sum() == 2


def test_names_do_not_cover_each_other():
    places = figures._apart(np.zeros((6, 2)), np.full(6, 8))
    assert np.diff(np.sort(places[:, 1])).min() > 0.02 and not places[:, 0].any()


def test_a_run_and_an_evaluation_draw_the_test_split(run_folder, tmp_path):
    names = {"retrieval.png", "projection.png", "class_similarity.png"}
    assert {file.name for file in (run_folder / "Figures").iterdir()} == names
    assert all(colours(file) > 50 for file in (run_folder / "Figures").iterdir())
    checkpoint, places = str(run_folder / "checkpoint_last.pth.tar"), ["--save_path", str(tmp_path)]
    assert main.main(["--evaluate_only", checkpoint, *places]) == 0
    assert {file.name for file in tmp_path.rglob("Figures/*")} == names
    without = ["--savename", "none", "--no_figures"]
    assert main.main(["--evaluate_only", checkpoint, *places, *without]) == 0
    assert len(list(tmp_path.rglob("Figures"))) == 1


def test_a_missing_language_model_loses_one_figure_only(run_folder, tmp_path, capsys):
    flags = ["--language_model", "hf:/nowhere/model", "--save_path", str(tmp_path)]
    assert main.main(["--evaluate_only", str(run_folder / "checkpoint_last.pth.tar"), *flags]) == 0
    assert "Classes are not compared with language" in capsys.readouterr().out
    assert {file.name for file in tmp_path.rglob("Figures/*")} == {
        "retrieval.png",
        "projection.png",
    }


ODD_NAMES = ("Ba$$in", "US$5 to $6", "d\udcf6g", "狗 猫", "a_b^c\\frac{", "two\nlines", " ", "")


def test_any_class_name_is_drawn(tmp_path, caplog):
    rows, labels = space(classes=len(ODD_NAMES), each=4)
    texts = torch.nn.functional.normalize(rows[figures.shown_classes(labels)], dim=1)
    files = figures.draw(
        tmp_path / "Figures",
        rows,
        Protocol(labels),
        list(ODD_NAMES),
        picture,
        text_vectors=texts,
        memory=MEMORY,
    ).files
    assert files.keys() == {"retrieval", "projection", "class_similarity"}
    assert "not drawn" not in caplog.text


@pytest.fixture
def text_boxes(monkeypatch):
    """Of each figure that is saved: its texts, and whether the saved picture holds all of each."""
    boxes: dict[str, list[tuple[str, bool]]] = {}
    save = figures.save

    def measured(figure, file):
        from matplotlib.text import Text

        save(figure, file)
        inches = 1 / figure.dpi
        picture = figure.get_tightbbox().padded(0.06 + 1e-6)
        boxes[file.stem] = []
        for text in figure.findobj(Text):
            if text.get_visible() and text.get_text():
                box = text.get_window_extent()
                corners = ((box.x0, box.y0), (box.x1, box.y1))
                inside = all(picture.contains(x * inches, y * inches) for x, y in corners)
                boxes[file.stem].append((text.get_text(), inside))
        return file

    monkeypatch.setattr(figures, "save", measured)
    return boxes


def test_names_are_whole_and_scales_are_named(tmp_path, text_boxes):
    names = [f"light yellow checkered triangle {number}" for number in range(30)]
    rows, labels = space(classes=30, each=4)
    texts = torch.nn.functional.normalize(rows[figures.shown_classes(labels)], dim=1)
    figures.draw(
        tmp_path / "Figures",
        rows,
        Protocol(labels),
        names,
        picture,
        text_vectors=texts,
        memory=MEMORY,
    )
    assert all(inside for texts in text_boxes.values() for _, inside in texts)
    in_matrices = [text for text, _ in text_boxes["class_similarity"]]
    assert sum("cosine similarity" in text for text in in_matrices) == 2
    assert len({text for text in in_matrices if "triangle" in text}) == 30
    captions = [text.replace("\n", " ") for text, _ in text_boxes["retrieval"]]
    assert sum(name in " ".join(captions) for name in names) >= 9


def test_classes_with_a_common_beginning_stay_apart(tmp_path, text_boxes):
    names = [f"{'a very long beginning of every name ' * 3}{number}" for number in range(6)]
    rows, labels = space(classes=6, each=4, spread=2)
    panels = figures.extreme_queries(rows, Protocol(labels), names, picture, MEMORY)
    figures.draw_panels(tmp_path / "panels.png", panels)
    queries = {panel.query.name for panel in panels}
    texts = [text.replace("\n", "") for text, _ in text_boxes["panels"]]
    captions = {text for text in texts if text.startswith("a very")}
    assert len(captions) == len(queries)


def test_a_figure_that_fails_costs_the_others_nothing(tmp_path, caplog):
    rows, labels = space()

    def read(row: int) -> Image.Image:
        raise FileNotFoundError(2, "No such file", f"{row}.png")

    files = figures.draw(
        tmp_path / "Figures",
        rows,
        Protocol(labels),
        list("abcde"),
        read,
        text_vectors=None,
        memory=MEMORY,
    ).files
    assert files.keys() == {"projection"}
    assert "The figure retrieval.png is not drawn (FileNotFoundError" in caplog.text
    assert [file.name for file in (tmp_path / "Figures").iterdir()] == ["projection.png"]
