"""DeepFashion In-Shop (Liu et al. 2016): clothes as shop and customers show them; test images are queries or the gallery that they search in."""

import json
import logging
from pathlib import Path

import numpy as np

from datasets import scan
from datasets.benchmark import Benchmark
from datasets.listing import TEST, TRAIN, Category, Listing
from utilities.errors import UserError, named

LOG = logging.getLogger(__name__)
PARTITION, DESCRIPTIONS = "list_eval_partition.txt", "list_description_inshop.json"
COLUMNS = ["image_name", "item_id", "evaluation_status"]
STATUSES = ("train", "query", "gallery")
FACTS = Benchmark(
    counts={"train": (3_997, 25_882), "query": (3_985, 14_218), "gallery": (3_985, 12_612)},
    source="the folder 'In-shop Clothes Retrieval Benchmark' that https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html links to: Img/img.zip "
    "(not img_highres.zip, which needs a password), Eval/list_eval_partition.txt and, for guidance by descriptions, Anno/list_description_inshop.json",
    files={"img.zip": None, PARTITION: None, DESCRIPTIONS: None},
)


def read(root: Path) -> Listing:
    """`<root>/images/<gender>/<category>/<item>/*` and `<root>/Info_Files/list_eval_partition.txt`; an item is a class.

    Guidance reads the sentences of `Info_Files/list_description_inshop.json` where that file is
    there, else gender and category. Listed images that are missing are left out, and told.
    """
    images, rows = root / "images", read_partition(root / "Info_Files" / PARTITION)
    existing = scan.relative_images(images) if images.is_dir() else set()
    if missing := [path for path, _, _ in rows if path not in existing]:
        LOG.warning(
            "%s of the %s listed images are not in %s: %s.",
            f"{len(missing):,}",
            f"{len(rows):,}",
            images,
            named(missing),
        )
    rows = [row for row in rows if row[0] in existing]
    folders = {item: path.rpartition("/")[0].rpartition("/")[0] for path, item, _ in rows}
    described = read_descriptions(root / "Info_Files" / DESCRIPTIONS)
    categories = [
        Category(
            item,
            scan.readable(folder.replace("/", " ").lower(), numbered=False),
            described.get(item, ()),
            folder or None,
        )
        for item, folder in sorted(folders.items())
    ]
    status = np.array([row[2] for row in rows])
    return Listing(
        [f"{images}/{path}" for path, _, _ in rows],
        np.searchsorted(sorted(folders), [item for _, item, _ in rows]),
        categories,
        np.where(status == "train", TRAIN, TEST).astype(np.int8),
        is_query=status == "query",
        is_gallery=status == "gallery",
    )


def read_partition(path: Path) -> list[tuple[str, str, str]]:
    """Image path (without the leading img/), item and status of each record. Raises UserError for a missing file and for one of another form."""
    try:
        _, header, *lines = path.read_text().splitlines()
        rows = [line.split() for line in lines if line.strip()]
        if header.split() != COLUMNS or any(
            len(row) != len(COLUMNS) or row[2] not in STATUSES for row in rows
        ):
            raise ValueError(f"expected are a line with the count and lines of {' '.join(COLUMNS)}")
        return [(name.removeprefix("img/"), item, status) for name, item, status in rows]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error})."
        ) from error


def read_descriptions(path: Path) -> dict[str, tuple[str, ...]]:
    """Item -> its sentences, nothing where the file is not there. Raises UserError for a file of another form."""
    if not path.is_file():
        return {}
    try:
        sentences = {
            record["item"]: record["description"] for record in json.loads(path.read_text())
        }
        lists = {
            item: [texts] if isinstance(texts, str) else texts for item, texts in sentences.items()
        }
        return {
            item: tuple(text.strip() for text in texts if text.strip())
            for item, texts in lists.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected is a list of "
            '{"item": ..., "description": [...]}. Without this file gender and category are the class text.'
        ) from error
