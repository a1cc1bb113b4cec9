"""How fast are a step and an epoch on the GPU beside what they cannot be faster than?

    python benchmarks/cuda/speed.py --results FOLDER
    python benchmarks/cuda/speed.py --smoke             # whether it runs: on the CPU, in seconds

ResNet50 at 224 pixels, batches of 112 in 512 dimensions, multisimilarity with guidance by class
names, on as many images as CUB-200 has (textures of 500 x 375 in files that share few different
contents; vectors drawn at random stand for the language model). A step is `Learner.step` on a
batch as the loader hands it over, in pinned memory; beside it the bare loop, forward and backward
of the same network on one batch that lies on the GPU, without and with a fused Adam, and one of the
network whose frozen BatchNorms are layers of their own, as elsewhere. An epoch is
measured as benchmarks/epoch_cost.py does it, and beside the loader alone. Last, each objective
alone, as benchmarks/objectives.py has it. Everything is timed in turn, round after round, in one
process, and medians are given.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from torch import nn

import architectures
import build
import parameters
from benchmarks import epoch_cost, objectives
from benchmarks.cuda.sheets import Sheet, command_line, keep, write_word_vectors
from benchmarks.input.throughput import texture
from datasets import loading
from utilities import cores
from utilities.runtime import Runtime
from utilities.types import Batch, PixelBatch

CLASSES = 200
CONTENTS = 64  # different files, to which all others are links
GIB = 2**30


class Size(NamedTuple):
    """How much is measured. `train` and `test` are images of a half of the classes."""

    train: int = 5864
    test: int = 5924
    width: int = 500
    height: int = 375
    steps: int = 10
    rounds: int = 3
    epochs: int = 2
    batches: tuple[int, ...] = (112, 1024)
    objectives: tuple[str, ...] = tuple(objectives.CANDIDATES)


FORMATS = {
    "fp32, contiguous": ("--precision", "fp32", "--memory_format", "contiguous"),
    "fp32, channels_last": ("--precision", "fp32", "--channels_last"),
    "fp16, channels_last": ("--precision", "fp16", "--channels_last"),
    "as by default (bf16, channels_last)": (),
    "compiled (bf16, channels_last)": ("--compile",),
}
LARGE = ("--arch", "resnet50_frozen_normalize", "--not_pretrained", "--embed_dim", "512")
# Objectives have a smoke run of their own.
SMOKE = Size(100, 100, 80, 60, 1, 1, 1, (), ())
SMOKE_FORMATS: dict[str, tuple[str, ...]] = {"fp32": ("--precision", "fp32")}
SMALL = (
    "--arch",
    "resnet10t_normalize",
    "--not_pretrained",
    "--image_size",
    "32",
    "--bs",
    "8",
    "--allow_partial",
)


def write_images(folder: Path, size: Size) -> None:
    """Both halves of the classes, as folders of CUB-200 lie."""
    random = np.random.default_rng(0)
    contents = []
    for number in range(CONTENTS):
        contents.append(folder / f"{number}.jpg")
        texture(size.width, size.height, random).save(contents[-1], quality=90)
    images = 0
    for label in range(CLASSES):
        half = CLASSES // 2
        count = size.train if label < half else size.test
        place = folder / "cub200" / "images" / f"{label + 1:03}.bird{label}"
        place.mkdir(parents=True)
        for number in range(count // half + (label % half < count % half)):
            os.link(contents[images % CONTENTS], place / f"{number}.jpg")
            images += 1


def flags(folder: Path, is_smoke: bool) -> list[str]:
    kernels = "0" if is_smoke else str(cores.usable())
    return [
        *("--dataset", "cub200", "--source_path", str(folder), "--kernels", kernels),
        *("--cache_path", str(folder / "cache"), "--loss", "multisimilarity"),
        *("--language_model", f"vectors:{folder / 'words.txt'}", "--language_distill_w", "10"),
        *("--no_train_metrics", "--no_figures"),
        *(SMALL if is_smoke else LARGE),
    ]


def seconds(work: Callable[[], object], device: torch.device) -> float:
    objectives.synchronise(device)
    started = time.perf_counter()
    work()
    objectives.synchronise(device)
    return time.perf_counter() - started


def peak(work: Callable[[], object], device: torch.device) -> float:
    """GiB that tensors took at most; 0 on the CPU, which does not tell."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    work()
    objectives.synchronise(device)
    return torch.cuda.max_memory_allocated() / GIB


def bare_step(
    network: nn.Module, images: torch.Tensor, runtime: Runtime, adam: torch.optim.Optimizer | None
) -> None:
    """Forward and backward, and an update if there is an optimiser."""
    network.zero_grad(set_to_none=True)
    with runtime.autocast():
        loss = network(images).embeddings.float().sum()
    loss.backward()
    if adam:
        adam.step()


class StepRates(NamedTuple):
    """Images per second, and GiB."""

    layers: float
    bare: float
    bare_with_adam: float
    ours: float
    layers_peak: float
    bare_peak: float
    ours_peak: float


def step_rates(words: list[str], size: Size) -> StepRates:
    """Of a step in one number format."""
    settings = parameters.parse(words)
    runtime = build.build_runtime(settings)
    device = runtime.device
    parts, network = epoch_cost.build_parts(settings, runtime)
    parts.prepare(0)
    batch = next(iter(loading.Batches(parts.loader, 0)))
    batch = pinned(batch) if device.type == "cuda" else batch
    images = runtime.place(batch).images
    parts.learner.start_epoch(settings.warmup)
    is_fused = device.type == "cuda"
    adam = torch.optim.Adam(network.parameters(), lr=0.0, fused=is_fused)
    works: dict[str, Callable[[], object]] = {
        "layers": partial(bare_step, with_layers(settings, runtime), images, runtime, None),
        "bare": partial(bare_step, network, images, runtime, None),
        "bare_with_adam": partial(bare_step, network, images, runtime, adam),
        "ours": partial(parts.learner.step, batch),
    }
    peaks = {f"{name}_peak": peak(works[name], device) for name in ("layers", "bare", "ours")}
    rates = {
        name: size.steps * settings.bs / taken
        for name, taken in in_turn(works, size, device).items()
    }
    return StepRates(**rates, **peaks)


def with_layers(settings: parameters.Settings, runtime: Runtime) -> nn.Module:
    """The network as it is written: each of its BatchNorms a layer of its own, not compiled."""
    network = architectures.select(
        settings.arch,
        embed_dim=settings.embed_dim,
        image_size=settings.image_size,
        pretrained=False,
        weights_file=None,
    )
    return network.to(runtime.device).to(memory_format=runtime.memory_format)


def pinned(batch: Batch | PixelBatch) -> Batch | PixelBatch:
    """As a loader hands it over beside a GPU."""
    tensors = batch._asdict()
    names = ("images", "labels", "indices", "mirrored")
    return batch._replace(**{name: tensors[name].pin_memory() for name in names if name in tensors})


def in_turn(
    works: dict[str, Callable[[], object]], size: Size, device: torch.device
) -> dict[str, float]:
    """Median seconds of `size.steps` calls, of rounds after one that warms up."""

    def many(work: Callable[[], object]) -> None:
        for _ in range(size.steps):
            work()

    rounds = [
        {name: seconds(partial(many, work), device) for name, work in works.items()}
        for _ in range(size.rounds + 1)
    ]
    return {name: statistics.median(taken[name] for taken in rounds[1:]) for name in works}


def step_sheet(words: list[str], size: Size, formats: dict[str, tuple[str, ...]]) -> Sheet:
    rows = []
    for name, chosen in formats.items():
        rates = step_rates([*words, *chosen], size)
        speeds = rates.layers, rates.bare, rates.bare_with_adam, rates.ours
        rows.append(
            (
                name,
                *(f"{rate:.0f}" for rate in speeds),
                f"{rates.ours / rates.layers:.3f}",
                f"{rates.ours / rates.bare:.3f}",
                f"{rates.ours / rates.bare_with_adam:.3f}",
                f"{rates.layers_peak:.2f}",
                f"{rates.bare_peak:.2f}",
                f"{rates.ours_peak:.2f}",
            )
        )
    header = (
        "format",
        "norms as layers (images/s)",
        "bare loop",
        "with fused Adam",
        "Learner.step",
        "/ layers",
        "/ bare",
        "/ with Adam",
        "peak of layers (GiB)",
        "bare peak",
        "our peak",
    )
    return Sheet("A training step", header, rows, [])


def epoch_sheet(words: list[str], size: Size) -> Sheet:
    """The epoch and its evaluation beside their floors, and the loader alone."""
    settings = parameters.parse(words)
    runtime = build.build_runtime(settings)
    parts, network = epoch_cost.build_parts(settings, runtime)
    rounds = list(epoch_cost.measured_rounds(parts, network, settings.warmup, size.epochs))
    parts.prepare(0)
    images = settings.bs * len(parts.loader)

    def read() -> None:
        for _ in loading.Batches(parts.loader, 0):
            pass

    loader_rate = images / statistics.median(seconds(read, runtime.device) for _ in range(2))
    epoch_rate = images / epoch_cost.summed(rounds, ["training"]).seconds
    table = epoch_cost.table(rounds, has_peak=runtime.device.type == "cuda")
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.split("\n")
    ]
    note = (
        f"{runtime.describe()}. The loader alone: {loader_rate:.0f} images/s with "
        f"{settings.kernels} processes; the epoch trains {epoch_rate:.0f} images/s, "
        f"{epoch_rate / loader_rate:.2f} of it."
    )
    title = f"An epoch of {images:,} training images and its evaluation"
    return Sheet(title, rows[0], rows[2:], [note])


def objective_sheet(size: Size, batch: int, device: torch.device) -> Sheet:
    """Mining, forward and backward of each objective in multiples of a product's time."""
    conditions = objectives.Conditions(batch, 512, 2, 0.1, 0, device)
    rows = [objectives.row(name, conditions)[:4] for name in size.objectives]
    title = f"Objectives alone, batch {batch}, 512 dimensions, in multiples of the floor"
    return Sheet(title, objectives.HEADER[:4], rows, [])


def main() -> None:
    options = command_line(__doc__).parse_args()
    size = SMOKE if options.smoke else Size()
    device = torch.device("cpu" if options.smoke else "cuda")
    sheets: list[Sheet] = []

    def add(sheet: Sheet) -> None:
        sheets.append(sheet)
        keep(options.results, "speed", sheets)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder, size)
        write_word_vectors(folder / "words.txt", (f"bird{label}" for label in range(CLASSES)))
        words = [*flags(folder, options.smoke), "--device", device.type]
        add(step_sheet(words, size, SMOKE_FORMATS if options.smoke else FORMATS))
        add(epoch_sheet(words, size))
    for batch in size.batches:
        add(objective_sheet(size, batch, device))


if __name__ == "__main__":
    main()
