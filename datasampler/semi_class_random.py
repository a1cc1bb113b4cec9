"""Random images, each with a partner."""

from collections.abc import Iterator

import numpy as np

from datasampler.base import BatchSampler
from utilities.errors import UserError


class SemiClassRandomSampler(BatchSampler):
    """Draws random images, each followed by another random image of its class.

    An epoch is N // batch_size batches of batch_size / 2 such pairs; samples_per_class has no
    effect. The first images are drawn uniformly from the whole split with replacement, so a class
    comes as often as it has images. The second differs from the first unless the class has only one
    image, which is then repeated.

    Raises:
        UserError: fewer images than one batch, or an odd batch size.
    """

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        samples_per_class: int,
        seed: int,
    ):
        if batch_size % 2:
            raise UserError(
                "--data_sampler semi_class_random draws pairs of images: "
                f"--bs {batch_size} must be even."
            )
        super().__init__(labels, batch_size=batch_size, samples_per_class=2, seed=seed)

    def __iter__(self) -> Iterator[list[int]]:
        random = self.generator()
        images = random.integers(len(self.by_class), size=self.batches * self.blocks)
        pairs = self.with_classmates(random, images)
        yield from pairs.reshape(self.batches, self.batch_size).tolist()
