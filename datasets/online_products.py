"""Stanford Online Products (Oh Song et al. 2016): products sold online, split by its lists.

Guidance reads the 12 super-classes.
"""

from pathlib import Path

import numpy as np

from datasets import scan
from datasets.benchmark import Benchmark
from datasets.listing import TEST, TRAIN, Category, Listing
from utilities import text_file
from utilities.errors import UserError

LISTS = {"Ebay_train.txt": TRAIN, "Ebay_test.txt": TEST}
COLUMNS = ["image_id", "class_id", "super_class_id", "path"]
FACTS = Benchmark(
    counts={"train": (11_318, 59_551), "test": (11_316, 60_502)},
    source="https://cvgl.stanford.edu/projects/lifted_struct/",
    url="http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
    files={"Stanford_Online_Products.zip": "7f73d41a2f44250d4779881525aea32e"},
)


def read(root: Path) -> Listing:
    """`<root>/images/<super-class>_final/*` and `<root>/Info_Files/Ebay_{train,test}.txt`.

    Listed images that are missing are left out, and told.
    """
    images = root / "images"
    rows: list[tuple[int, str]] = []
    parts: list[int] = []
    for name, part in LISTS.items():
        listed = read_list(root / "Info_Files" / name)
        rows += listed
        parts += [part] * len(listed)
    existing = scan.relative_images(images) if images.is_dir() else set()
    scan.tell_missing([path for _, path in rows], existing, images)
    present = [number for number, (_, path) in enumerate(rows) if path in existing]
    rows = [rows[number] for number in present]
    superclasses = {label: path.split("/")[0].removesuffix("_final") for label, path in rows}
    class_numbers = sorted(superclasses)
    return Listing(
        files=[f"{images}/{path}" for _, path in rows],
        labels=np.searchsorted(class_numbers, [label for label, _ in rows]),
        categories=[_category(number, superclasses[number]) for number in class_numbers],
        parts=np.array(parts, dtype=np.int8)[present],
    )


def read_list(path: Path) -> list[tuple[int, str]]:
    """Class number and image path of each line.

    Raises UserError for a missing file and for one of another form.
    """
    try:
        header, *lines = text_file.lines_of(path)
        rows = [line.split() for line in lines if line.strip()]
        if header.split() != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
            raise ValueError(f"expected are lines of {' '.join(COLUMNS)}")
        return [(int(row[1]), row[3]) for row in rows]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error})."
        ) from error


def _category(number: int, superclass: str) -> Category:
    return Category(str(number), scan.readable(superclass, numbered=False), superclass=superclass)
