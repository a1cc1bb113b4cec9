"""Is this checkout slower than another one? Training step, evaluation and start-up of the two.

    python benchmarks/step.py --other PATH_OF_ANOTHER_CHECKOUT
    python benchmarks/step.py --smoke                           # whether it runs, in seconds

Each measurement is a process in its checkout, on the same images and embeddings; the checkouts take
turns, round after round. Prints medians, their ratio (this to other, so that below 1 is faster) and
the lowest and highest ratio of a round.

- training: seconds of an epoch of configs/from_scratch.yaml as main.py records them, after the
  first epoch
- search, clusters: `evaluate_embeddings` of unit vectors of no structure, five of a class; recall
  and mAP, and NMI and F1
- start-up: `main.py --help` and `main.py --list`
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import shared  # which loads nothing else of this checkout

DIM = 128
IMAGES_OF_A_CLASS = 5
SMOKE_IMAGES = 200
MEMORY = 2**30  # bytes for a search
SEARCHED = ("e_recall@1", "e_recall@2", "e_recall@4", "e_recall@10", "mAP_1000")
CLUSTERED = ("nmi", "f1")
START_UPS = ("--help", "--list")

Seconds = dict[str, float]  # by the row of the table


class Workload(NamedTuple):
    """
    Attributes:
        images: of the evaluation by embeddings. flags: of main.py, for the training.
    """

    images: int
    flags: list[str]


def measure(checkout: Path, workload: Workload) -> Seconds:
    """In a process of its own, whose modules are the checkout's."""
    sys.path[sys.path.index(str(ROOT))] = str(checkout)
    return train(workload.flags) | evaluate(workload.images)


def train(flags: list[str]) -> Seconds:
    """A run of main.py, and what it records."""
    import main

    with tempfile.TemporaryDirectory() as folder:
        status = main.main([*flags, "--save_path", folder])
        if status:
            raise SystemExit(status)
        records = next(Path(folder).rglob("Data_Train_time.csv"))
        with records.open() as file:
            seconds = [float(epoch["time"]) for epoch in csv.DictReader(file)]
    return {"training, an epoch": statistics.median(seconds[1:] or seconds)}


def evaluate(images: int) -> Seconds:
    import torch

    import metrics
    from evaluation import Protocol, evaluate_embeddings

    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(images, DIM, generator=generator)
    embeddings = torch.nn.functional.normalize(embeddings, dim=1)
    labels = torch.arange(images) // IMAGES_OF_A_CLASS

    def evaluate_first(count: int, names: tuple[str, ...]) -> None:
        # A protocol and metrics as objects are what earlier checkouts take as well.
        wanted = [metrics.parse(name) for name in names]
        evaluate_embeddings(embeddings[:count], Protocol(labels[:count]), wanted, memory=MEMORY)

    evaluate_first(SMOKE_IMAGES, SEARCHED + CLUSTERED)  # loads what is loaded on first use
    return {
        f"{work}, {images:,} images": seconds_of(partial(evaluate_first, images, names))
        for work, names in {"search": SEARCHED, "clusters": CLUSTERED}.items()
    }


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run(checkout: Path, words: list[str], threads: int) -> str:
    """Standard output of Python in that folder."""
    finished = subprocess.run(
        [sys.executable, *words],
        cwd=checkout,
        env=shared.environment(threads),
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        raise SystemExit(f"{checkout}: {shared.last_line(finished.stderr)}")
    return finished.stdout


def in_processes(checkout: Path, workload: Workload, threads: int) -> Seconds:
    """All measurements of a checkout, once."""
    measuring = [str(Path(__file__).resolve()), "--measure", str(checkout)]
    measuring += ["--workload", json.dumps(workload._asdict())]
    seconds = json.loads(run(checkout, measuring, threads).splitlines()[-1])
    for flag in START_UPS:
        seconds[f"main.py {flag}"] = seconds_of(partial(run, checkout, ["main.py", flag], threads))
    return seconds


def rounds_of(
    checkouts: list[Path], workload: Workload, options: argparse.Namespace
) -> Iterator[tuple[Seconds, Seconds]]:
    """The first checkout and the last one, round after round."""
    for number in range(options.rounds):
        sides = [in_processes(checkout, workload, options.threads) for checkout in checkouts]
        this, other = sides[0], sides[-1]
        ratios = ", ".join(f"{name} {this[name] / other[name]:.2f}" for name in this)
        print(f"round {number + 1} of {options.rounds}: {ratios}", file=sys.stderr)
        yield this, other


def table(rounds: list[tuple[Seconds, Seconds]]) -> str:
    rows = []
    for name in rounds[0][0]:
        ratios = [this[name] / other[name] for this, other in rounds]
        medians = [statistics.median(seconds[name] for seconds in side) for side in zip(*rounds)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        seconds = (f"{median:.3g}" for median in medians)
        rows.append((name, *seconds, f"{medians[0] / medians[1]:.3f}", spread))
    return shared.markdown(("", "this, s", "other, s", "ratio", "of the rounds"), rows)


def make_workload(options: argparse.Namespace, folder: Path) -> Workload:
    """Draws the images of the training, which both checkouts read."""
    if options.smoke:
        return Workload(SMOKE_IMAGES, shared.smoke_flags(folder))
    from datasets import shapes  # here, because it loads torch

    shapes.render(folder / "shapes", classes=options.classes)
    flags = ["--config", str(shared.FROM_SCRATCH), "--source_path", str(folder), "--no_figures"]
    flags += ["--cache_path", str(folder / "cache"), "--kernels", "0"]
    flags += ["--n_epochs", str(options.epochs), "--evaluate_every", str(options.epochs)]
    return Workload(options.images, flags)


def read_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=shared.place, help="root of the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each process")
    parser.add_argument("--classes", type=int, default=64, help="of shapes, half of which train")
    parser.add_argument(
        "--epochs", type=int, default=3, help="of the training; more than one leave out the first"
    )
    parser.add_argument("--images", type=int, default=20_000, help="that are searched")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="whether it runs: one round at the smallest, without --other of this checkout alone",
    )
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workload", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke:
        options.rounds = 1
    elif options.other is None and options.measure is None:
        parser.error("--other is needed, or --smoke")
    return options


def main() -> None:
    options = read_command_line()
    if options.measure:
        print(json.dumps(measure(options.measure, Workload(**options.workload))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        workload = make_workload(options, Path(temporary))
        checkouts = [ROOT, options.other.resolve()] if options.other else [ROOT]
        rounds = list(rounds_of(checkouts, workload, options))
    print(f"{options.threads} CPU thread(s); medians of {options.rounds} rounds\n")
    print(table(rounds))


if __name__ == "__main__":
    main()
