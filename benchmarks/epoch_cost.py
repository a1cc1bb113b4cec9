"""What an epoch costs beside its floor: the training and the evaluation, each on its own.

    python benchmarks/epoch_cost.py <flags of main.py, with guidance if it is to be measured>
    python benchmarks/epoch_cost.py --smoke                     # whether it runs, in seconds

The floor of the training takes the same network and the same batches from the same loader, with the
sum of the embeddings as loss and no optimiser, objective, guidance or bookkeeping; that of the
evaluation only calls the network on the batches of the evaluated splits. All four are run in turn,
round after round, in one process, after a round that warms up. Prints the medians and their ratios,
and on a GPU the peak memory. A sampler that chooses by embeddings gets those before the round; what
they cost is in neither.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from torch import nn
from torch.utils.data import DataLoader

import build
import parameters
from benchmarks import shared
from datasampler.storage import StorageSampler
from datasets import loading
from evaluation import Evaluator
from training import Learner, TrainingEpoch
from utilities import report, seeding
from utilities.runtime import Runtime

GIB = 2**30
# Row of the table -> the passes that it sums.
ROWS = {
    "training": ["training"],
    "evaluation": ["evaluation"],
    "whole epoch": ["training", "evaluation"],
}


class Cost(NamedTuple):
    """Of one pass; a CPU tells no peak."""

    seconds: float
    peak_gib: float = 0.0


class Parts(NamedTuple):
    """What an epoch is made of.

    Attributes:
        prepare: makes the batches of an epoch, by its number.
        seed: of an epoch, by its number.
    """

    learner: Learner
    loader: DataLoader
    evaluator: Evaluator
    prepare: Callable[[int], None]
    seed: Callable[[int], int]


def build_parts(settings: parameters.Settings, runtime: Runtime) -> tuple[Parts, nn.Module]:
    """The parts and the network, made as in main.py."""
    seeding.seed_everything(settings.seed)
    data = build.build_data(settings)
    network, transform = build.build_network(settings, runtime, load_weights=True)
    criterion = build.build_criterion(settings, data, network, runtime)
    evaluator = build.build_evaluator(settings, data.splits, transform, runtime)
    guidance = build.build_guidance(settings, data.splits.training, runtime)
    learner = build.build_learner(settings, data, network, criterion, guidance, runtime)
    loader = build.build_training_loader(settings, data, transform, runtime)
    embed_training = build.build_training_embedder(settings, data, transform, runtime)

    def prepare(epoch: int) -> None:
        if isinstance(data.sampler, StorageSampler):
            data.sampler.refresh(embed_training(network))
        data.sampler.set_epoch(epoch)

    seed_of = partial(seeding.derive, settings.seed)
    return Parts(learner, loader, evaluator, prepare, seed_of), network


def training(parts: Parts, epoch: int) -> None:
    """As in main.py: with objective, guidance, optimiser and bookkeeping."""
    seed = parts.seed(epoch)
    TrainingEpoch(parts.learner, epoch, seed).run(loading.Batches(parts.loader, seed))


def bare_training(parts: Parts, network: nn.Module, epoch: int) -> None:
    """Forward and backward over the same batches."""
    runtime = parts.learner.runtime
    network.train()
    for batch in loading.Batches(parts.loader, parts.seed(epoch)):
        images = runtime.place(batch).images
        network.zero_grad(set_to_none=True)
        with runtime.autocast():
            loss = network(images).embeddings.float().sum()
        loss.backward()


@torch.inference_mode()
def bare_evaluation(parts: Parts, network: nn.Module) -> None:
    """The network on each batch of the evaluated splits."""
    runtime = parts.learner.runtime
    network.eval()
    for split in parts.evaluator.splits.values():
        for batch in split.batches:
            images = runtime.place(batch).images
            with runtime.autocast():
                network(images)


def cost_of(work: Callable[[], object], device: torch.device) -> Cost:
    """Once, waiting for a GPU to end."""
    if device.type != "cuda":
        started = time.perf_counter()
        work()
        return Cost(time.perf_counter() - started)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return Cost(time.perf_counter() - started, torch.cuda.max_memory_allocated() / GIB)


def measured_rounds(
    parts: Parts, network: nn.Module, first_epoch: int, rounds: int
) -> Iterator[dict[str, Cost]]:
    """The costs of each round; the first round, which warms up, is not among them."""
    device = parts.learner.runtime.device
    for epoch in range(first_epoch, first_epoch + rounds + 1):
        parts.prepare(epoch)
        works: dict[str, Callable[[], object]] = {
            "training": partial(training, parts, epoch),
            "bare training": partial(bare_training, parts, network, epoch),
            "evaluation": partial(parts.evaluator.run, network),
            "bare evaluation": partial(bare_evaluation, parts, network),
        }
        costs = {name: cost_of(work, device) for name, work in works.items()}
        if epoch > first_epoch:
            yield costs


def table(rounds: list[dict[str, Cost]], has_peak: bool) -> str:
    """Medians of seconds with their ratio, and the highest peaks."""
    rows = []
    for title, names in ROWS.items():
        ours = summed(rounds, names)
        floor = summed(rounds, [f"bare {name}" for name in names])
        peaks = [f"{cost.peak_gib:.2f}" if has_peak else "-" for cost in (floor, ours)]
        seconds = (f"{floor.seconds:.3g}", f"{ours.seconds:.3g}")
        rows.append((title, *seconds, f"{ours.seconds / floor.seconds:.3f}", *peaks))
    header = ("", "floor, s", "ours, s", "ratio", "floor, peak GiB", "ours, peak GiB")
    return shared.markdown(header, rows)


def summed(rounds: list[dict[str, Cost]], names: list[str]) -> Cost:
    """Median of the summed seconds of these passes, and their highest peak, over the rounds."""
    seconds = [sum(costs[name].seconds for name in names) for costs in rounds]
    peaks = [costs[name].peak_gib for costs in rounds for name in names]
    return Cost(statistics.median(seconds), max(peaks))


def read_command_line() -> tuple[argparse.Namespace, list[str]]:
    """Own arguments, and those of main.py."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="whether it runs, in seconds")
    return parser.parse_known_args()


def main() -> None:
    options, flags = read_command_line()
    with tempfile.TemporaryDirectory() as temporary:
        if options.smoke:
            options.rounds = 1
            flags = shared.smoke_flags(Path(temporary)) + flags
        settings = parameters.parse(flags)
        report.configure_logging(sys.stderr)
        runtime = build.build_runtime(settings)
        parts, network = build_parts(settings, runtime)
        # The trunk learns after the warm-up.
        rounds = list(measured_rounds(parts, network, settings.warmup, options.rounds))
    print(f"{runtime.describe()}; medians of {options.rounds} rounds\n")
    print(table(rounds, has_peak=runtime.device.type == "cuda"))


if __name__ == "__main__":
    main()
