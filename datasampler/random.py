"""Random images, whatever their class."""

from collections.abc import Iterator

from datasampler.base import BatchSampler


class RandomSampler(BatchSampler):
    """Shuffles all images and cuts them in batches, whatever their class.

    An epoch is N // batch_size batches; no image comes twice in it, and the incomplete last batch
    is dropped. samples_per_class has no effect: an image may be the only one of its class in the
    batch.
    """

    def __iter__(self) -> Iterator[list[int]]:
        shuffled = self.generator().permutation(len(self.by_class))
        whole_batches = shuffled[: self.batches * self.batch_size]
        yield from whole_batches.reshape(self.batches, self.batch_size).tolist()
