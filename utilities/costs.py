"""What the epochs of a run cost, and how long it has still to go."""

import resource
import statistics
import sys
import time
from typing import NamedTuple

import torch

GIGABYTE = 2**30
RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of a unit of ru_maxrss
RECENT = 10  # epochs by which the next ones are estimated


class Costs(NamedTuple):
    """Of an epoch.

    Attributes:
        learning_rates: with which its last step was made, by group of the optimiser.
        images_per_second: of the training. peak_memory: as in `peak_memory`.
    """

    learning_rates: dict[str, float]
    images_per_second: float
    peak_memory: dict[str, float]

    def families(self) -> dict[str, dict[str, float]]:
        """As they are recorded: family -> name -> value."""
        return {
            "learning_rate": self.learning_rates,
            "images_per_second": {"images_per_second": self.images_per_second},
            "peak_memory": self.peak_memory,
        }


def peak_memory(device: torch.device) -> dict[str, float]:
    """`host_gb`, and with a GPU `gpu_gb`, the most that was taken so far, in units of 2**30 bytes.

    Of the host it is the resident memory of this process since its start, by getrusage: libraries
    and shared memory that it has touched are counted, processes that load images are not. Of the
    GPU it is what tensors took since `reset_gpu_peak`, without what torch keeps in reserve.
    """
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RUSAGE_UNIT
    peaks = {"host_gb": host / GIGABYTE}
    if device.type == "cuda":
        peaks["gpu_gb"] = torch.cuda.max_memory_allocated(device) / GIGABYTE
    return peaks


def reset_gpu_peak(device: torch.device) -> None:
    """Let the peak of a GPU be that of the run which begins."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def is_evaluated(epoch: int, epochs: int, every: int) -> bool:
    """Whether an epoch, counted from 0, ends with an evaluation: each N-th and the last."""
    return epoch == epochs - 1 or (epoch + 1) % every == 0


class Pace:
    """Estimates how long a run has still to go from how long its epochs took.

    Epochs with an evaluation and those without are estimated apart, each by the median of the last
    few: the first epoch is slower than the others.

    Args:
        done: epochs that were over when this process began.
        epochs: of the whole run. every: as `--evaluate_every`.
    """

    def __init__(self, done: int, epochs: int, every: int):
        self.ahead = [is_evaluated(epoch, epochs, every) for epoch in range(done, epochs)]
        self.took: dict[bool, list[float]] = {True: [], False: []}
        self.last = time.monotonic()

    def count(self, seconds: float) -> None:
        """The next epoch had taken so many when it was left: it is as long as others."""
        self.last -= seconds

    def end_epoch(self) -> None:
        """The next epoch has ended, with all that belongs to it."""
        now = time.monotonic()
        self.took[self.ahead.pop(0)].append(now - self.last)
        self.last = now

    def remaining(self) -> float:
        """Seconds that the epochs to come take, with their evaluations."""
        typical = {
            kind: statistics.median(took[-RECENT:]) for kind, took in self.took.items() if took
        }
        known = next(iter(typical.values()), 0.0)
        return sum(typical.get(kind, known) for kind in self.ahead)

    def is_lower_bound(self) -> bool:
        """Whether evaluations are ahead of which none was timed."""
        return True in self.ahead and not self.took[True]
