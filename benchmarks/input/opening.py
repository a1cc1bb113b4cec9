"""How long benchmarks of full size take to be prepared and opened, and what their index holds.

    python benchmarks/input/opening.py --folder SCRATCH
    python benchmarks/input/opening.py --smoke                        # whether it runs, in seconds

Makes each benchmark with its published number of classes and images, every image a hard link to a
small JPEG, so that no dataset is needed; the tree that is of no benchmark has copies. Each is
prepared and opened in processes of their own, and the memory of opening is measured in a second
call there. Times are of the work, without the start of Python.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from PIL import Image

import datasets
from datasets.prepare import prepare

LINKS = 30_000  # ext4 allows 65,000 of a file, and preparing doubles them
OWN_CLASSES, OWN_IMAGES = 22_634, 120_053  # of the folder and the table, as in online_products
SMOKE_CLASSES, SMOKE_IMAGES = 4, 12  # of each part
Result = TypeVar("Result")
Counts = dict[str, tuple[int, int]]  # part -> classes, images
Place = Callable[[Path, Path], object]
Layout = tuple[list[str], dict[str, str]]  # paths of images, name -> text of lists


class Opening(NamedTuple):
    images: int
    seconds: float
    held: float  # MB that stay
    peak: float  # MB while it is made


def spread(classes: int, images: int, first: int = 1) -> list[tuple[int, int]]:
    """Class and number of each of `images` images, as even as possible."""
    return [(first + image % classes, image // classes) for image in range(images)]


def train_and_test(counts: Counts, first_test: int) -> dict[str, list[tuple[int, int]]]:
    return {
        "train": spread(*counts["train"]),
        "test": spread(counts["test"][0], counts["test"][1], first_test),
    }


def cub200(counts: Counts) -> Layout:
    cells = train_and_test(counts, first_test=101)
    images = cells["train"] + cells["test"]
    return [f"images/{label:03}.Bird_{label}/{image}.jpg" for label, image in images], {}


def cars196(counts: Counts) -> Layout:
    cells = train_and_test(counts, first_test=99)
    images = cells["train"] + cells["test"]
    return [f"images/{label:03}.Car {label}/{image}.jpg" for label, image in images], {}


def online_products(counts: Counts) -> Layout:
    paths, lists = [], {}
    for part, images in train_and_test(counts, first_test=11_319).items():
        lines = ["image_id class_id super_class_id path\n"]
        for label, image in images:
            path = f"kind_{label % 12}_final/{label}_{image}.JPG"
            paths.append(path)
            lines.append(f"1 {label} {label % 12} {path}\n")
        lists[f"Ebay_{part}.txt"] = "".join(lines)
    return paths, lists


def inshop(counts: Counts) -> Layout:
    paths, rows = [], []
    for part, (classes, images) in counts.items():
        for label, image in spread(classes, images, first=1 if part == "train" else 4_000):
            path = f"img/WOMEN/Kind_{label % 17}/id_{label:08}/{part}_{image}.jpg"
            paths.append(path)
            rows.append(f"{path}  id_{label:08}  {part}\n")
    header = f"{len(rows)}\nimage_name item_id evaluation_status\n"
    return paths, {"list_eval_partition.txt": header + "".join(rows)}


def own(classes: int, images: int) -> Layout:
    """A tree of class folders with a table of its images."""
    paths = [f"{label}/{image}.jpg" for label, image in spread(classes, images)]
    rows = [f"{path},{path.split('/')[0]}\n" for path in paths]
    return paths, {"table.csv": "path,label\n" + "".join(rows)}


LAYOUTS: dict[str, Callable[[Counts], Layout]] = {
    "cub200": cub200,
    "cars196": cars196,
    "online_products": online_products,
    "inshop": inshop,
}


def make(folder: Path, paths: list[str], lists: dict[str, str], place: Place = os.link) -> Path:
    """All paths as links to a few equal files, and the lists.

    Args:
        place: makes a path of such a file; a tree of somebody's own has no image twice, as copies.
    """
    folder.mkdir()
    for parent in {os.path.dirname(path) for path in paths}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        source = folder.parent / f"{folder.name}_{number // LINKS}.jpg"
        if not source.exists():
            Image.new("RGB", (8, 8), (number % 256, 0, 0)).save(source)
        place(source, folder / path)
    for name, text in lists.items():
        (folder / name).write_text(text)
    return folder


def in_a_process(work: Callable[..., Result], *arguments: object) -> Result:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()


def preparing(name: str, source: Path, target: Path, allow_partial: bool) -> float:
    """Seconds."""
    started = time.perf_counter()
    prepare(name, [source], target, allow_partial=allow_partial)
    return time.perf_counter() - started


def opening(name: str, source: Path, allow_partial: bool) -> Opening:
    """What a first call takes, and what a second one holds."""
    started = time.perf_counter()
    datasets.select(name, str(source), allow_partial=allow_partial)
    seconds = time.perf_counter() - started
    tracemalloc.start()
    splits = datasets.select(name, str(source), allow_partial=allow_partial)
    held, peak = tracemalloc.get_traced_memory()
    return Opening(len(splits.files()), seconds, held / 1e6, peak / 1e6)


def print_row(name: str, prepared: str, opened: Opening) -> None:
    print(
        f"| {name} | {prepared} | {opened.images:,} | {opened.seconds:.2f} "
        f"| {opened.held:.0f} ({opened.peak:.0f}) |",
        flush=True,
    )


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        help="where 600,000 links are made and removed again; "
        "the system's temporary folder by default",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help=f"whether it runs, not how fast: {SMOKE_IMAGES} images in each part",
    )
    return parser.parse_args()


def main() -> None:
    options = parsed_options()
    small = (SMOKE_CLASSES, SMOKE_IMAGES)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        scratch = Path(temporary)
        print(
            "| dataset | prepare, s | images | open, s | index, MB (peak) |\n|---|---|---|---|---|"
        )
        for name, layout in LAYOUTS.items():
            counts = datasets.BENCHMARKS[name].FACTS.counts
            if options.smoke:
                counts = dict.fromkeys(counts, small)
            source = make(scratch / f"{name}_as_published", *layout(counts))
            seconds = in_a_process(preparing, name, source, scratch, options.smoke)
            opened = in_a_process(opening, name, scratch, options.smoke)
            print_row(name, f"{seconds:.1f}", opened)
        tree = make(
            scratch / "tree",
            *own(*(small if options.smoke else (OWN_CLASSES, OWN_IMAGES))),
            place=shutil.copyfile,
        )
        print_row("folder", "", in_a_process(opening, "folder", tree, options.smoke))
        print_row("table", "", in_a_process(opening, "table", tree / "table.csv", options.smoke))


if __name__ == "__main__":
    main()
