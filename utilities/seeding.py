"""Randomness from (seed, epoch, position): a resumed run goes on exactly as it would have."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, number: int) -> int:
    """A seed of its own for each (seed, number of an epoch or a batch).

    It is mixed, so that neighbouring values do not overlap.
    """
    # With the 0 the seeds are those of the runs of before.
    return int(np.random.SeedSequence((seed, number, 0)).generate_state(1, np.uint32)[0])


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch on all devices; those not in use yet get it when they are."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def state() -> dict:
    """Where the streams of Python, numpy and torch are, as tensors and plain values.

    Those of GPUs are among them where one is in use: looking for them would make a CUDA context.
    """
    stream = np.random.get_state(legacy=False)
    assert isinstance(stream, dict)
    place = stream["state"]
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": random.getstate(),
        "numpy": stream | {"state": place | {"key": torch.from_numpy(place["key"].astype(int))}},
        "torch": torch.get_rng_state(),
        "cuda": devices,
    }


def restore(state: dict) -> None:
    """Put the streams where `state()` found them; those of GPUs where as many are in use."""
    random.setstate(state["python"])
    stream = state["numpy"]
    place = stream["state"]
    np.random.set_state(stream | {"state": place | {"key": place["key"].numpy().astype("uint32")}})
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_initialized() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def streams(device: torch.device) -> tuple[torch.Tensor, ...]:
    """Where torch's random numbers of the CPU, and of a GPU, are."""
    if device.type == "cuda":
        return torch.get_rng_state(), torch.cuda.get_rng_state(device)
    return (torch.get_rng_state(),)


def go_to(streams: tuple[torch.Tensor, ...], device: torch.device) -> None:
    """Put them where `streams` found them."""
    torch.set_rng_state(streams[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(streams[1], device)


def seed_streams(seed: int, device: torch.device) -> None:
    """Begin them anew; unlike `torch.manual_seed` nothing is noted for GPUs not in use."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def randomness_kept() -> Iterator[None]:
    """What is drawn inside leaves no trace in the numbers that come after."""
    before = state()
    try:
        yield
    finally:
        restore(before)
