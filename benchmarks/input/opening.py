"""How long benchmarks of full size take to be prepared and opened, and what their index holds.

    python benchmarks/input/opening.py --folder SCRATCH

Makes each benchmark with its published number of classes and images, every image a hard link to one
small JPEG, so that no dataset is needed. Opening is measured in a process of its own, its memory in
a second call there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
LINKS = 30_000  # ext4 allows 65,000 of a file, and preparing doubles them
OPEN = """
import json, sys, time, tracemalloc
import datasets
started = time.perf_counter()
datasets.select(*sys.argv[1:])
seconds = time.perf_counter() - started
tracemalloc.start()
splits = datasets.select(*sys.argv[1:])
print(json.dumps({"seconds": seconds, "megabytes": [value / 1e6 for value in tracemalloc.get_traced_memory()], "images": len(splits.training) + len(splits.testing)}))
"""


def spread(classes: int, images: int, first: int = 1) -> list[tuple[int, int]]:
    """Class and number of each of `images` images, as even as possible."""
    return [(first + image % classes, image // classes) for image in range(images)]


def cub200(facts) -> tuple[list[str], dict[str, str]]:
    cells = spread(*facts.counts["train"]) + spread(*facts.counts["test"], first=101)
    return [f"images/{label:03}.Bird_{label}/{image}.jpg" for label, image in cells], {}


def cars196(facts) -> tuple[list[str], dict[str, str]]:
    cells = spread(*facts.counts["train"]) + spread(*facts.counts["test"], first=99)
    return [f"images/{label:03}.Car {label}/{image}.jpg" for label, image in cells], {}


def online_products(facts) -> tuple[list[str], dict[str, str]]:
    cells = {
        "train": spread(*facts.counts["train"]),
        "test": spread(*facts.counts["test"], first=11_319),
    }
    paths = {
        part: [f"kind_{label % 12}_final/{label}_{image}.JPG" for label, image in own]
        for part, own in cells.items()
    }
    lists = {
        f"Ebay_{part}.txt": "image_id class_id super_class_id path\n"
        + "".join(f"1 {label} {label % 12} {path}\n" for (label, _), path in zip(own, paths[part]))
        for part, own in cells.items()
    }
    return [*paths["train"], *paths["test"]], lists


def inshop(facts) -> tuple[list[str], dict[str, str]]:
    cells = [
        (part, label, image)
        for part, (classes, images) in facts.counts.items()
        for label, image in spread(classes, images, first=1 if part == "train" else 4_000)
    ]
    paths = [
        f"img/WOMEN/Kind_{label % 17}/id_{label:08}/{part}_{image}.jpg"
        for part, label, image in cells
    ]
    rows = [f"{path}  id_{label:08}  {part}\n" for path, (part, label, _) in zip(paths, cells)]
    return paths, {
        "list_eval_partition.txt": f"{len(rows)}\nimage_name item_id evaluation_status\n{''.join(rows)}"
    }


def make(folder: Path, paths: list[str], lists: dict[str, str]) -> None:
    """All paths as links to a few equal files, and the lists."""
    folder.mkdir()
    for parent in {os.path.dirname(path) for path in paths}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        source = folder.parent / f"{folder.name}_{number // LINKS}.jpg"
        if not source.exists():
            Image.new("RGB", (8, 8), (number % 256, 0, 0)).save(source)
        os.link(source, folder / path)
    for name, text in lists.items():
        (folder / name).write_text(text)


def opened(name: str, source: str) -> str:
    """Cells of the table: images, seconds, megabytes of the index and at the peak of its making."""
    found = json.loads(
        subprocess.run(
            [sys.executable, "-c", OPEN, name, source],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    return f"{found['images']:,} | {found['seconds']:.2f} | {found['megabytes'][0]:.0f} ({found['megabytes'][1]:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder",
        help="Where 600,000 links are made and removed again; the system's temporary folder by default.",
    )
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as scratch:
        sys.path.insert(0, str(ROOT))
        import datasets

        print(
            "| dataset | prepare, s | images | open, s | index, MB (peak) |\n|---|---|---|---|---|"
        )
        for name, layout in {
            "cub200": cub200,
            "cars196": cars196,
            "online_products": online_products,
            "inshop": inshop,
        }.items():
            make(Path(scratch) / f"{name}_as_published", *layout(datasets.BENCHMARKS[name].FACTS))
            started = time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "datasets.prepare",
                name,
                "--from",
                f"{scratch}/{name}_as_published",
                "--to",
                scratch,
            ]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            print(
                f"| {name} | {time.perf_counter() - started:.1f} | {opened(name, scratch)} |",
                flush=True,
            )
        paths = [f"{label}/{image}.jpg" for label, image in spread(22_634, 120_053)]
        make(
            Path(scratch) / "tree",
            paths,
            {
                "table.csv": "path,label\n"
                + "".join(f"{path},{path.split('/')[0]}\n" for path in paths)
            },
        )
        print(
            f"| folder | | {opened('folder', f'{scratch}/tree')} |\n| table | | {opened('table', f'{scratch}/tree/table.csv')} |"
        )


if __name__ == "__main__":
    main()
