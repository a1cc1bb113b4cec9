"""Every image of the split in an epoch, in batches of different classes."""

from collections.abc import Iterator

import numpy as np

from datasampler.base import BatchSampler


class ClassBalancedSampler(BatchSampler):
    """Shows every image at least once per epoch, in batches of distinct classes.

    Each class comes with samples_per_class images. The images of each class are shuffled and cut in
    groups of K = samples_per_class, the last one filled up with other random images of the class
    (which repeat if it has fewer than K). A batch takes one group of each of P = batch_size / K
    classes, drawn without replacement and in proportion to the groups that the classes have left; a
    class that has one left for every batch still to come is always taken. Where fewer than P
    classes have groups left, random other classes complete the batch with K random images.

    An epoch is max(ceil(G / P), g) batches with G groups in all and g of the largest class, the
    fewest in which no class comes twice in a batch: a class much larger than the others makes the
    epoch longer and the others repeat. If the split has fewer than P classes, a batch holds up to
    ceil(P / classes) groups of each.
    """

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        samples_per_class: int,
        seed: int,
    ):
        super().__init__(
            labels, batch_size=batch_size, samples_per_class=samples_per_class, seed=seed
        )
        # With fewer classes than a batch takes, the groups of each are dealt out to several queues,
        # as if it were several classes.
        queues_per_class = -(-self.blocks // len(self.counts))
        self.queue_class = np.repeat(np.arange(len(self.counts)), queues_per_class)
        class_groups = self.groups_per_class()[self.queue_class]
        rank_in_class = np.tile(np.arange(queues_per_class), len(self.counts))
        spread = class_groups + queues_per_class - 1 - rank_in_class
        self.queue_lengths = spread // queues_per_class
        batches_to_fill = -(-self.queue_lengths.sum() // self.blocks)
        self.batches = max(batches_to_fill, self.queue_lengths.max()).item()

    def __iter__(self) -> Iterator[list[int]]:
        random = self.generator()
        groups = self.groups(random, np.arange(len(self.counts)))
        following = np.cumsum(self.queue_lengths) - self.queue_lengths  # the next group of each
        left = self.queue_lengths.copy()
        for remaining in range(self.batches, 0, -1):
            queues = self.choose(random, left, remaining)
            served, idle = queues[left[queues] > 0], queues[left[queues] == 0]
            batch = groups[following[served]]
            following[served] += 1
            left[served] -= 1
            if len(idle):
                batch = np.concatenate([batch, self.any_group(random, self.queue_class[idle])])
            yield batch.ravel().tolist()

    def choose(self, random: np.random.Generator, left: np.ndarray, remaining: int) -> np.ndarray:
        """The queues that the next of the `remaining` batches takes.

        They are all with groups left, and others, where fewer than it needs have any.
        """
        # The smallest of exponential variables with these rates are a draw without replacement in
        # proportion to the rates.
        keys = random.exponential(size=len(left)) / np.maximum(left, 1)
        keys[left == 0] += 1e6
        keys[left == remaining] = -1
        return np.argpartition(keys, self.blocks - 1)[: self.blocks]

    def any_group(self, random: np.random.Generator, classes: np.ndarray) -> np.ndarray:
        """Random images of each class, [n] -> [n, samples_per_class]."""
        counts = self.groups_per_class()[classes]
        return self.groups(random, classes)[np.cumsum(counts) - counts]
