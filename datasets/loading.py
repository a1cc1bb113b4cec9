"""Data loaders that yield `Batch`es and name a broken image instead of showing a worker's traceback."""
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.data import DataLoader, default_collate

from datasets.images import BrokenImage, ImageSplit
from utilities.errors import UserError
from utilities.types import Batch


def training_loader(split: ImageSplit, batch_sampler, *, workers: int) -> DataLoader:
    return DataLoader(split, batch_sampler=batch_sampler, num_workers=workers, collate_fn=_collate, pin_memory=torch.cuda.is_available())


def evaluation_batches(split: ImageSplit, *, batch_size: int, workers: int) -> "Batches":
    """Every image once, in order."""
    return Batches(DataLoader(split, batch_size=batch_size, num_workers=workers, collate_fn=_collate, pin_memory=torch.cuda.is_available()))


class Batches:
    """The batches of a loader, counted; `seed` fixes the augmentation of its workers. Raises UserError for an unreadable image."""

    def __init__(self, loader: DataLoader, seed: int = 0):
        self.loader, self.seed = loader, seed

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        self.loader.generator = torch.Generator().manual_seed(self.seed)
        with _interrupts_wait():
            batches = iter(self.loader)
        for batch in batches:
            if isinstance(batch, BrokenImage):
                raise UserError(f"The image {batch.path} cannot be read ({batch.reason}); replace or remove it.")
            yield batch


def _collate(samples: list) -> Batch | BrokenImage:
    broken = [sample for sample in samples if isinstance(sample, BrokenImage)]
    return broken[0] if broken else Batch(*default_collate(samples))


@contextmanager
def _interrupts_wait():
    """Ctrl-C waits until the workers are started; they inherit the mask, so that only the main process answers to it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
