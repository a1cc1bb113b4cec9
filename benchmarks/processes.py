"""Is a run of several processes that of one, and what does it gain?

    python benchmarks/processes.py
    python benchmarks/processes.py --smoke          # whether it runs: some cases, tiny steps

Equality: steps of a learner with every objective, miner and guide, on several processes (gloo, on
the CPU), beside those of one. A difference is the largest of losses, gradients and weights after
the last step, relative to the largest value of its tensor. Where it is large in float64 stands
beside it what one process does to itself, when an image of its first batch is changed by one
rounding: steps that are chaotic multiply that as well. Gain: steps of the demo's trunk, batch 112
at 112 pixels, on two processes of one thread beside one process of two threads, in turns; the
efficiency is the median of the pairs' ratios.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
TESTS = [str(ROOT / "tests" / room) for room in ("criteria", "distributed", "training")]
sys.path[:0] = [str(ROOT), *TESTS]

from benchmarks import shared

if TYPE_CHECKING:
    from steps import Case

    from utilities.runtime import Runtime
    from utilities.types import Batch

ARCH = "tf_efficientnet_lite0_frozen_normalize"
HEADER = ("processes", "cases", "float64, largest difference", "float32")
SAME = 1e-10  # in float64: what differs by more is shown beside its control
CONTROL = "one beside itself, a rounding away"
GAIN = ("images/s, one process of two threads", "two processes", "efficiency")
EVERY_IN_SMOKE = 20


def together(size: int, words: list[str], threads: int) -> list[str]:
    """Standard output of this script as each of several processes."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    meeting = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    members = []
    for rank in range(size):
        place = meeting | {"RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}
        environment = shared.environment(threads) | {
            key: str(value) for key, value in place.items()
        }
        command = [sys.executable, __file__, *words]
        members.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    said = [member.communicate()[0] for member in members]
    if any(member.returncode for member in members):
        raise SystemExit(f"{size} processes: one has failed.")
    return said


# Equality


def make_steps(count: int, every: int, folder: Path) -> None:
    """As one of several processes, or alone."""
    import steps

    cases = list(steps.equal(whole=True))[::every]
    steps.make_all(folder, cases, count)


def differences(options: argparse.Namespace) -> dict[int, dict[str, float]]:
    """Number of processes -> case -> its largest difference from one process."""
    import torch

    with tempfile.TemporaryDirectory() as name:
        made = {}
        for size in (1, *options.sizes):
            folder = Path(name) / str(size)
            folder.mkdir()
            if size == 1:
                make_steps(options.steps, options.every, folder)
            else:
                words = ["--make", str(options.steps), str(options.every), str(folder)]
                together(size, words, 1)
            made[size] = [torch.load(folder / f"{rank}.pt") for rank in range(size)]
    (expected,) = made.pop(1)
    return {
        size: {
            case: max(largest(ours[case], expected[case]) for ours in of_ranks) for case in expected
        }
        for size, of_ranks in made.items()
    }


def equality(found: dict[int, dict[str, float]]) -> Iterator[tuple[str, ...]]:
    for size, by_case in found.items():
        single = [value for case, value in by_case.items() if is_single(case)]
        double = [value for case, value in by_case.items() if not is_single(case)]
        cells = (f"{max(values, default=0.0):.1e}" for values in (double, single))
        yield str(size), str(len(by_case)), *cells


def is_single(case: str) -> bool:
    return "single precision" in case


def controls(found: dict[int, dict[str, float]], count: int) -> Iterator[tuple[str, ...]]:
    """What differs in float64, beside one process that is changed by a rounding."""
    import steps

    for case in steps.equal(whole=True):
        values = [by_case.get(case.name, 0.0) for by_case in found.values()]
        if max(values) > SAME and not is_single(case.name):
            yield case.name, *(f"{value:.1e}" for value in [*values, control(case, count)])


def control(case: "Case", count: int) -> float:
    """The difference that one rounding in one image of the first batch grows to."""
    import steps

    from utilities.runtime import Runtime

    plain = steps.make(case, Runtime(), count)
    return largest(steps.make(case, Runtime(), count, a_rounding_away), plain)


def a_rounding_away(case: "Case", runtime: "Runtime", step: int) -> "Batch":
    """The batch of a step; an image of the first is changed."""
    import steps
    import torch

    batch = steps.batch(case, runtime, step)
    if step == 0:
        batch.images[0] *= 1 + torch.finfo(case.dtype).eps
    return batch


def largest(ours: tuple, expected: tuple) -> float:
    """Of losses, gradients and weights."""
    pairs = [(ours[0], expected[0]), *zip(ours[1], expected[1]), *zip(ours[2], expected[2])]
    return max(
        ((one - other).abs().max() / other.abs().max().clamp(min=1e-3)).item()
        for one, other in pairs
        if other is not None
    )


# Gain


def time_steps(count: int, batch: int, pixels: int) -> float:
    """Images per second of a learner's steps, as one of several processes, or alone."""
    import torch

    from utilities import processes
    from utilities.runtime import Runtime
    from utilities.types import Batch

    place = processes.place()
    processes.join(place)
    runtime = Runtime(rank=place.rank, world_size=place.world_size)
    learner = shared.learner_of(ARCH, "multisimilarity", pixels, runtime=runtime)
    images = torch.randn(batch, 3, pixels, pixels)[runtime.part.rows(batch)]
    data = Batch(images, torch.arange(batch) // 4, torch.arange(batch))
    learner.step(data)
    started = time.perf_counter()
    for _ in range(count):
        learner.step(data)
    speed = count * batch / (time.perf_counter() - started)
    processes.leave()
    return speed


def gain(options: argparse.Namespace) -> tuple[str, ...]:
    if options.smoke:  # two processes took steps before
        return f"{time_steps(options.steps, options.batch, options.pixels):.1f}", "-", "-"
    words = ["--time", str(options.steps), str(options.batch), str(options.pixels)]
    one, two = [], []
    for _ in range(options.pairs):
        one.append(json.loads(together(1, words, 2)[0]))
        two.append(json.loads(together(2, words, 1)[0]))
    efficiency = statistics.median(ours / alone for ours, alone in zip(two, one))
    return f"{statistics.median(one):.1f}", f"{statistics.median(two):.1f}", f"{efficiency:.2f}"


def read_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 4], help="of the groups")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=5, help="of timings")
    parser.add_argument("--batch", type=int, default=112)
    parser.add_argument("--pixels", type=int, default=112)
    parser.add_argument("--smoke", action="store_true", help="whether it runs")
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--time", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.every = 1
    if options.smoke:
        options.sizes, options.steps, options.every = [2], 1, EVERY_IN_SMOKE
        options.pairs, options.batch, options.pixels = 1, 8, 32
    return options


def main() -> None:
    options = read_command_line()
    if options.make:
        count, every, folder = options.make
        make_steps(int(count), int(every), Path(folder))
    elif options.time:
        print(json.dumps(time_steps(*options.time)))
    else:
        found = differences(options)
        print(shared.markdown(HEADER, list(equality(found))))
        print()
        if beside := list(controls(found, options.steps)):
            header = ("float64", *(f"{size} processes" for size in found), CONTROL)
            print(shared.markdown(header, beside) + "\n")
        print(shared.markdown(GAIN, [gain(options)]))


if __name__ == "__main__":
    main()
