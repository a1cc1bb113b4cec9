"""Images per second and core: the input pipeline beside the paper's and beside decoding alone.

    python benchmarks/input/throughput.py                             # 500 x 375, as in CUB-200
    python benchmarks/input/throughput.py --size 1600 1200 --images 112
    python benchmarks/input/throughput.py --smoke                     # whether it runs, in seconds

JPEGs are made on the spot: random textures with the spectrum of photographs (about 95 KB at 500 x
375), quality 90. All variants run in turn, each in a process of its own with one thread, reading
one epoch before the measured one. Their time is that of an epoch, from files to normalised float32
on the device, here the CPU: CPU time of all processes, which other work on the machine disturbs
little, and that of the clock. Prints medians, with the peak memory of the main process, which with
`--workers 0` is everything.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torchvision import transforms as torchvision_transforms

from datasets import cache, loading, transforms
from datasets.images import ImageSplit
from utilities import report

MEAN, STD, CROP = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224
SMOKE = ["--images", "6", "--size", "160", "120", "--batch", "4", "--rounds", "1"]
HEADER = (
    "pipeline",
    "images per CPU second",
    "times the paper's",
    "images per second",
    "times the paper's",
    "peak MB",
)
Epoch = Callable[[], object]  # reads all batches once


class Cost(NamedTuple):
    """Of one epoch."""

    cpu: float  # seconds, of all processes
    clock: float  # seconds
    memory: float  # MB, the peak of the main process


class PapersPipeline(torch.utils.data.Dataset):
    """Pillow, then torchvision: RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize."""

    def __init__(self, files: list[str]):
        self.files = files
        self.transform = torchvision_transforms.Compose(
            [
                torchvision_transforms.RandomResizedCrop(CROP),
                torchvision_transforms.RandomHorizontalFlip(),
                torchvision_transforms.ToTensor(),
                torchvision_transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.files[index]).convert("RGB")), index


def papers(files: list[str], batches: list[list[int]], workers: int) -> Epoch:
    loader = torch.utils.data.DataLoader(
        PapersPipeline(files),
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: [images.shape for images, _ in loader]


def ours(
    files: list[str],
    batches: list[list[int]],
    workers: int,
    kind: str = "none",
    short_side: int = 0,
    fast: bool = True,
) -> Epoch:
    folder = str(Path(files[0]).parent / "cache")
    opener = cache.opener(files, kind, limit=100, short_side=short_side, folder=folder, fast=fast)
    crops = transforms.training("base", CROP, MEAN, STD)
    split = ImageSplit(files, np.zeros(len(files), dtype=np.int64), [""], transform=crops)
    loader = loading.training_loader(split.opened_by(opener), batches, workers=workers)
    return lambda: [batch.to(torch.device("cpu")).images.shape for batch in loading.Batches(loader)]


def floor(files: list[str], batches: list[list[int]], workers: int) -> Epoch:
    """Decoding alone, in one process whatever the number of workers."""
    in_order = [files[index] for indices in batches for index in indices]
    return lambda: [simplejpeg.decode_jpeg(Path(file).read_bytes()).shape for file in in_order]


VARIANTS: dict[str, Callable[[list[str], list[list[int]], int], Epoch]] = {
    "the paper's": papers,
    "ours, --decoding exact": partial(ours, fast=False),
    "ours": ours,
    "ours, --cache disk": partial(ours, kind="disk"),
    "ours, --cache ram": partial(ours, kind="ram"),
    "ours, --cache ram --cache_size 256": partial(ours, kind="ram", short_side=256),
    "decoding alone": floor,
}


def texture(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Random phases under a spectrum of 1 / frequency, as photographs have.

    Channels go together.
    """
    across, down = np.fft.fftfreq(width) * width, np.fft.fftfreq(height) * height
    frequency = np.hypot(*np.meshgrid(across, down))
    frequency[0, 0] = 1
    layers = [
        np.fft.ifft2(np.exp(2j * np.pi * random.random((height, width))) / frequency**1.2).real
        for _ in range(4)
    ]
    channels = [layers[0] + 0.3 * layer for layer in layers[1:]]
    pixels = np.stack(
        [128 + 55 * (channel - channel.mean()) / channel.std() for channel in channels], axis=2
    )
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def make_images(folder: str, count: int, width: int, height: int) -> list[str]:
    random, files = np.random.default_rng(0), [f"{folder}/{number}.jpg" for number in range(count)]
    for file in files:
        texture(width, height, random).save(file, quality=90)
    return files


def cpu_seconds() -> float:
    """Of this process and its loading processes."""
    seconds = time.process_time()
    for child in multiprocessing.active_children():
        user, system = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")")[1].split()[11:13]
        seconds += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return seconds


def cost(variant: str, files: list[str], batches: list[list[int]], workers: int) -> Cost:
    """The cost of a variant's second epoch in this process."""
    torch.set_num_threads(1)
    epoch = VARIANTS[variant](files, batches, workers)
    epoch()
    cpu, clock = cpu_seconds(), time.perf_counter()
    epoch()
    cpu, clock = cpu_seconds() - cpu, time.perf_counter() - clock
    return Cost(cpu, clock, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def measured(
    files: list[str], batches: list[list[int]], workers: int, rounds: int
) -> dict[str, Cost]:
    """Medians of each variant, which take turns."""
    context = multiprocessing.get_context("fork")
    costs: dict[str, list[Cost]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant in VARIANTS:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                run = pool.submit(cost, variant, files, batches, workers)
                costs[variant].append(run.result())
    return {
        variant: Cost(*(statistics.median(column) for column in zip(*runs)))
        for variant, runs in costs.items()
    }


def row(variant: str, spent: Cost, papers_spent: Cost, images: int) -> tuple[str, ...]:
    return (
        variant,
        f"{images / spent.cpu:.0f}",
        f"{papers_spent.cpu / spent.cpu:.2f}",
        f"{images / spent.clock:.0f}",
        f"{papers_spent.clock / spent.clock:.2f}",
        f"{spent.memory:.0f}",
    )


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=336)
    parser.add_argument(
        "--size", type=int, nargs=2, default=[500, 375], metavar=("WIDTH", "HEIGHT")
    )
    parser.add_argument("--batch", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--workers", type=int, default=0, help="loading processes; 0 reads in the main process"
    )
    parser.add_argument(
        "--smoke", action="store_true", help=f"whether it runs, not how fast: {' '.join(SMOKE)}"
    )
    options = parser.parse_args()
    return parser.parse_args(SMOKE, options) if options.smoke else options


def main() -> None:
    options = parsed_options()
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(folder, options.images, *options.size)
        size = statistics.mean(Path(file).stat().st_size for file in files) / 1000
        indices = list(range(len(files)))
        batches = [indices[first : first + options.batch] for first in indices[:: options.batch]]
        costs = measured(files, batches, options.workers, options.rounds)
    width, height = options.size
    print(
        f"{options.images} JPEGs of {width} x {height}, {size:.0f} KB each; "
        f"batch {options.batch}; {options.workers} loading processes; medians of {options.rounds}"
    )
    rows = [
        row(variant, spent, costs["the paper's"], options.images)
        for variant, spent in costs.items()
    ]
    print(report.table(rows, HEADER))


if __name__ == "__main__":
    main()
