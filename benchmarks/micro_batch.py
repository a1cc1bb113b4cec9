"""What `--micro_batch` costs and saves: time and peak memory of a step, in one pass and in chunks.

    python benchmarks/micro_batch.py --batches 256 1024 4096
    python benchmarks/micro_batch.py --smoke                    # whether it runs, in seconds

A step of main.py's learner with the demo's pretrained trunk at 64 pixels and recall_at_k, on random
images, on one thread. Every measurement is a process of its own, whose peak memory is reported
beside what it had before its first step; the medians of the steps after the first are timed. One
pass is left out for batches above `--whole_up_to`.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import shared

ARCH = "tf_efficientnet_lite0_frozen_normalize"
HEADER = ("batch", "images at a time", "seconds", "/ one pass", "peak MB", "of them images")
MB = 2**20


class Step(NamedTuple):
    """Seconds, and MB beside the process before its first step."""

    seconds: float
    peak: float


def measure(batch: int, micro_batch: int, pixels: int, steps: int) -> Step:
    """In this process."""
    import torch

    from utilities.types import Batch

    learner = shared.learner_of(ARCH, "recall_at_k", pixels, micro_batch=micro_batch)
    labels = torch.arange(batch) // 4
    data = Batch(torch.randn(batch, 3, pixels, pixels), labels, torch.arange(batch))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        learner.step(data)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Step(statistics.median(seconds[1:] or seconds), (peak - before) / 1024)


def measured(batch: int, micro_batch: int, options: argparse.Namespace) -> Step:
    """In a process of its own, unless it is about whether it runs."""
    if options.smoke:
        return measure(batch, micro_batch, options.pixels, options.steps)
    command = [sys.executable, __file__, "--measure", str(batch), str(micro_batch)]
    command += ["--pixels", str(options.pixels), "--steps", str(options.steps)]
    ended = subprocess.run(command, capture_output=True, text=True, env=shared.environment(1))
    if ended.returncode:
        raise SystemExit(f"batch {batch}: {shared.last_line(ended.stderr)}")
    return Step(*json.loads(ended.stdout))


def rows(options: argparse.Namespace) -> list[tuple[str, ...]]:
    table: list[tuple[str, ...]] = []
    for batch in options.batches:
        whole = measured(batch, 0, options) if batch <= options.whole_up_to else None
        chunks = measured(batch, options.micro_batch, options)
        images = f"{batch * 3 * options.pixels**2 * 4 / MB:.0f}"
        for size, step in ((batch, whole), (options.micro_batch, chunks)):
            if step:
                ratio = f"{step.seconds / whole.seconds:.2f}" if whole else "-"
                cells = (f"{step.seconds:.2f}", ratio, f"{step.peak:.0f}", images)
                table.append((f"{batch:,}", f"{size:,}", *cells))
    return table


def read_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--micro_batch", type=int, default=128)
    parser.add_argument("--whole_up_to", type=int, default=1024)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3, help="timed ones")
    parser.add_argument("--smoke", action="store_true", help="whether it runs: tiny batches")
    parser.add_argument("--measure", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke:
        options.batches, options.micro_batch, options.pixels, options.steps = [8], 4, 32, 0
    return options


def main() -> None:
    options = read_command_line()
    if options.measure:
        batch, micro_batch = options.measure
        print(json.dumps(measure(batch, micro_batch, options.pixels, options.steps)))
        return
    print(shared.markdown(HEADER, rows(options)))


if __name__ == "__main__":
    main()
