"""Splits cut from columns, and the validation part."""

from pathlib import Path

import numpy as np
import pytest

import datasets
from datasets import listing
from datasets.listing import TEST, TRAIN, VALIDATION, Category, Listing
from utilities.errors import UserError


def made(sizes: list[int], **columns) -> Listing:
    """Classes of so many images; the first half trains."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    categories = [Category(f"00{label}.c{label}", f"c{label}") for label in range(len(sizes))]
    return Listing(
        [f"{label}-{number}.jpg" for label, size in enumerate(sizes) for number in range(size)],
        labels,
        categories,
        listing.first_half_trains(labels, len(sizes)),
        **columns,
    )


def images(found: Listing, part: int) -> list[str]:
    return [file for file, own in zip(found.files, found.parts) if own == part]


def test_a_split_has_the_columns_of_its_rows():
    columns = {
        "is_query": np.arange(9) % 2 == 0,
        "is_gallery": np.arange(9) % 2 == 1,
        "boxes": np.arange(36).reshape(9, 4),
    }
    found = made([2, 1, 3, 3], **columns)
    categories = [
        category._replace(superclass=name, captions=(f"{name} thing",))
        for category, name in zip(found.categories, "xyyx")
    ]
    testing = listing.split(found._replace(categories=categories), TEST)
    assert testing.files == found.files[3:] and testing.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert testing.class_texts == ["c2", "c3"]
    assert testing.captions == [("y thing",), ("x thing",)]
    assert testing.superclasses.tolist() == [1, 0]
    assert testing.is_query.tolist() == columns["is_query"][3:].tolist()
    assert testing.is_gallery.tolist() == columns["is_gallery"][3:].tolist()
    assert testing.boxes.tolist() == columns["boxes"][3:].tolist()
    plain = listing.split(made([2, 1, 3, 3]), TRAIN)
    assert plain.captions == [("c0",), ("c1",)]
    assert plain.superclasses is plain.is_query is plain.is_gallery is plain.boxes is None
    assert listing.split(found, VALIDATION) is None


def test_the_training_part_of_a_query_gallery_protocol_has_neither():
    is_query = np.array([False] * 3 + [True, False, False] * 2)
    found = made([2, 1, 3, 3], is_query=is_query, is_gallery=~is_query & (np.arange(9) > 2))
    training = listing.split(found, TRAIN)
    assert training.is_query is training.is_gallery is None
    assert listing.counts(found) == {"train": (2, 3), "query": (2, 2), "gallery": (2, 4)}
    assert listing.counts(made([2, 1, 3, 3])) == {"train": (2, 3), "test": (2, 6)}


@pytest.mark.parametrize("share, kept", [(0.5, 3), (0.7, 4)])
def test_the_last_training_classes_are_held_out(share, kept):
    found = made([1, 2, 1, 1, 2, 1] + [2] * 6)
    held = listing.hold_out_classes(found, share)
    assert set(held.labels[held.parts == TRAIN]) == set(range(kept))
    assert set(held.labels[held.parts == VALIDATION]) == set(range(kept, 6))
    assert images(held, TEST) == images(found, TEST)


@pytest.mark.parametrize("count, share, kept", [(100, 0.29, 29), (50, 0.58, 29), (90, 0.7, 63)])
def test_shares_are_what_they_are_in_decimals(count, share, kept):
    """As floats 0.29 * 100 is less than 29."""
    by_classes = listing.hold_out_classes(made([1] * 2 * count), share)
    assert (by_classes.parts == TRAIN).sum() == kept
    by_samples = listing.hold_out_samples(made([count] * 4), share)
    assert (by_samples.parts == TRAIN).sum() == 2 * kept


def test_the_last_images_of_each_class_are_held_out_whatever_their_order():
    found = made([5, 1, 2, 3])
    order = np.random.default_rng(0).permutation(11)
    shuffled = found._replace(
        files=[found.files[row] for row in order],
        labels=found.labels[order],
        parts=found.parts[order],
    )
    held = listing.hold_out_samples(found._replace(parts=np.zeros(11, dtype=np.int8)), 0.6)
    assert images(held, VALIDATION) == ["0-3.jpg", "0-4.jpg", "2-1.jpg", "3-1.jpg", "3-2.jpg"]
    mixed = listing.hold_out_samples(shuffled._replace(parts=np.zeros(11, dtype=np.int8)), 0.6)
    in_order = {
        label: [file for file, own in zip(shuffled.files, shuffled.labels) if own == label]
        for label in range(4)
    }
    assert set(images(mixed, VALIDATION)) == {
        file for label, kept in ((0, 3), (1, 1), (2, 1), (3, 1)) for file in in_order[label][kept:]
    }


@pytest.mark.parametrize("cut", [listing.hold_out_classes, listing.hold_out_samples])
def test_too_little_is_refused(cut):
    with pytest.raises(UserError, match="--tv_split_perc 0.5"):
        cut(made([1, 1, 1, 1]), 0.5)


@pytest.mark.parametrize("share", [0.01, 0.8, 0.99])
@pytest.mark.parametrize("classes", [4, 5, 7, 150])
def test_a_share_that_leaves_enough_is_named(classes, share):
    found = made([1] * 2 * classes)
    try:
        listing.hold_out_classes(found, share)
    except UserError as error:
        listing.hold_out_classes(found, float(str(error).rstrip(".").split()[-1]))
    with pytest.raises(UserError, match="--tv_split_by_samples"):
        listing.hold_out_classes(made([1] * 6), share)


def test_classes_are_held_out_by_name_or_text(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("003.c3\n\n  c1  \n")
    held = listing.hold_out_named(made([2] * 10), str(path))
    assert images(held, VALIDATION) == ["1-0.jpg", "1-1.jpg", "3-0.jpg", "3-1.jpg"]
    assert images(held, TRAIN)[:2] == ["0-0.jpg", "0-1.jpg"]


def test_a_name_of_two_training_classes_is_refused(tmp_path):
    path = tmp_path / "classes.txt"
    categories = [Category(str(label), str(label + 1)) for label in range(10)]
    found = made([2] * 10)._replace(categories=categories)
    path.write_text("1\n2\n")
    with pytest.raises(UserError, match="'1' names one class and is the text of '0'; write '0'"):
        listing.hold_out_named(found, str(path))
    path.write_text("0\n1\n")
    held = listing.hold_out_named(found, str(path))
    assert images(held, VALIDATION) == ["0-0.jpg", "0-1.jpg", "1-0.jpg", "1-1.jpg"]


@pytest.mark.parametrize(
    "text, parts",
    [
        ("c1\nc7\nbird\n", ["bird, c7", "no training classes"]),
        ("c1\nbird\n", ["bird is no training class"]),
        ("c1\n", ["1 for validation"]),
        ("c0\nc1\nc2\nc3\n", ["1 classes for training"]),
        ("\xff", ["cannot be read"]),
    ],
)
def test_wrong_names_of_validation_classes(tmp_path, text, parts):
    path = tmp_path / "classes.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as error:
        listing.hold_out_named(made([2] * 10), str(path))
    assert all(part in str(error.value) for part in [*parts, f"--tv_split_classes {path}"])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_classes_from_any_editor(tmp_path, encoding):
    path = tmp_path / "classes.txt"
    path.write_bytes("c3\r\nc1\r\n".encode(encoding))
    held = listing.hold_out_named(made([2] * 10), str(path))
    assert images(held, VALIDATION) == ["1-0.jpg", "1-1.jpg", "3-0.jpg", "3-1.jpg"]


def test_one_file_has_one_identity_under_all_its_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "a" / "y.jpg").symlink_to("x.jpg")
    spellings = ["a/x.jpg", "b/x.jpg", "./a/x.jpg", "a/../b/x.jpg", "a//x.jpg", "b/y.jpg"]
    files = [f"{tmp_path}/{path}" for path in spellings]
    assert set(listing.identities(files)) == {f"{tmp_path.resolve()}/a/x.jpg"}
    (tmp_path / "a" / "hard.jpg").hardlink_to(tmp_path / "a" / "x.jpg")
    (identity,) = set(listing.identities([*files, f"{tmp_path}/a/hard.jpg"]))
    assert identity not in listing.identities([f"{tmp_path}/a/missing.jpg"])


# The same through the door.


@pytest.fixture
def folders(tmp_path) -> str:
    for number in range(1, 21):
        folder = tmp_path / "made" / "images" / f"{number}.c{number}"
        folder.mkdir(parents=True)
        for image in range(5):
            (folder / f"{image}.jpg").write_bytes(b"")
    return str(tmp_path)


def names(split) -> list[str]:
    return [Path(file).name for file in split.files]


def test_validation_by_classes_keeps_four_fifths_unless_told(folders):
    usual = datasets.select("made", folders, validation=True)
    assert usual.training.class_texts == [f"c{number}" for number in range(1, 9)]
    assert usual.validation.class_texts == ["c9", "c10"]
    assert usual.validation.labels.tolist() == [0] * 5 + [1] * 5
    assert len(usual.testing.class_texts) == 10
    half = datasets.select("made", folders, validation=True, training_share=0.5)
    assert len(half.training.class_texts) == len(half.validation.class_texts) == 5


def test_validation_by_samples(folders):
    splits = datasets.select("made", folders, validation=True, by_samples=True)
    classes = [f"c{number}" for number in range(1, 11)]
    assert splits.training.class_texts == splits.validation.class_texts == classes
    assert names(splits.training) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"] * 10
    assert names(splits.validation) == ["4.jpg"] * 10


def test_validation_classes_from_a_file(folders, tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("2.c2\n10.c10\n")
    splits = datasets.select("made", folders, validation=True, validation_classes=str(path))
    assert splits.validation.class_texts == ["c2", "c10"] and len(splits.training.class_texts) == 8
