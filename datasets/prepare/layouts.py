"""The layouts in which benchmarks are passed around.

How to recognise each, and where its files go in ours.
"""

import csv
import filecmp
import re
from collections.abc import Callable, Iterable
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets import inshop, online_products, scan
from utilities import text_file
from utilities.errors import UserError, reason

Plan = dict[str, str]  # path in our layout -> file
CLASS_NUMBER = re.compile(r"\d{1,9}")
CARS_TEST_LABELS = re.compile(r"cars_test_annos_withlabels.*\.mat")


class Layout(NamedTuple):
    title: str
    found: Callable[[list[str]], bool]  # whether these files look like it
    plan: Callable[[list[str]], Plan]


def detect(name: str, files: list[str]) -> Layout:
    """The first layout of the benchmark that fits.

    Raises UserError that says what was looked for.
    """
    for layout in LAYOUTS[name]:
        if layout.found(files):
            return layout
    looked_for = "; or ".join(layout.title for layout in LAYOUTS[name])
    folders = {Path(file).parent for file in files}
    raise UserError(
        f"--from: {len(files):,} files in {len(folders):,} folders are no layout of {name} "
        f"that is known: {looked_for}."
    )


# CUB-200.


def _cub_as_published(files: list[str]) -> Plan:
    """By the class number of each image, which the folder names repeat."""
    paths = _pairs(_named(files, "images.txt"))
    classes = _pairs(_named(files, "image_class_labels.txt"))
    existing = _by_ending(files, 2)
    plan = {}
    for image, path in paths.items():
        folder, _, file = path.rpartition("/")
        match = scan.NUMBERED.fullmatch(folder)
        if path in existing and match and CLASS_NUMBER.fullmatch(classes.get(image, "")):
            plan[f"images/{int(classes[image]):03}.{match[2]}/{file}"] = existing[path]
    return plan


def _numbered_folders(files: list[str]) -> Plan:
    return _class_folders(files, {name: name for name in _parents(files)})


# Cars.


def _cars_annotated(files: list[str]) -> Plan:
    """One list of all images with their class numbers."""
    path, existing = _named(files, "cars_annos.mat"), _by_ending(files, 2)
    folders = _car_folders(_mat(path, "class_names"))
    return {
        f"images/{folders[number]}/{Path(image).name}": existing[image]
        for image, number in _labels(path, "relative_im_path")
        if image in existing and number in folders
    }


def _cars_with_devkit(files: list[str]) -> Plan:
    """Training and test images have the same names, hence a prefix.

    An image is known by its name and its folder, which archives nest.
    """
    folders = _car_folders(_mat(_named(files, "cars_meta.mat"), "class_names"))
    existing = _by_ending(files, 2)
    train_labels, test_labels = _named(files, "cars_train_annos.mat"), _cars_test_labels(files)[0]
    return {
        f"images/{folders[number]}/{part}_{name}": existing[f"cars_{part}/{name}"]
        for part, path in (("train", train_labels), ("test", test_labels))
        for name, number in _labels(path, "fname")
        if f"cars_{part}/{name}" in existing and number in folders
    }


def _cars_by_class(files: list[str]) -> Plan:
    """Numbered by names.csv, where that has the classes in their order.

    Else by the codes of their letters, which is that order too.
    """
    parents = _parents(files)
    if scan.all_numbered(parents):
        return _numbered_folders(files)
    names = sorted(parents, key=lambda name: name.replace("_", " "))
    if path := _find(files, "names.csv"):
        listed = [name.strip().replace("/", "-") for name in _first_column(path)]
        names = listed if sorted(listed) == sorted(names) else names
    numbered = {name: f"{number:03}.{name}" for number, name in enumerate(names, 1)}
    return _class_folders(files, numbered)


def _cars_test_labels(files: list[str]) -> list[str]:
    """The lists of test images with their class numbers; usually one."""
    return [file for file in files if CARS_TEST_LABELS.fullmatch(Path(file).name)]


def _car_folders(class_names: Iterable[object]) -> dict[int, str]:
    """Class number (from 1) -> folder; one class has a slash in its name."""
    return {
        number: f"{number:03}.{str(name).strip().replace('/', '-')}"
        for number, name in enumerate(class_names, 1)
    }


# Online products and In-Shop, whose own lists are kept.


def _products(files: list[str]) -> Plan:
    lists = {name: _named(files, name) for name in online_products.LISTS}
    existing = _by_ending(files, 2)
    plan = {f"Info_Files/{name}": file for name, file in lists.items()}
    for file in lists.values():
        for _, path in online_products.read_list(Path(file)):
            if path in existing:
                plan[f"images/{path}"] = existing[path]
    return plan


def _clothes(files: list[str]) -> Plan:
    partition = _named(files, inshop.PARTITION)
    plan = {f"Info_Files/{inshop.PARTITION}": partition}
    if descriptions := _find(files, inshop.DESCRIPTIONS):
        plan[f"Info_Files/{inshop.DESCRIPTIONS}"] = descriptions
    existing = _by_ending(files, 4)
    for path, _, _ in inshop.read_partition(Path(partition)):
        if path in existing:
            plan[f"images/{path}"] = existing[path]
    return plan


LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "cub200": (
        Layout(
            "CUB_200_2011 as published: images/ with images.txt and image_class_labels.txt",
            lambda files: _has(files, "images.txt", "image_class_labels.txt"),
            _cub_as_published,
        ),
        Layout(
            "images in folders that are all called NNN.Name",
            lambda files: bool(_parents(files)) and scan.all_numbered(_parents(files)),
            _numbered_folders,
        ),
    ),
    "cars196": (
        Layout(
            "car_ims/ with cars_annos.mat",
            lambda files: _has(files, "cars_annos.mat"),
            _cars_annotated,
        ),
        Layout(
            "cars_train/ and cars_test/ with cars_meta.mat, cars_train_annos.mat "
            "and cars_test_annos_withlabels.mat",
            lambda files: (
                _has(files, "cars_meta.mat", "cars_train_annos.mat")
                and bool(_cars_test_labels(files))
            ),
            _cars_with_devkit,
        ),
        Layout(
            "images in a folder per class, below train/ and test/ or not",
            lambda files: len(_parents(files) - {"car_ims", "cars_train", "cars_test"}) > 3,
            _cars_by_class,
        ),
    ),
    "online_products": (
        Layout(
            "<super-class>_final/ folders with Ebay_train.txt and Ebay_test.txt",
            lambda files: _has(files, *online_products.LISTS),
            _products,
        ),
    ),
    "inshop": (
        Layout(
            "img/ (of img.zip) with list_eval_partition.txt",
            lambda files: _has(files, inshop.PARTITION),
            _clothes,
        ),
    ),
}


# What the layouts share.


def _has(files: list[str], *names: str) -> bool:
    return set(names) <= {Path(file).name for file in files}


def _find(files: list[str], name: str) -> str | None:
    """The first file of that name, if there is one."""
    return next((file for file in files if Path(file).name == name), None)


def _named(files: list[str], name: str) -> str:
    """The first file of a name by which the layout was recognised."""
    return next(file for file in files if Path(file).name == name)


def _by_ending(files: list[str], depth: int) -> dict[str, str]:
    """The last `depth` parts of its path -> file; of copies the first."""
    return {"/".join(file.rsplit("/", depth)[1:]): file for file in reversed(files)}


def _parents(files: list[str]) -> set[str]:
    """Names of the folders that hold images."""
    return {file.rsplit("/", 2)[1] for file in files if scan.is_image(file.rpartition("/")[2])}


def _class_folders(files: list[str], folders: dict[str, str]) -> Plan:
    """Images by the folder that holds them.

    Others of the same name get the name of the folder above it, and a number if that does not do;
    copies are left out.
    """
    plan: Plan = {}
    of_name: dict[str, list[str]] = {}
    for file in files:
        *_, above, folder, name = file.split("/")
        if folder not in folders or not scan.is_image(name):
            continue
        home = f"images/{folders[folder]}"
        known = of_name.setdefault(f"{home}/{name}", [])
        if any(filecmp.cmp(other, file, shallow=False) for other in known):
            continue
        known.append(file)
        numbered = (f"{above}_{number}_{name}" for number in count(2))
        names = chain([name, f"{above}_{name}"], numbered)
        plan[next(free for each in names if (free := f"{home}/{each}") not in plan)] = file
    return plan


def _first_column(path: str) -> list[str]:
    """The first cells of a CSV file. Raises UserError for what csv cannot read."""
    try:
        rows = list(csv.reader(text_file.lines_of(path, errors="replace")))
    except csv.Error as error:
        raise UserError(f"--from: {path} cannot be read ({error}).") from error
    return [row[0] for row in rows if row]


def _pairs(path: str) -> dict[str, str]:
    """First column -> second column of a text file, separated by spaces.

    Raises UserError for another form.
    """
    pairs = {}
    for line in filter(str.strip, text_file.lines_of(path, errors="replace")):
        columns = line.split(maxsplit=1)
        if len(columns) != 2:
            raise UserError(f"--from: {path} has the line {columns[0]!r}; expected are 2 columns.")
        pairs[columns[0]] = columns[1]
    return pairs


def _mat(path: str, name: str) -> np.ndarray:
    """A variable of a MATLAB file. Raises UserError where it has none of that name."""
    from scipy.io import loadmat

    try:
        return loadmat(path, squeeze_me=True)[name]
    except Exception as error:  # scipy raises many types for files that are no .mat
        raise UserError(
            f"--from: {path} is no MATLAB file with {name} in it "
            f"({type(error).__name__}: {reason(error)})."
        ) from error


def _labels(path: str, image: str) -> list[tuple[str, int]]:
    """Image and class number of each annotation.

    Raises UserError where they have none, as the lists of unlabelled images do.
    """
    annotations = _mat(path, "annotations")
    fields = annotations.dtype.names or ()
    if not {image, "class"} <= set(fields):
        raise UserError(
            f"--from: the annotations of {path} have {', '.join(fields or ['no fields'])}; "
            f"needed are {image} and class."
        )
    pairs = zip(annotations[image], annotations["class"])
    return [(str(file), int(label)) for file, label in pairs]
