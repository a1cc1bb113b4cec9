"""The four benchmarks: what their files state, how they are read, wrong counts."""

import re
from pathlib import Path

import pytest
import reference
import small_benchmarks as small

import datasets
from utilities.errors import UserError


def test_counts_and_checksums_are_the_published_ones():
    """Against the survey's table of dataset facts."""
    text = reference.require(reference.SHARED / "SURVEY.md", "SHARED_DIR").read_text()
    rows = {
        line.split("|")[1].strip().split()[0]: line.replace(",", "")
        for line in text.splitlines()
        if re.match(r"\| (CUB|CARS|SOP|In-Shop)", line)
    }
    lines = {
        "cub200": rows["CUB200-2011"],
        "cars196": " ".join(
            line.replace(",", "") for line in text.splitlines() if line.startswith("| CARS196")
        ),
        "online_products": rows["SOP"],
        "inshop": rows["In-Shop"],
    }
    for name, dataset in datasets.BENCHMARKS.items():
        for part, (_, images) in dataset.FACTS.counts.items():
            assert re.search(rf"(?<!\d){images}(?!\d)", lines[name]), (name, part)
        for file, md5 in dataset.FACTS.files.items():
            assert md5 is None or md5 in lines[name], (name, file)
    totals = {
        name: [sum(column) for column in zip(*dataset.FACTS.counts.values())]
        for name, dataset in datasets.BENCHMARKS.items()
    }
    assert totals == {
        "cub200": [200, 11_788],
        "cars196": [196, 16_185],
        "online_products": [22_634, 120_053],
        "inshop": [3_997 + 2 * 3_985, 52_712],
    }


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """All four in the layout that is read, the first two as the paper's code has them."""
    small.use_small_counts(monkeypatch)
    small.write(tmp_path / "cub200" / "images", small.bird_images())
    cars = {
        f"{model.replace('/', '-')}/{image}.jpg": small.jpeg(label, image)
        for label, model in enumerate(small.CARS)
        for image in range(4)
    }
    small.write(tmp_path / "cars196" / "images", cars)
    small.write(tmp_path / "online_products" / "images", small.product_images())
    small.write(tmp_path / "online_products" / "Info_Files", small.product_lists())
    clothes = {path.removeprefix("img/"): content for path, content in small.clothes().items()}
    small.write(tmp_path / "inshop" / "images", clothes)
    small.write(tmp_path / "inshop" / "Info_Files", {"list_eval_partition.txt": small.partition()})
    return tmp_path


@pytest.mark.parametrize("name", datasets.BENCHMARKS)
def test_a_whole_benchmark_is_read(source, name):
    splits = datasets.select(name, str(source))
    for part, split in (("train", splits.training), ("test", splits.testing)):
        found = {
            (split.class_texts[label], small.digest(Path(file).read_bytes()))
            for file, label in zip(split.files, split.labels)
        }
        assert found == small.expected(name)[part]
        assert sorted(split.labels.tolist()) == [0] * 4 + [1] * 4 + [2] * 4


def test_products_have_super_classes_and_are_guided_by_them(source):
    splits = datasets.select("online_products", str(source))
    assert splits.training.captions == [("bicycle",), ("coffee maker",), ("chair",)]
    assert splits.training.superclasses.tolist() == [0, 2, 1]
    assert splits.testing.superclasses.tolist() == [0, 2, 1]


def test_clothes_are_queries_or_gallery_and_the_first_record_counts(source):
    splits = datasets.select("inshop", str(source))
    assert any(
        file.endswith("WOMEN/Dresses/id_00000001/01_1_front.jpg") for file in splits.training.files
    )
    assert splits.training.is_query is splits.training.is_gallery is None
    assert splits.testing.is_query.tolist() == [True, True, False, False] * 3
    assert splits.testing.is_gallery.tolist() == [False, False, True, True] * 3
    assert splits.training.superclasses.tolist() == [2, 1, 0]
    small.write(
        source / "inshop" / "Info_Files", {"list_description_inshop.json": small.descriptions()}
    )
    assert datasets.select("inshop", str(source)).training.captions[0] == (
        "A Dresses by hand.",
        "Number id_00000001.",
    )


@pytest.mark.parametrize(
    "text",
    ["{}", '[{"item": "id_00000001"}]', "[1]", "no JSON", '[{"item": "a", "description": [1]}]'],
)
def test_descriptions_of_another_form(source, text):
    small.write(source / "inshop" / "Info_Files", {"list_description_inshop.json": text})
    if text == "{}":  # nothing is described
        assert datasets.select("inshop", str(source)).training.captions[0] == ("women dresses",)
    else:
        with pytest.raises(UserError, match="list_description_inshop.json cannot be read"):
            datasets.select("inshop", str(source))


MISSING = {
    "cub200": (
        "002.Laysan_Albatross/Laysan_Albatross_0001.jpg",
        "train has 11 images of 3 classes instead of 12 images of 3 classes",
    ),
    "cars196": ("Volvo 240 Sedan 1993/0.jpg", "test has 11 images"),
    "online_products": ("chair_final/1005_3.JPG", "test has 11 images"),
    "inshop": (
        "MEN/Denim/id_00000005/01_1_front.jpg",
        "query has 5 images of 3 classes instead of 6",
    ),
}


@pytest.mark.parametrize("name", datasets.BENCHMARKS)
def test_a_missing_image_is_refused_or_told(source, name, caplog):
    path, difference = MISSING[name]
    (source / name / "images" / path).unlink()
    with pytest.raises(UserError) as error:
        datasets.select(name, str(source))
    said = str(error.value)
    assert f"--dataset {name}" in said and difference in said and "--allow_partial" in said
    if name in ("online_products", "inshop"):
        assert path in caplog.text
    caplog.clear()
    splits = datasets.select(name, str(source), allow_partial=True)
    assert len(splits.training) + len(splits.testing) == 23 and difference in caplog.text


@pytest.mark.parametrize(
    "name, file", [("online_products", "Ebay_test.txt"), ("inshop", "list_eval_partition.txt")]
)
def test_an_image_that_is_listed_twice_is_told(source, name, file, caplog):
    path = source / name / "Info_Files" / file
    lines = path.read_text().splitlines()
    datasets.select(name, str(source))
    assert "listed twice" not in caplog.text
    repeated = next(line for line in reversed(lines) if not line.endswith("train"))
    path.write_text("\n".join([*lines, repeated]))
    datasets.select(name, str(source), allow_partial=True)
    assert "is listed twice: 1 of the 13 images of the test part" in caplog.text


@pytest.mark.parametrize("name", datasets.BENCHMARKS)
def test_a_missing_benchmark_says_how_to_make_it(tmp_path, name):
    (tmp_path / "up" / name).mkdir(parents=True)
    for place, meant in ((tmp_path / "up" / name, "up"), (tmp_path, "up")):
        with pytest.raises(UserError, match=f"is --source_path {tmp_path / meant} meant"):
            datasets.select(name, str(place))
    (tmp_path / "up" / name).rmdir()
    with pytest.raises(UserError, match=f"programs.prepare {name}") as error:
        datasets.select(name, str(tmp_path))
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(
    "name, meant",
    [
        ("cub20", "cub200"),
        ("CARS196", "cars196"),
        ("stanford_online_products", "online_products"),
        ("tables", "table"),
    ],
)
def test_a_misspelt_name_is_told(tmp_path, name, meant):
    with pytest.raises(UserError, match=f"did you mean --dataset {meant}"):
        datasets.select(name, str(tmp_path))


@pytest.mark.parametrize(
    "name, file", [("online_products", "Ebay_test.txt"), ("inshop", "list_eval_partition.txt")]
)
@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "one line",
        "2\nimage_name item_id evaluation_status\na b c\n",
        "image_id class_id super_class_id path\n1 x 1 a\n",
    ],
)
def test_lists_of_another_form(source, name, file, text):
    path = source / name / "Info_Files" / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=f"{file} cannot be read"):
        datasets.select(name, str(source))
