"""Images per second and core: the input pipeline beside the paper's and beside decoding alone.

    python benchmarks/input/throughput.py                             # 500 x 375, as in CUB-200
    python benchmarks/input/throughput.py --size 1600 1200 --images 112

JPEGs are made on the spot: random textures with the spectrum of photographs (about 95 KB at 500 x
    375), quality 90. All variants run in turn,
each in a process of its own with one thread, reading one epoch before the measured one. Their time
is that of an epoch, from files to
normalised float32 on the device, here the CPU: CPU time of all processes, which other work on the
    machine disturbs little, and that of the clock.
Prints medians, with the peak memory of the main process, which with `--workers 0` is everything.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import namedtuple
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import simplejpeg  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torchvision import transforms as torchvision_transforms  # noqa: E402

from datasets import cache, loading, transforms  # noqa: E402
from datasets.images import ImageSplit  # noqa: E402
from utilities import report  # noqa: E402

MEAN, STD, CROP = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224
Splits = namedtuple("Splits", ["training"])


class PapersPipeline(torch.utils.data.Dataset):
    """Pillow, then RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize of torchvision."""

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


def papers(files: list[str], batches: list[list[int]], workers: int):
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
):
    split = ImageSplit(
        files,
        np.zeros(len(files), dtype=np.int64),
        [""],
        transform=transforms.training("base", CROP, MEAN, STD),
    )
    (split,) = cache.attached(
        Splits(split),
        kind,
        limit=100,
        short_side=short_side,
        folder=str(Path(files[0]).parent / "cache"),
        fast=fast,
    )
    loader = loading.training_loader(split, batches, workers=workers)
    return lambda: [batch.to(torch.device("cpu")).images.shape for batch in loading.Batches(loader)]


def floor(files: list[str], batches: list[list[int]], workers: int):
    """Decoding alone, in one process whatever the number of workers."""
    return lambda: [
        simplejpeg.decode_jpeg(Path(files[index]).read_bytes()).shape
        for indices in batches
        for index in indices
    ]


VARIANTS = {
    "the paper's": papers,
    "ours, --decoding exact": partial(ours, fast=False),
    "ours": ours,
    "ours, --cache disk": partial(ours, kind="disk"),
    "ours, --cache ram": partial(ours, kind="ram"),
    "ours, --cache ram --cache_size 256": partial(ours, kind="ram", short_side=256),
    "decoding alone": floor,
}


def texture(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Random phases under a spectrum of 1 / frequency, as photographs have, with channels that go together."""
    frequency = np.hypot(
        *np.meshgrid(np.fft.fftfreq(width) * width, np.fft.fftfreq(height) * height)
    )
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
    ticks = [
        Path(f"/proc/{child.pid}/stat").read_text().rsplit(")")[1].split()[11:13]
        for child in multiprocessing.active_children()
    ]
    return time.process_time() + sum(int(tick) for pair in ticks for tick in pair) / os.sysconf(
        "SC_CLK_TCK"
    )


def measure(
    variant: str, files: list[str], batches: list[list[int]], workers: int, results
) -> None:
    """Seconds of CPU and of the clock for an epoch, and the peak memory of this process in MB."""
    torch.set_num_threads(1)
    epoch = VARIANTS[variant](files, batches, workers)
    epoch()
    cpu, clock = cpu_seconds(), time.perf_counter()
    epoch()
    results.put(
        (
            cpu_seconds() - cpu,
            time.perf_counter() - clock,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        )
    )


def main() -> None:
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
    options = parser.parse_args()
    context = multiprocessing.get_context("fork")
    runs: dict[str, list[tuple]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(folder, options.images, *options.size)
        size = statistics.mean(Path(file).stat().st_size for file in files) / 1000
        batches = [
            list(range(first, min(first + options.batch, len(files))))
            for first in range(0, len(files), options.batch)
        ]
        for _ in range(options.rounds):
            for variant in VARIANTS:
                results = context.SimpleQueue()
                process = context.Process(
                    target=measure, args=(variant, files, batches, options.workers, results)
                )
                process.start()
                runs[variant].append(results.get())
                process.join()
    rows = []
    for variant, found in runs.items():
        cpu, clock, memory = (statistics.median(values) for values in zip(*found))
        papers_cpu, papers_clock, _ = (
            statistics.median(values) for values in zip(*runs["the paper's"])
        )
        rows.append(
            (
                variant,
                f"{options.images / cpu:.0f}",
                f"{papers_cpu / cpu:.2f}",
                f"{options.images / clock:.0f}",
                f"{papers_clock / clock:.2f}",
                f"{memory:.0f}",
            )
        )
    print(
        f"{options.images} JPEGs of {options.size[0]} x {options.size[1]}, {size:.0f} KB each; batch {options.batch}; {options.workers} loading processes; medians of {options.rounds}"
    )
    print(
        report.table(
            rows,
            (
                "pipeline",
                "images per CPU second",
                "times the paper's",
                "images per second",
                "times the paper's",
                "peak MB",
            ),
        )
    )


if __name__ == "__main__":
    main()
