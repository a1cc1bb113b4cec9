"""Random classes, random images: the paper's batches."""

from collections.abc import Iterator

import numpy as np

from datasampler.base import BatchSampler
from utilities.shares import whole_part


class ClassRandomSampler(BatchSampler):
    """Draws random classes and samples_per_class random images of each.

    An epoch is N // batch_size batches of batch_size / samples_per_class classes. Classes and
    images are drawn with replacement, as in the paper's code: a class can come twice in a batch,
    and one with fewer images than samples_per_class repeats them.

    Args:
        internal_split: this share of the draws comes from the first classes (in this share too),
            the rest from the others; 1 draws from all alike.
        repeat_half: draw half a batch and repeat it, for two augmentations of each image.
    """

    OPTIONS = ("internal_split", "repeat_half")

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        samples_per_class: int,
        seed: int,
        internal_split: float = 1.0,
        repeat_half: bool = False,
    ):
        super().__init__(
            labels, batch_size=batch_size, samples_per_class=samples_per_class, seed=seed
        )
        self.repeats = 2 if repeat_half else 1
        self.draws = batch_size // (samples_per_class * self.repeats)
        self.first_classes = max(1, whole_part(len(self.counts), internal_split))
        self.first_draws = whole_part(self.draws, internal_split)

    def __iter__(self) -> Iterator[list[int]]:
        random = self.generator()
        low, high = np.zeros(self.draws, int), np.full(self.draws, len(self.counts))
        if self.first_classes < len(self.counts):
            high[: self.first_draws] = self.first_classes
            low[self.first_draws :] = self.first_classes
        drawn_classes = random.integers(low, high, size=(self.batches, self.draws))
        classes = drawn_classes.repeat(self.samples_per_class, axis=1)
        positions = self.starts[classes] + random.integers(self.counts[classes])
        yield from np.tile(self.by_class[positions], (1, self.repeats)).tolist()
