"""Random classes, random images: the paper's batches."""
from collections.abc import Iterator

import numpy as np

from utilities.errors import UserError
from utilities.seeding import derive


class ClassRandomSampler:
    """N // batch_size batches of batch_size / samples_per_class random classes with samples_per_class random images each.

    Classes and images are drawn with replacement, as in the paper's code: a class can come twice in a batch, and one
    with fewer images than samples_per_class repeats them.

    Args:
        labels: [N] labels of the split.
        batch_size: images in a batch, a multiple of samples_per_class.
        internal_split: this share of the draws comes from the first classes (in this share too), the rest from the
            others; 1 draws from all alike.
        repeat_half: draw half a batch and repeat it, for two augmentations of each image.
        rank: process number; each has draws of its own.
    Raises:
        UserError: fewer images than one batch.
    """

    def __init__(self, labels: np.ndarray, *, batch_size: int, samples_per_class: int, seed: int,
                 internal_split: float = 1.0, repeat_half: bool = False, rank: int = 0):
        if len(labels) < batch_size:
            raise UserError(f"--bs {batch_size} is larger than the training set of {len(labels)} images; lower it.")
        self.by_class = np.argsort(labels, kind="stable")  # indices, class after class
        _, self.starts, self.counts = np.unique(labels[self.by_class], return_index=True, return_counts=True)
        self.batches = len(labels) // batch_size
        self.samples_per_class = samples_per_class
        self.repeats = 2 if repeat_half else 1
        self.draws = batch_size // (samples_per_class * self.repeats)
        self.first_classes = max(1, int(len(self.counts) * internal_split))
        self.first_draws = int(self.draws * internal_split)
        self.seed, self.rank, self.epoch = seed, rank, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng(derive(self.seed, self.epoch, self.rank))
        low, high = np.zeros(self.draws, int), np.full(self.draws, len(self.counts))
        if self.first_classes < len(self.counts):
            high[:self.first_draws], low[self.first_draws:] = self.first_classes, self.first_classes
        classes = random.integers(low, high, size=(self.batches, self.draws)).repeat(self.samples_per_class, axis=1)
        positions = self.starts[classes] + random.integers(self.counts[classes])
        yield from np.tile(self.by_class[positions], (1, self.repeats)).tolist()
