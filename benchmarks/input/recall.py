"""What quicker decoding and smaller cached images do to Recall@1.

    python benchmarks/input/recall.py --source_path DATA --dataset cifar100 --arch_weights WEIGHTS
    python benchmarks/input/recall.py --smoke                         # whether it runs, in seconds

One frozen ImageNet trunk sees the same images read in each way. They are enlarged to 400 pixels
(bicubic) and stored as JPEGs, so that crops of 96 can be decoded at 1/2. Prints Recall@1 among the
pooled features of evaluation crops and of training crops (the same random ones in each row), and
how far features are from those of exact decoding.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import architectures
import datasets
from datasets import cache, loading, shapes, transforms
from datasets.images import ImageSplit
from utilities import report

SIZE, CROP = 400, 96
HEADER = (
    "images read with",
    "R@1 evaluation crops",
    "R@1 training crops",
    "cosine to exact, evaluation",
    "training",
)


class Reading(NamedTuple):
    """How images are read."""

    fast: bool  # decoding
    short_side: int | None  # at which a cache keeps them; None: no cache


VARIANTS = {
    "--decoding exact": Reading(False, None),
    "--decoding fast": Reading(True, None),
    "--cache ram --cache_size 0": Reading(True, 0),
    "--cache ram --cache_size 256": Reading(True, 256),
    "--cache ram --cache_size 110": Reading(True, 110),
}


def enlarged(split: ImageSplit, per_class: int, target: Path) -> ImageSplit:
    """Copies of the first images of each class, SIZE x SIZE."""
    # Labels ascend, so that the first image of a class is where its label would be inserted.
    rank = np.arange(len(split)) - np.searchsorted(split.labels, split.labels)
    rows = np.flatnonzero(rank < per_class)
    files = [str(target / f"{row}.jpg") for row in rows]
    for row, file in tqdm(zip(rows, files), total=len(rows), desc="Enlarging", leave=False):
        image = Image.open(split.files[row]).convert("RGB")
        image.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(file, quality=90)
    return ImageSplit(files, split.labels[rows], split.class_texts)


def read_by(split: ImageSplit, reading: Reading, folder: Path) -> ImageSplit:
    """The split read in one of the ways."""
    opener = cache.opener(
        split.files,
        "none" if reading.short_side is None else "ram",
        limit=4,
        short_side=reading.short_side or 0,
        folder=str(folder),
        fast=reading.fast,
    )
    return split.opened_by(opener)


@torch.inference_mode()
def features(network: torch.nn.Module, split: ImageSplit, workers: int) -> torch.Tensor:
    """Unit rows [N, F]."""
    batches = loading.evaluation_batches(split, batch_size=100, workers=workers)
    rows = [
        network(batch.to(torch.device("cpu"), channels_last=True).images).features
        for batch in tqdm(batches, leave=False)
    ]
    return torch.nn.functional.normalize(torch.cat(rows), dim=1)


def recall_at_1(rows: torch.Tensor, labels: torch.Tensor) -> float:
    similarities = (rows @ rows.T).fill_diagonal_(-1)
    return float((labels[similarities.argmax(1)] == labels).float().mean())


def mean_cosine(rows: torch.Tensor, exact: torch.Tensor) -> float:
    return float((rows * exact).sum(1).mean())


def rows_of_table(
    network: architectures.EmbeddingNetwork, split: ImageSplit, folder: Path, workers: int
) -> list[tuple[str, ...]]:
    """A row for each variant; the first is that of exact decoding."""
    crops = transforms.select("base", CROP, network.mean, network.std)
    labels = torch.from_numpy(split.labels)
    rows: list[tuple[str, ...]] = []
    exact: list[torch.Tensor] = []
    for variant, reading in VARIANTS.items():
        images = read_by(split, reading, folder)
        by_crops = [
            features(network, images.with_transform(crop), workers)
            for crop in (crops.evaluation, crops.training)
        ]
        exact = exact or by_crops
        recalls = [f"{100 * recall_at_1(vectors, labels):.2f}" for vectors in by_crops]
        cosines = [f"{mean_cosine(*pair):.4f}" for pair in zip(by_crops, exact)]
        rows.append((variant, *recalls, *cosines))
    return rows


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source_path")
    parser.add_argument("--dataset")
    parser.add_argument("--arch_weights")
    parser.add_argument(
        "--per_class", type=int, default=40, help="images of each of the unseen classes"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="whether it runs: a few images of the built-in dataset, random weights",
    )
    options = parser.parse_args()
    needed = ("source_path", "dataset", "arch_weights")
    if not options.smoke and not all(getattr(options, name) for name in needed):
        parser.error(f"--{', --'.join(needed)} are needed, or --smoke")
    return options


def main() -> None:
    options = parsed_options()
    network = architectures.select(
        "mobilenetv2_100_frozen_normalize",
        embed_dim=128,
        image_size=CROP,
        pretrained=not options.smoke,
        weights_file=options.arch_weights,
    )
    network = network.to(memory_format=torch.channels_last).eval()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.smoke:
            shapes.render(folder / "shapes", classes=4, images_per_class=2)
            options.dataset, options.source_path, options.workers = "shapes", temporary, 0
        testing = datasets.select(options.dataset, options.source_path).testing
        split = enlarged(testing, options.per_class, folder)
        rows = rows_of_table(network, split, folder, options.workers)
    print(
        f"{len(split)} images of {len(split.class_texts)} classes, {SIZE} x {SIZE}, crops of {CROP}"
    )
    print(report.table(rows, HEADER))


if __name__ == "__main__":
    main()
