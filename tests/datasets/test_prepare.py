"""Every layout in circulation comes out as the same dataset, and nothing half made stays behind."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_benchmarks as small
from PIL import Image

import datasets
from datasets import decoding
from datasets.prepare import prepare, unpack
from programs import prepare as command

LAYOUTS = [
    pytest.param(name, layout, id=f"{name}, {layout}")
    for name, makers in small.MAKERS.items()
    for layout in makers
]


@pytest.fixture(autouse=True)
def small_counts(monkeypatch):
    small.use_small_counts(monkeypatch)


def made(tmp_path: Path, name: str, layout: str) -> list[Path]:
    (tmp_path / "from").mkdir()
    return small.MAKERS[name][layout](tmp_path / "from")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def found(split) -> set[tuple[str, str]]:
    return {
        (split.class_texts[label], small.digest(Path(file).read_bytes()))
        for file, label in zip(split.files, split.labels)
    }


def refused(capsys, *argv) -> str:
    assert command.main([str(argument) for argument in argv]) == 2
    message = capsys.readouterr().err
    assert message.startswith("python -m programs.prepare: error: ") and message.count("\n") == 1
    return message


@pytest.mark.parametrize("name, layout", LAYOUTS)
def test_every_layout_gives_the_same_dataset(tmp_path, name, layout):
    sources = made(tmp_path, name, layout)
    before = snapshot(tmp_path / "from")
    assert command.main([name, "--from", *map(str, sources), "--to", str(tmp_path / "to")]) == 0
    splits = datasets.select(name, str(tmp_path / "to"))
    assert {"train": found(splits.training), "test": found(splits.testing)} == small.expected(name)
    assert len(splits.training) == len(splits.testing) == 12
    assert snapshot(tmp_path / "from") == before
    assert os.listdir(tmp_path / "to") == [name]


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("below", ["", "jpg/"], ids=["part above", "part farther above"])
def test_images_of_one_name_in_several_parts_all_stay(tmp_path, parts, below):
    """And copies of them are left out, whichever they are copies of."""
    for number in range(parts):
        for part in (f"part{number}", f"zcopy{number}"):
            for label in range(1, 5):
                folder = tmp_path / f"from/{part}/{below}{label:03}.Bird"
                folder.mkdir(parents=True)
                Image.new("RGB", (8, 8), (40 * number, 9 * label, 0)).save(folder / "1.png")
    home = prepare("cub200", [tmp_path / "from"], tmp_path / "to", allow_partial=True)
    of_sources, kept = (snapshot(folder) for folder in (tmp_path / "from", home / "images"))
    assert len(kept) == 4 * parts and set(kept.values()) == set(of_sources.values())


def test_images_are_links_to_those_of_a_folder(tmp_path):
    sources = made(tmp_path, "cub200", "unpacked")
    home = prepare("cub200", sources, tmp_path / "to")
    image = next((home / "images").rglob("*.jpg"))
    assert image.stat().st_ino == next((tmp_path / "from").rglob(image.name)).stat().st_ino


def test_copies_where_links_are_impossible(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    prepare("cub200", made(tmp_path, "cub200", "unpacked"), tmp_path / "to")
    splits = datasets.select("cub200", str(tmp_path / "to"))
    assert found(splits.training) == small.expected("cub200")["train"]


@pytest.mark.parametrize("short_side, expected", [(20, (24, 20)), (40, (48, 40)), (100, (48, 40))])
def test_smaller_copies(tmp_path, short_side, expected):
    source, target = made(tmp_path, "online_products", "archive")[0], tmp_path / "to"
    argv = ["online_products", "--from", str(source), "--to", str(target)]
    assert command.main([*argv, "--short_side", str(short_side)]) == 0
    splits = datasets.select("online_products", str(target))
    files = splits.training.files + splits.testing.files
    assert {Image.open(file).size for file in files} == {expected}
    unchanged = found(splits.training) == small.expected("online_products")["train"]
    assert unchanged == (short_side >= 40)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_smaller_copies_are_shown_as_their_images_are(tmp_path, ending, turn):
    """A tag turns them; a TIFF, which Pillow turns as it reads, has lost its own."""
    corners = Image.new("RGB", (2, 2))
    corners.putdata([(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)])
    photo = corners.resize((90, 60), Image.Resampling.NEAREST)
    for label in range(1, 5):
        folder = tmp_path / f"from/{label:03}.Bird"
        folder.mkdir(parents=True)
        photo.save(folder / f"1.{ending}", exif=decoding.orientation_tag(turn))
    sources = [tmp_path / "from"]
    home = prepare("cub200", sources, tmp_path / "to", short_side=20, allow_partial=True)
    shown = decoding.read_rgb(str(folder / f"1.{ending}"))
    smaller = decoding.read_rgb(str(home / f"images/004.Bird/1.{ending}"))
    assert smaller.size == ((20, 30) if turn > 4 else (30, 20))
    found = np.asarray(smaller.resize(shown.size), dtype=int)
    assert np.abs(found - np.asarray(shown, dtype=int)).mean() < 12


def test_a_second_call_has_nothing_to_do(tmp_path, capsys):
    sources = made(tmp_path, "cub200", "archive")
    prepare("cub200", sources, tmp_path / "to")
    before = snapshot(tmp_path / "to")
    assert command.main(["cub200", "--from", str(sources[0]), "--to", str(tmp_path / "to")]) == 0
    assert "nothing to do" in capsys.readouterr().out and snapshot(tmp_path / "to") == before
    again = ["cub200", "--from", str(sources[0]), "--to", str(tmp_path / "to")]
    for side, is_told in (("0", False), ("16", True)):
        assert command.main([*again, "--short_side", side]) == 0
        assert ("whatever --short_side says" in capsys.readouterr().out) == is_told
    shutil.rmtree(tmp_path / "to" / "cub200" / "images" / "001.Black_footed_Albatross")
    assert "move it away" in refused(
        capsys, "cub200", "--from", sources[0], "--to", tmp_path / "to"
    )


def test_what_a_killed_attempt_left_is_made_anew(tmp_path):
    small.write(
        tmp_path / "to" / ".cub200.partial",
        {"cub200/images/001.Wrong/0.jpg": b"half", "unpacked/0/CUB_200_2011/images.txt": "1 half"},
    )
    prepare("cub200", made(tmp_path, "cub200", "archive"), tmp_path / "to")
    assert os.listdir(tmp_path / "to") == ["cub200"]
    splits = datasets.select("cub200", str(tmp_path / "to"))
    assert found(splits.testing) == small.expected("cub200")["test"]


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets.prepare, "_build", interrupted)
    source = made(tmp_path, "cub200", "archive")[0]
    assert command.main(["cub200", "--from", str(source), "--to", str(tmp_path / "to")]) == 130
    assert os.listdir(tmp_path / "to") == [] and "interrupted" in capsys.readouterr().err


# Wrong sources.


def without(files: dict, part: str) -> dict:
    return {name: content for name, content in files.items() if part not in name}


def swapped_lists(folder: Path) -> list[Path]:
    """Ebay_train.txt has one class more, Ebay_test.txt one less: as many images, another split."""
    lists = small.product_lists()
    train = lists["Ebay_train.txt"].splitlines(keepends=True)
    test = lists["Ebay_test.txt"].splitlines(keepends=True)
    moved = {
        "Ebay_train.txt": "".join(train + test[1:5]),
        "Ebay_test.txt": "".join(test[:1] + test[5:]),
    }
    return [small.write(folder, small.products() | moved)]


def truncated(archive: Path) -> list[Path]:
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    return [archive]


def zip_without_its_end(folder: Path) -> list[Path]:
    return truncated(small.zipped(folder / "sop.zip", small.products()))


def birds_without_numbers(folder: Path) -> list[Path]:
    images = small.bird_images()
    return [small.write(folder, {path[4:]: content for path, content in images.items()})]


def unlabelled_cars(folder: Path) -> list[Path]:
    small.cars_with_devkit(folder)
    (folder / "cars_test_annos_withlabels.mat").rename(folder / "cars_test_annos.mat")
    return [folder]


def nameless_cars(folder: Path) -> list[Path]:
    """The file of class names is another."""
    small.cars_with_devkit(folder)
    shutil.copyfile(folder / "devkit" / "cars_train_annos.mat", folder / "devkit" / "cars_meta.mat")
    return [folder]


def short_partition(folder: Path) -> list[Path]:
    """The first record is dropped, as some loaders do."""
    lines = small.partition().splitlines(keepends=True)
    partition = {"list_eval_partition.txt": "".join(lines[:2] + lines[3:])}
    small.write(folder, partition)
    images = small.zipped(folder / "img.zip", small.clothes())
    return [images, folder / "list_eval_partition.txt"]


def damaged_within(archive: Path) -> list[Path]:
    """The header of a member in the middle is noise."""
    content = archive.read_bytes()
    at = content.rfind(b"CUB_200_2011/images/003", 0, -1024)
    archive.write_bytes(content[:at] + b"\xff" * 300 + content[at + 300 :])
    return [archive]


WRONG = {
    "a class is missing": (
        "cub200",
        lambda folder: [small.write(folder, without(small.bird_images(), "Auklet/"))],
        ["train has", "instead of 12 images of 3 classes"],
    ),
    "images are missing": (
        "cub200",
        lambda folder: [
            small.tarred(folder / "a.tgz", without(small.cub_as_published(), "Towhee_0002"))
        ],
        ["test has 11 images of 3 classes"],
    ),
    "another split": (
        "online_products",
        swapped_lists,
        ["train has 16 images of 4 classes instead of 12", "test has 8"],
    ),
    "no images": (
        "online_products",
        lambda folder: [small.write(folder, small.product_lists())],
        ["without the images"],
    ),
    "no lists": (
        "online_products",
        lambda folder: [small.write(folder, small.product_images())],
        ["Ebay_train.txt"],
    ),
    "not the lists": (
        "online_products",
        lambda folder: [small.write(folder, small.products() | {"Ebay_test.txt": "a b\n1 2\n"})],
        ["Ebay_test.txt", "super_class_id"],
    ),
    "no test labels": ("cars196", unlabelled_cars, ["cars_test_annos_withlabels.mat"]),
    "no MATLAB file": (
        "cars196",
        lambda folder: [
            *small.cars_in_one_folder(folder)[:1],
            small.write(folder, {"cars_annos.mat": "x"}) / "cars_annos.mat",
        ],
        ["cars_annos.mat"],
    ),
    "no class names": ("cars196", nameless_cars, ["cars_meta.mat", "class_names"]),
    "no class numbers": (
        "cub200",
        birds_without_numbers,
        ["NNN.Name"],
    ),
    "bad lines": (
        "cub200",
        lambda folder: [
            small.write(folder, small.cub_as_published() | {"CUB_200_2011/images.txt": "1\n"})
        ],
        ["images.txt", "2 columns"],
    ),
    "dropped record": (
        "inshop",
        short_partition,
        ["train has 11 images of 3 classes instead of 12"],
    ),
    "not the partition": (
        "inshop",
        lambda folder: [
            small.write(
                folder,
                small.clothes() | {"list_eval_partition.txt": "1\nimage item status\na b train\n"},
            )
        ],
        ["list_eval_partition.txt", "item_id"],
    ),
    "truncated zip": ("online_products", zip_without_its_end, ["sop.zip", "damaged"]),
    "truncated tgz": (
        "cub200",
        lambda folder: truncated(small.tarred(folder / "a.tgz", small.cub_as_published())),
        ["a.tgz", "damaged"],
    ),
    "truncated tar": (
        "cub200",
        lambda folder: truncated(small.tarred(folder / "a.tar", small.cub_as_published())),
        ["a.tar", "damaged"],
    ),
    "damaged tar": (
        "cub200",
        lambda folder: damaged_within(small.tarred(folder / "a.tar", small.cub_as_published())),
        ["a.tar", "damaged"],
    ),
    "no archive": (
        "cub200",
        lambda folder: [small.write(folder, {"a.tgz": "text"}) / "a.tgz"],
        ["a.tgz", "damaged"],
    ),
    "upwards in a tar": (
        "cub200",
        lambda folder: [
            small.tarred(folder / "a.tgz", small.cub_as_published() | {"../../escaped.jpg": b"x"})
        ],
        ["'../../escaped.jpg'", "outside"],
    ),
    "absolute in a tar": (
        "cub200",
        lambda folder: [small.tarred(folder / "a.tar", {"/tmp/escaped.jpg": b"x"})],
        ["'/tmp/escaped.jpg'", "outside"],
    ),
    "upwards in a zip": (
        "cub200",
        lambda folder: [small.zipped(folder / "a.zip", {"images/../../escaped.jpg": b"x"})],
        ["escaped.jpg'", "outside"],
    ),
    "nothing": ("cub200", lambda folder: [folder / "nowhere"], ["nowhere", "no such file"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_sources_are_refused_in_a_sentence_and_leave_nothing(tmp_path, capsys, case):
    name, make, parts = WRONG[case]
    (tmp_path / "from").mkdir()
    sources = make(tmp_path / "from")
    message = refused(capsys, name, "--from", *sources, "--to", tmp_path / "deep" / "to")
    assert all(part in message for part in parts), message
    assert not list(tmp_path.rglob("*escaped*")) and not list((tmp_path / "deep").glob("to/*"))


@pytest.mark.parametrize(
    "is_hard, target, part", [(0, "/etc", "outside"), (1, "nothing", "nothing")]
)
def test_a_link_that_leaves_the_folder_or_leads_nowhere_is_refused(
    tmp_path, capsys, is_hard, target, part
):
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("images/001.x")
        link.type, link.linkname = tarfile.LNKTYPE if is_hard else tarfile.SYMTYPE, target
        archive.addfile(link)
    said = refused(capsys, "cub200", "--from", tmp_path / "a.tar", "--to", tmp_path / "to")
    assert part in said


def test_a_locked_zip_says_so(tmp_path, capsys):
    archive = small.zipped(tmp_path / "img_highres.zip", {"img/a.jpg": b"x" * 100})
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # the flag of encryption, in the local header
    content[content.find(b"PK\x01\x02") + 8] |= 1  # and in the directory
    archive.write_bytes(content)
    assert "password" in refused(capsys, "inshop", "--from", archive, "--to", tmp_path / "to")


def test_partial_data_on_request(tmp_path, capsys):
    source = small.write(tmp_path / "from", without(small.bird_images(), "Towhee_0002"))
    argv = ["cub200", "--from", str(source), "--to", str(tmp_path / "to"), "--allow_partial"]
    assert command.main(argv) == 0
    assert "11 images of 3 classes" in capsys.readouterr().out
    assert len(datasets.select("cub200", str(tmp_path / "to"), allow_partial=True).testing) == 11


def test_a_source_that_is_not_there_is_told_with_one_close_by(tmp_path, capsys):
    archive = made(tmp_path, "cub200", "archive")[0]
    given = archive.with_name(archive.name.replace("CUB_", "CUB-"))
    said = refused(capsys, "cub200", "--from", given, "--to", tmp_path / "to")
    assert f"{given}: there is no such file or folder; did you mean {archive.name}?" in said


@pytest.mark.parametrize("inside", [False, True], ids=["given itself", "in a given folder"])
def test_a_published_archive_must_have_the_published_checksum(
    tmp_path, capsys, monkeypatch, inside
):
    archive = made(tmp_path, "cub200", "archive")[0]
    facts = datasets.cub200.FACTS
    monkeypatch.setattr(
        datasets.cub200, "FACTS", facts._replace(files={"CUB_200_2011.tgz": "0" * 32})
    )
    given = archive.parent if inside else archive
    message = refused(capsys, "cub200", "--from", given, "--to", tmp_path / "to")
    checksum = unpack.checksum(archive)
    assert "MD5" in message and checksum in message and not (tmp_path / "to").exists()
    published = facts._replace(files={"CUB_200_2011.tgz": checksum})
    monkeypatch.setattr(datasets.cub200, "FACTS", published)
    prepare("cub200", [given], tmp_path / "to")


@pytest.mark.parametrize("layout", ["archive", "by class, zipped"])
def test_a_full_disk_is_told_before_anything_is_written(tmp_path, capsys, monkeypatch, layout):
    sources = made(tmp_path, "cub200", layout)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100, 90, 10))
    assert "are free" in refused(capsys, "cub200", "--from", *sources, "--to", tmp_path / "to")
    assert os.listdir(tmp_path / "to") == []


def test_a_broken_image_cannot_be_reduced(tmp_path, capsys):
    files = small.bird_images()
    files["001.Black_footed_Albatross/Black_footed_Albatross_0000.jpg"] = b"broken"
    source = small.write(tmp_path / "from", files)
    argv = ["cub200", "--from", source, "--to", tmp_path / "to", "--short_side", "20"]
    assert "Albatross_0000.jpg" in refused(capsys, *argv)


@pytest.mark.parametrize(
    "argv, part",
    [
        (["cub200", "--to", "x"], "--from"),
        (["birds", "--to", "x", "--download"], "cub200"),
        (["cub200", "--from", "."], "--to"),
        (["cub200", "--from", ".", "--to", "x", "--short_side", "-1"], "--short_side"),
    ],
)
def test_wrong_flags(capsys, argv, part):
    with pytest.raises(SystemExit) as stopped:
        command.main(argv)
    assert stopped.value.code == 2 and part in capsys.readouterr().err


def test_help_names_every_layout_and_where_files_come_from(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    said = capsys.readouterr().out
    for name, layouts in datasets.prepare.layouts.LAYOUTS.items():
        assert datasets.BENCHMARKS[name].FACTS.source in said
        assert all(layout.title in said for layout in layouts)


@pytest.mark.parametrize("name", ["cars196", "inshop"])
def test_what_cannot_be_fetched_says_where_it_is(tmp_path, capsys, name):
    message = refused(capsys, name, "--download", "--to", tmp_path / "to")
    assert datasets.BENCHMARKS[name].FACTS.source in message


def test_a_pipe_is_no_source_and_one_in_a_folder_is_passed_over(tmp_path, pipe, capsys):
    for name in ("a.zip", "a.tgz", "images.txt"):
        source = pipe.rename(tmp_path / name)
        message = refused(capsys, "cub200", "--from", source, "--to", tmp_path / "to")
        assert f"{name}: it is a pipe or a device" in message
        os.mkfifo(pipe)
    folder = small.write(tmp_path / "from", small.cub_as_published())
    pipe.rename(folder / "CUB_200_2011" / "pipe.txt")
    os.mkfifo(folder / "CUB_200_2011" / "images" / "001.Black_footed_Albatross" / "pipe.jpg")
    argv = ["--from", str(folder), "--to", str(tmp_path / "to"), "--short_side", "20"]
    assert command.main(["cub200", *argv]) == 0
