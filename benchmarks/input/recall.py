"""What quicker decoding and smaller cached images do to Recall@1: one frozen ImageNet trunk, the same images read in each way.

    python benchmarks/input/recall.py --source_path DATA --dataset cifar100 --arch_weights WEIGHTS

Images are enlarged to 400 pixels (bicubic) and stored as JPEGs, so that crops of 96 can be decoded
at 1/2. Prints Recall@1 among the pooled features of evaluation crops and of training crops (the
same random ones in each row), and how far features are from those of exact decoding.
"""

import argparse
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from tqdm import tqdm  # noqa: E402

import architectures  # noqa: E402
import datasets  # noqa: E402
from datasets import cache, loading, transforms  # noqa: E402
from datasets.images import ImageSplit  # noqa: E402
from utilities import report  # noqa: E402

SIZE, CROP = 400, 96
Splits = namedtuple("Splits", ["testing"])
# How images are read: fast decoding, and the short side at which a cache keeps them (None: no
# cache).
VARIANTS = {
    "--decoding exact": (False, None),
    "--decoding fast": (True, None),
    "--cache ram --cache_size 0": (True, 0),
    "--cache ram --cache_size 256": (True, 256),
    "--cache ram --cache_size 110": (True, 110),
}


def enlarged(split: ImageSplit, per_class: int, target: Path) -> ImageSplit:
    """Copies of the first images of each class, SIZE x SIZE."""
    first = np.flatnonzero(
        np.arange(len(split)) - np.searchsorted(split.labels, split.labels) < per_class
    )  # labels ascend
    files = [str(target / f"{row}.jpg") for row in first]
    for row, file in tqdm(zip(first, files), total=len(first), desc="Enlarging", leave=False):
        Image.open(split.files[row]).convert("RGB").resize(
            (SIZE, SIZE), Image.Resampling.BICUBIC
        ).save(file, quality=90)
    return ImageSplit(files, split.labels[first], split.class_texts)


@torch.inference_mode()
def features(network, split: ImageSplit, workers: int) -> torch.Tensor:
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source_path", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--arch_weights", required=True)
    parser.add_argument(
        "--per_class", type=int, default=40, help="images of each of the unseen classes"
    )
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    network = architectures.select(
        "mobilenetv2_100_frozen_normalize",
        embed_dim=128,
        image_size=CROP,
        pretrained=True,
        weights_file=options.arch_weights,
    )
    network = network.to(memory_format=torch.channels_last).eval()
    testing = datasets.select(options.dataset, options.source_path).testing
    crops = {
        kind.__name__: kind("base", CROP, network.mean, network.std)
        for kind in (transforms.evaluation, transforms.training)
    }
    rows, exact = [], {}
    with tempfile.TemporaryDirectory() as target:
        split = enlarged(testing, options.per_class, Path(target))
        for variant, (fast, short_side) in VARIANTS.items():
            (read,) = cache.attached(
                Splits(split),
                "none" if short_side is None else "ram",
                limit=4,
                short_side=short_side or 0,
                folder=target,
                fast=fast,
            )
            found = {
                kind: features(network, read.with_transform(transform), options.workers)
                for kind, transform in crops.items()
            }
            exact = exact or found
            rows.append(
                (
                    variant,
                    *(
                        f"{100 * recall_at_1(found[kind], torch.from_numpy(split.labels)):.2f}"
                        for kind in crops
                    ),
                    *(f"{float((found[kind] * exact[kind]).sum(1).mean()):.4f}" for kind in crops),
                )
            )
    print(
        f"{len(split)} images of {len(split.class_texts)} classes, {SIZE} x {SIZE}, crops of {CROP}"
    )
    print(
        report.table(
            rows,
            (
                "images read with",
                "R@1 evaluation crops",
                "R@1 training crops",
                "cosine to exact, evaluation",
                "training",
            ),
        )
    )


if __name__ == "__main__":
    main()
