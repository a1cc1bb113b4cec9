"""Memory and time of language guidance: building it at full size, and its part of a step.

    python benchmarks/guidance.py
    python benchmarks/guidance.py --smoke

Random vectors and logits stand for the language model and the classifier, numbers for the names of
ImageNet classes. `table` is the plain way:
the similarities of all pairs of classes are laid out once, or for guidance by image those of all
pairs of texts, and a batch looks its own up. Each guide is built in a process of its own, whose
peak memory beyond its start is reported. A step is forward and backward of the distillation loss
alone; guides take turns in one process, and medians are reported.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from torch.nn.functional import normalize

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import language_guidance
from language_guidance import (
    GuidanceSettings,
    Guide,
    LanguageGuide,
    TextBank,
    language_models,
    pseudolabels,
)

CPU = torch.device("cpu")
PRODUCTS = 11_318  # training classes of Stanford Online Products
IMAGES = 60_000
NAMES = 1000  # of ImageNet classes
MB = 2**20


class Size(NamedTuple):
    """How much is measured."""

    products: int = PRODUCTS
    images: int = IMAGES
    dim: int = 512  # of text vectors and of embeddings
    batch: int = 112
    rounds: int = 300


SMOKE = Size(products=300, images=200, dim=32, batch=16, rounds=3)


class TableGuide(LanguageGuide):
    """Looks up all pairs, whatever memory they take."""

    def __init__(self, bank: TextBank):
        super().__init__(bank)
        self.bank = bank
        rows = torch.arange(len(bank.vectors))[:, None] if bank.by_image else bank.assignment
        texts = normalize(bank.vectors, dim=1)[rows]  # [C, k, E], or [T, 1, E]
        self.pairs = torch.einsum("crd,srd->cs", texts, texts) / texts.shape[1]

    def batch_similarities(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        if not self.bank.by_image:
            return self.pairs[labels[:, None], labels[None, :]]
        texts = self.bank.assignment[indices]  # [B, k]
        return self.pairs[texts[:, None, :], texts[None, :, :]].mean(-1)


def random_model(dim: int) -> language_models.LanguageModel:
    """A language model that gives each text a random vector."""
    return language_models.LanguageModel(
        "random", lambda device: lambda sentences: torch.randn(len(sentences), dim)
    )


def build_names(size: Size, cache: Path) -> Guide:
    captions: list[tuple[str, ...]] = [(f"product {row}",) for row in range(size.products)]
    with mock.patch.object(language_models, "select", lambda *name: random_model(size.dim)):
        return language_guidance.build(
            GuidanceSettings(), captions, torch.arange(size.products), cache=cache, device=CPU
        ).guide


def build_pseudolabels(level: str, size: Size, cache: Path) -> Guide:
    classifier = language_guidance.Classifier(
        ("random",), [], None, load=torch.nn.Identity, batches=lambda network: []
    )
    labels = torch.arange(size.images) % min(size.products, size.images)

    def classify(*arguments: object, count: int, device: torch.device) -> torch.Tensor:
        return torch.randn(count, NAMES)

    def class_names() -> list[str]:
        return [str(number) for number in range(NAMES)]

    with (
        mock.patch.object(language_models, "select", lambda *name: random_model(size.dim)),
        mock.patch.object(pseudolabels, "classify", classify),
        mock.patch.object(pseudolabels, "class_names", class_names),
    ):
        settings = GuidanceSettings(pseudoclass=True, pseudoclass_level=level)
        return language_guidance.build(
            settings, [], labels, cache=cache, device=CPU, classifier=classifier
        ).guide


def build_table(size: Size, cache: Path) -> Guide:
    vectors = torch.randn(size.products, size.dim)
    return TableGuide(TextBank(vectors, torch.arange(size.products)[:, None]))


BUILDS: dict[str, Callable[[Size, Path], Guide]] = {
    "names, {products} classes": build_names,
    "the same by a table": build_table,
    "pseudolabels by class, {images} images": partial(build_pseudolabels, "class"),
    "pseudolabels by image, {images} images": partial(build_pseudolabels, "sample"),
}


def measured_build(name: str, size: Size) -> tuple[float, float, float]:
    """Seconds, peak of memory beyond the start in MB, and MB that the guide holds."""
    with tempfile.TemporaryDirectory() as cache:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        guide = BUILDS[name](size, Path(cache))
        seconds = time.perf_counter() - started
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    tensors = [*guide.buffers(), *([guide.pairs] if isinstance(guide, TableGuide) else [])]
    return seconds, peak, sum(tensor.nbytes for tensor in tensors) / MB


def build_rows(size: Size) -> Iterator[tuple[str, ...]]:
    # Forked, so that nothing is imported anew. Torch has one thread, hence none that a fork would
    # lose.
    for name in BUILDS:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            seconds, peak, held = pool.apply(measured_build, (name, size))
        sizes = {"products": f"{size.products:,}", "images": f"{size.images:,}"}
        yield name.format(**sizes), f"{seconds:.2f}", f"{peak:.0f}", f"{held:.1f}"


def step_rows(size: Size) -> Iterator[tuple[str, ...]]:
    """Of 100 classes, of many classes, and by image."""
    labels = torch.arange(size.batch) // 2
    banks = {
        "100 classes": (100, False),
        "4,000 classes": (4_000, False),
        "by image": (8_000, True),
    }
    for name, (rows, by_image) in banks.items():
        for ranks in (1, 5):
            assignment = torch.randint(NAMES, (rows, ranks))
            bank = TextBank(torch.randn(NAMES, size.dim), assignment, by_image)
            guides = [LanguageGuide(bank), TableGuide(bank)]
            indices = torch.randperm(rows)[: size.batch]
            ours, table = step_seconds(guides, labels, indices, size)
            ours_values, table_values = (
                guide.batch_similarities(labels, indices) for guide in guides
            )
            difference = (ours_values - table_values).abs().max().item()
            yield (
                f"{name}, k = {ranks}",
                f"{1e3 * ours:.2f}",
                f"{1e3 * table:.2f}",
                f"{ours / table:.2f}",
                f"{difference:.0e}",
            )


def step_seconds(
    guides: list[LanguageGuide], labels: torch.Tensor, indices: torch.Tensor, size: Size
) -> list[float]:
    """Median of each guide's step, forward and backward, in turn."""
    embeddings = normalize(torch.randn(size.batch, size.dim), dim=1).requires_grad_()
    seconds: list[list[float]] = [[] for _ in guides]
    for _ in range(size.rounds):
        for guide, durations in zip(guides, seconds):
            embeddings.grad = None
            started = time.perf_counter()
            guide(embeddings, labels, indices).backward()
            durations.append(time.perf_counter() - started)
    return [statistics.median(durations) for durations in seconds]


def show(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    """A Markdown table, line by line as it comes."""
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="small sizes, a few seconds")
    size = SMOKE if parser.parse_args().smoke else Size()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one CPU thread, {size}")
    show(("guide", "build, s", "peak, MB", "held, MB"), build_rows(size))
    show(("step", "ours, ms", "table, ms", "ratio", "largest difference"), step_rows(size))


if __name__ == "__main__":
    main()
