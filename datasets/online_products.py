"""Stanford Online Products (Oh Song et al. 2016): products sold online, split by its lists; guidance reads the 12 super-classes."""

import logging
from pathlib import Path

import numpy as np

from datasets import scan
from datasets.benchmark import Benchmark
from datasets.listing import TEST, TRAIN, Category, Listing
from utilities.errors import UserError, named

LOG = logging.getLogger(__name__)
LISTS = {"Ebay_train.txt": TRAIN, "Ebay_test.txt": TEST}
COLUMNS = ["image_id", "class_id", "super_class_id", "path"]
FACTS = Benchmark(
    counts={"train": (11_318, 59_551), "test": (11_316, 60_502)},
    source="https://cvgl.stanford.edu/projects/lifted_struct/",
    url="http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
    files={"Stanford_Online_Products.zip": "7f73d41a2f44250d4779881525aea32e"},
)


def read(root: Path) -> Listing:
    """`<root>/images/<super-class>_final/*` and `<root>/Info_Files/Ebay_{train,test}.txt`; listed images that are missing are left out, and told."""
    images, rows, parts = root / "images", [], []
    for name, part in LISTS.items():
        listed = read_list(root / "Info_Files" / name)
        rows += listed
        parts += [part] * len(listed)
    existing = scan.relative_images(images) if images.is_dir() else set()
    kept = [number for number, (_, path) in enumerate(rows) if path in existing]
    if missing := [path for _, path in rows if path not in existing]:
        LOG.warning(
            "%s of the %s listed images are not in %s: %s.",
            f"{len(missing):,}",
            f"{len(rows):,}",
            images,
            named(missing),
        )
    superclass = {
        rows[number][0]: rows[number][1].split("/")[0].removesuffix("_final") for number in kept
    }
    names = sorted(superclass)
    labels = np.searchsorted(names, [rows[number][0] for number in kept])
    categories = [
        Category(
            str(name), scan.readable(superclass[name], numbered=False), superclass=superclass[name]
        )
        for name in names
    ]
    return Listing(
        [f"{images}/{rows[number][1]}" for number in kept],
        labels,
        categories,
        np.array(parts, dtype=np.int8)[kept],
    )


def read_list(path: Path) -> list[tuple[int, str]]:
    """Class number and image path of each line. Raises UserError for a missing file and for one of another form."""
    try:
        header, *lines = path.read_text().splitlines()
        rows = [line.split() for line in lines if line.strip()]
        if header.split() != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
            raise ValueError(f"expected are lines of {' '.join(COLUMNS)}")
        return [(int(row[1]), row[3]) for row in rows]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error})."
        ) from error
