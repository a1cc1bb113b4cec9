"""Similarities of classes from a file, and guidance by them."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import language_guidance
from language_guidance import GuidanceSettings, class_matrix, distillation_loss
from utilities.errors import UserError
from utilities.rows import csv_of

CPU = torch.device("cpu")
CLASSES = [("001.Robin", "Robin"), ("002.Blue_Jay", "Blue Jay"), ("003.Owl", "Owl")]
NAMES = ["Owl", "Eagle", "002.Blue_Jay", "Robin"]  # in another order, with one class too many
VALUES = [[1, 0.9, 0.1, 0.2], [0.9, 1, 0.3, 0.4], [0.1, 0.3, 1, 0.7], [0.2, 0.4, 0.7, 1]]
EXPECTED = {("Robin", "Owl"): 0.2, ("Robin", "Blue Jay"): 0.7, ("Blue Jay", "Owl"): 0.1}


def table(values=VALUES, names=NAMES, columns=None) -> list[list[object]]:
    return [["", *(columns or names)], *([name, *row] for name, row in zip(names, values))]


def written(path: Path, rows: list[list[object]]) -> str:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".TSV" else ",").writerows(rows)
    return str(path)


def as_array(path: Path, values=VALUES, names=NAMES) -> str:
    np.save(path, np.array(values))
    path.with_suffix(".txt").write_text("\n".join(names) + "\n")
    return str(path)


def build(file: str, labels=(0, 1, 2), classes=CLASSES, **settings):
    return language_guidance.build(
        GuidanceSettings(model=f"matrix:{file}", **settings),
        [(text,) for _, text in classes],
        torch.tensor(labels),
        cache=Path(),  # where nothing is written
        device=CPU,
        class_names=classes,
    )


def require_expected(similarities: torch.Tensor) -> None:
    """Of the classes in the order of their labels."""
    texts = [text for _, text in CLASSES]
    for one in range(3):
        for other in range(3):
            pair = texts[one], texts[other]
            value = EXPECTED.get(pair, EXPECTED.get(pair[::-1], 1.0))
            assert similarities[one, other].item() == pytest.approx(value)


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.npy"])
def test_classes_are_found_by_their_names_or_texts(tmp_path, name, caplog):
    path = tmp_path / name
    file = as_array(path) if name == "a.npy" else written(path, table())
    found = class_matrix.read(file, CLASSES)
    require_expected(found.similarities[found.rows][:, found.rows])
    assert found.similarities.dtype == torch.float32 and found.similarities.shape == (3, 3)
    assert [found.names[row] for row in found.rows] == ["Robin", "002.Blue_Jay", "Owl"]
    assert not caplog.records


def test_two_rows_of_a_class_are_refused_unless_others_share_one(tmp_path):
    rows = table(names=["Robin", "Blue Jay", "002.Blue_Jay", "Owl"])
    file = written(tmp_path / "a.csv", rows)
    with pytest.raises(UserError, match="two names, '002.Blue_Jay' and 'Blue Jay'; leave one"):
        class_matrix.read(file, CLASSES)
    found = class_matrix.read(file, [*CLASSES, ("004.Jay", "Blue Jay")])
    assert [found.names[row] for row in found.rows] == ["Robin", "002.Blue_Jay", "Owl", "Blue Jay"]


def test_a_row_that_two_classes_may_mean_is_refused(tmp_path):
    file = written(tmp_path / "a.csv", table(names=["1", "2", "3", "4"]))
    with pytest.raises(UserError, match="'1' names one class and is the text of '0'; write '0'"):
        class_matrix.read(file, [("0", "1"), ("1", "2"), ("2", "3")])
    found = class_matrix.read(file, [("1", "2"), ("2", "3"), ("3", "4")])
    assert [found.names[row] for row in found.rows] == ["1", "2", "3"]


def test_columns_may_have_another_order_than_rows(tmp_path):
    order = [2, 0, 3, 1]
    values = [[row[place] for place in order] for row in VALUES]
    rows = table(values, columns=[NAMES[place] for place in order])
    found = class_matrix.read(written(tmp_path / "a.csv", rows), CLASSES)
    require_expected(found.similarities[found.rows][:, found.rows])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_matrix_of_any_editor(tmp_path, encoding):
    content = Path(written(tmp_path / "a.TSV", table())).read_text(encoding="utf-8-sig")
    (tmp_path / "a.TSV").write_bytes(content.encode(encoding))
    found = class_matrix.read(str(tmp_path / "a.TSV"), CLASSES)
    require_expected(found.similarities[found.rows][:, found.rows])


def test_an_archive_of_arrays_is_no_matrix(tmp_path):
    as_array(tmp_path / "a.npy")
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, a=np.eye(4))
    with pytest.raises(UserError, match="holds several arrays"):
        class_matrix.read(str(tmp_path / "a.npy"), CLASSES)


def test_a_matrix_of_programs_language_is_read_as_it_was_meant(tmp_path):
    """Spreadsheets take some names for formulas: a mark keeps them from it."""
    (tmp_path / "similarities.csv").write_text(csv_of(table(names=["=O", "Eagle", "-b", "'+R"])))
    classes = [("1", "'+R"), ("2", "-b"), ("3", "=O")]
    found = class_matrix.read(str(tmp_path / "similarities.csv"), classes)
    require_expected(found.similarities[found.rows][:, found.rows])


def test_classes_that_share_a_text_share_a_row(tmp_path):
    file = written(tmp_path / "a.csv", table())
    classes = [("7", "Owl"), ("8", "Robin"), ("9", "Owl")]
    found = class_matrix.read(file, classes)
    assert found.names == ["Owl", "Robin"] and found.rows.tolist() == [0, 1, 0]
    guide = build(file, classes=classes).guide
    similarities = guide.batch_similarities(torch.tensor([0, 2, 1]), torch.arange(3))
    expected = torch.tensor([[1, 1, 0.2], [1, 1, 0.2], [0.2, 0.2, 1]])
    torch.testing.assert_close(similarities, expected)


def test_missing_classes_are_named(tmp_path):
    file = written(tmp_path / "a.csv", table())
    with pytest.raises(UserError, match="no row of the training class 004.Wren; it has Owl, Eagle"):
        class_matrix.read(file, [*CLASSES, ("004.Wren", "Wren")])
    with pytest.raises(UserError, match=r"training class Eagel; did you mean Eagle\?"):
        class_matrix.read(file, [*CLASSES, ("Eagel", "Eagel")])
    with pytest.raises(UserError, match="training classes a, b;"):
        class_matrix.read(file, [("a", "a"), ("b", "b"), *CLASSES])


@pytest.mark.parametrize(
    "rows, part",
    [
        ([["", "a"]], "no rows"),
        ([["", "a", "b"], ["a", 1, 2]], "other names: b"),
        ([["", "a", "b", ""], ["a", 1, 2, ""], ["b", 2, 1, ""]], "column 4 has no name"),
        ([["", "a", "b"], ["a", 1], ["b", 1, 2]], "'a' has 1 cells, not 2"),
        ([["", "a", "b"], ["a", 1, "x"], ["b", 1, 2]], "'a' and 'b' is no number: 'x'"),
        ([["", "a", "b"], ["a", 1, "0_5"], ["b", 1, 2]], "'a' and 'b' is no number: '0_5'"),
        ([["", "a", "a"], ["a", 1, 2], ["a", 1, 2]], "'a' stands in it 2 times"),
    ],
)
def test_tables_of_another_form(tmp_path, rows, part):
    file = written(tmp_path / "a.csv", rows)
    with pytest.raises(UserError, match="--language_model matrix:.* cannot be read") as error:
        class_matrix.read(file, [("a", "a"), ("b", "b")])
    assert part in str(error.value) and "expected is a .csv" in str(error.value)


def test_a_quote_without_its_end_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(',a,b\na,1,"2\nb,2,1\n')
    with pytest.raises(UserError, match="cannot be read .unexpected end of data"):
        class_matrix.read(str(tmp_path / "a.csv"), [("a", "a"), ("b", "b")])


def test_arrays_and_files_of_another_form(tmp_path):
    wide = as_array(tmp_path / "a.npy", names=NAMES[:3])
    (tmp_path / "b.npy").write_bytes(b"no array")
    (tmp_path / "c.json").write_text("{}")
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe,a\n")
    empty = as_array(tmp_path / "e.npy", values=np.empty((0, 0)), names=[])
    (tmp_path / "e.txt").write_text("")
    files = [
        wide,
        empty,
        *(str(tmp_path / name) for name in ("b.npy", "c.json", "d.csv", "none.csv")),
    ]
    for file in files:
        with pytest.raises(UserError, match="cannot be read .*; expected is a .csv"):
            class_matrix.read(file, CLASSES)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UserError, match=r"there is no a\.txt beside it"):
        class_matrix.read(wide, CLASSES)


@pytest.mark.parametrize("cell", ["", "nan", "inf"])
def test_every_pair_of_the_classes_needs_a_finite_number(tmp_path, cell):
    values: list[list[object]] = [list(row) for row in VALUES]
    values[1] = [cell] * 4  # of a class that is not in the data
    values[0][0] = ""  # of a class with itself
    found = class_matrix.read(written(tmp_path / "a.csv", table(values)), CLASSES)
    require_expected(found.similarities[found.rows][:, found.rows])
    values[0][2] = cell
    with pytest.raises(UserError, match="'Owl' and '002.Blue_Jay' holds no finite number"):
        class_matrix.read(written(tmp_path / "b.csv", table(values)), CLASSES)


def test_what_is_unusual_is_told_and_taken_as_it_is(tmp_path, caplog):
    values = [list(row) for row in VALUES]
    values[0][3] = 0.25
    found = class_matrix.read(written(tmp_path / "a.csv", table(values)), CLASSES)
    similarities = found.similarities[found.rows][:, found.rows]
    assert similarities[2, 0].item() == 0.25 and similarities[0, 2].item() == pytest.approx(0.2)
    assert "is not symmetric (Robin and Owl: 0.2, the other way 0.25)" in caplog.text
    caplog.clear()
    distances = [[10 * (1 - value) for value in row] for row in VALUES]
    class_matrix.read(written(tmp_path / "b.csv", table(distances)), CLASSES)
    assert "goes from 0 to 9" in caplog.text and "are these distances?" in caplog.text


def test_the_distillation_of_given_similarities_in_loops(tmp_path):
    """Pairs of one class count 1 + shift, whatever the diagonal says."""
    values = [list(row) for row in VALUES]
    for place in range(4):
        values[place][place] = 5
    labels, shift, temperature = [2, 0, 2, 1], 0.5, 0.7
    embeddings = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    file = written(tmp_path / "a.csv", table(values))
    guide = build(file, labels, shift=shift, temp=temperature).guide
    found = guide(embeddings, torch.tensor(labels), torch.arange(4))
    total = 0.0
    texts = [text for _, text in CLASSES]
    for i in range(4):
        image, text = [], []
        for j in range(4):
            pair = texts[labels[i]], texts[labels[j]]
            is_same = labels[i] == labels[j]
            cosine = float(embeddings[i] @ embeddings[j])
            given = EXPECTED.get(pair, EXPECTED.get(pair[::-1], 0.0))
            image.append((1 + shift if is_same else cosine) / temperature)
            text.append((1 + shift if is_same else given + shift) / temperature)
        p, q = softmax(image), softmax(text)
        total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q))
    assert found.item() == pytest.approx(temperature**2 * total / 4, rel=1e-4)


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def test_guidance_reads_the_names_of_the_file(tmp_path):
    guidance = build(written(tmp_path / "a.csv", table()))
    assert guidance.texts == [["Robin"], ["002.Blue_Jay"], ["Owl"]] and guidance.times is None
    assert guidance.guide.state_dict().keys() == {"_extra_state"}


def test_a_shuffled_matrix_has_the_same_values_between_other_classes(tmp_path):
    file = written(tmp_path / "a.csv", table())
    own, shuffled = build(file), build(file, control="shuffle")
    order = [own.texts.index(texts) for texts in shuffled.texts]
    assert sorted(order) == [0, 1, 2] and all(order[c] != c for c in range(3))
    found, expected = (
        part.guide.batch_similarities(torch.arange(3), torch.arange(3)) for part in (shuffled, own)
    )
    torch.testing.assert_close(found, expected[order][:, order])


def test_squares_take_the_values_as_they_are(tmp_path):
    guide = build(written(tmp_path / "a.csv", table()), loss="squares").guide
    units = torch.eye(3)
    expected = (0.7**2 + 0.2**2 + 0.1**2) / 3
    found = guide(units, torch.arange(3), torch.arange(3))
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("control", ["random", "onehot"])
def test_controls_without_texts_do_not_read_the_file(tmp_path, control):
    assert build(str(tmp_path / "none.csv"), control=control).texts == [[], [], []]


def test_there_are_no_vectors_in_it(tmp_path):
    with pytest.raises(UserError, match="--language_model matrix:.* no vectors of texts"):
        language_guidance.class_vectors(
            GuidanceSettings(model="matrix:a.csv"), [("a",)], cache=tmp_path, device=CPU
        )


def test_a_matrix_equal_to_the_cosines_of_texts_guides_as_they_do(tmp_path):
    """Nothing is done to the values on the way."""
    labels = torch.tensor([0, 1, 2, 1])
    embeddings = torch.nn.functional.normalize(torch.randn(4, 5), dim=1)
    guide = build(written(tmp_path / "a.csv", table()), labels.tolist()).guide
    similarities = torch.tensor(
        [[1, 0.7, 0.2, 0.7], [0.7, 1, 0.1, 1], [0.2, 0.1, 1, 0.1], [0.7, 1, 0.1, 1]]
    )
    expected = distillation_loss(embeddings, labels, similarities)
    assert guide(embeddings, labels, torch.arange(4)).item() == pytest.approx(expected.item())


def test_a_column_twice_and_a_number_beyond_single_precision_are_refused(tmp_path):
    twice = table([[*row, 0] for row in VALUES], columns=[*NAMES, "Owl"])
    with pytest.raises(UserError, match="the name 'Owl' stands in it 2 times"):
        class_matrix.read(written(tmp_path / "a.csv", twice), CLASSES)
    large = [[1e39 * value for value in row] for row in VALUES]
    with pytest.raises(UserError, match="holds no finite number"):
        class_matrix.read(written(tmp_path / "b.csv", table(large)), CLASSES)


def test_similarities_that_tell_no_class_apart_are_told(tmp_path, caplog):
    class_matrix.read(written(tmp_path / "a.csv", table(np.ones((4, 4)).tolist())), CLASSES)
    assert "all similarities are 1, which tells no class apart" in caplog.text


def test_semicolons_for_commas_are_told(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text(csv_of(table()).replace(",", ";"))
    with pytest.raises(UserError, match="separated by semicolons; save it with commas"):
        class_matrix.read(str(file), CLASSES)
