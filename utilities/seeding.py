"""Randomness from (seed, epoch, rank), so that a resumed run goes on exactly as it would have."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed of its own for each (seed, epoch, rank).

    It is mixed, so that neighbouring values do not overlap.
    """
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1, np.uint32)[0])


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def randomness_kept() -> Iterator[None]:
    """What is drawn on the CPU inside leaves no trace in the numbers that come after."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
