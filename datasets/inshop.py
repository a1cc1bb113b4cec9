"""DeepFashion In-Shop (Liu et al. 2016): clothes; test images are queries or their gallery.

Shop and customers show the same clothes; an item is a class.
"""

from pathlib import Path

import numpy as np

from datasets import scan
from datasets.benchmark import Benchmark
from datasets.listing import TEST, TRAIN, Category, Listing
from utilities import text_file
from utilities.documents import from_json
from utilities.errors import UserError

PARTITION, DESCRIPTIONS = "list_eval_partition.txt", "list_description_inshop.json"
COLUMNS = ["image_name", "item_id", "evaluation_status"]
STATUSES = ("train", "query", "gallery")
FACTS = Benchmark(
    counts={"train": (3_997, 25_882), "query": (3_985, 14_218), "gallery": (3_985, 12_612)},
    source=(
        "the folder 'In-shop Clothes Retrieval Benchmark' that "
        "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html links to: Img/img.zip "
        "(not img_highres.zip, which needs a password), Eval/list_eval_partition.txt and, "
        "for guidance by descriptions, Anno/list_description_inshop.json"
    ),
    files={"img.zip": None, PARTITION: None, DESCRIPTIONS: None},
)


def read(root: Path) -> Listing:
    """`<root>/images/<gender>/<category>/<item>/*` and `<root>/Info_Files/list_eval_partition.txt`.

    Guidance reads the sentences of `Info_Files/list_description_inshop.json` where that file is
    there, else gender and category. Listed images that are missing are left out, and told.
    """
    images, rows = root / "images", read_partition(root / "Info_Files" / PARTITION)
    existing = scan.relative_images(images) if images.is_dir() else set()
    scan.tell_missing([path for path, _, _ in rows], existing, images)
    rows = [row for row in rows if row[0] in existing]
    categories = _categories(rows, read_descriptions(root / "Info_Files" / DESCRIPTIONS))
    items = [category.name for category in categories]
    status = np.array([row[2] for row in rows])
    return Listing(
        files=[f"{images}/{path}" for path, _, _ in rows],
        labels=np.searchsorted(items, [item for _, item, _ in rows]),
        categories=categories,
        parts=np.where(status == "train", TRAIN, TEST).astype(np.int8),
        is_query=status == "query",
        is_gallery=status == "gallery",
    )


def read_partition(path: Path) -> list[tuple[str, str, str]]:
    """Image path (without the leading img/), item and status of each record.

    Raises UserError for a missing file and for one of another form.
    """
    try:
        _, header, *lines = text_file.lines_of(path)
        rows = [line.split() for line in lines if line.strip()]
        if header.split() != COLUMNS or not all(map(_is_record, rows)):
            raise ValueError(f"expected are a line with the count and lines of {' '.join(COLUMNS)}")
        return [(name.removeprefix("img/"), item, status) for name, item, status in rows]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error})."
        ) from error


def read_descriptions(path: Path) -> dict[str, tuple[str, ...]]:
    """Item -> its sentences, nothing where the file is not there.

    Raises UserError for a file of another form.
    """
    if not path.is_file():
        return {}
    try:
        records = from_json(text_file.read_text(path))
        return {record["item"]: _sentences(record["description"]) for record in records}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected is a list of "
            '{"item": ..., "description": [...]}. '
            "Without this file gender and category are the class text."
        ) from error


def _is_record(row: list[str]) -> bool:
    return len(row) == len(COLUMNS) and row[2] in STATUSES


def _sentences(description: str | list[str]) -> tuple[str, ...]:
    texts = [description] if isinstance(description, str) else description
    return tuple(text.strip() for text in texts if text.strip())


def _categories(
    rows: list[tuple[str, str, str]], descriptions: dict[str, tuple[str, ...]]
) -> list[Category]:
    """The items of the rows, sorted by name; their coarser class is the folder above them."""
    folders = {item: path.rpartition("/")[0].rpartition("/")[0] for path, item, _ in rows}
    categories = []
    for item, folder in sorted(folders.items()):
        text = scan.readable(folder.replace("/", " ").lower(), numbered=False)
        categories.append(Category(item, text, descriptions.get(item, ()), folder or None))
    return categories
