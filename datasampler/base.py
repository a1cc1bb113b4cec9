"""What the batch samplers share: the split ordered by class, and seeded draws from it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from utilities.errors import UserError
from utilities.seeding import derive


class BatchSampler(ABC):
    """Yields the batches of an epoch as lists of dataset indices.

    A subclass says in OPTIONS which of the run's options its constructor takes. One that chooses
    by embeddings is a `StorageSampler`, which is refreshed at the start of each epoch.

    Args:
        labels: [N] labels of the split, any integers.
        batch_size: images in a batch, a multiple of samples_per_class.
        samples_per_class: images of one class that are drawn together.
        seed: with the epoch it fixes all draws. Processes that share batches draw the same ones.
    Raises:
        UserError: fewer images than one batch.
    """

    OPTIONS: tuple[str, ...] = ()

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        samples_per_class: int,
        seed: int,
    ):
        if len(labels) < batch_size:
            raise UserError(
                f"--bs {batch_size} is larger than the training set of {len(labels)} images; "
                "lower it."
            )
        self.by_class = np.argsort(labels, kind="stable")  # indices, class after class
        self.positions = np.argsort(self.by_class)  # where by_class names each image
        _, self.starts, self.counts = np.unique(
            labels[self.by_class], return_index=True, return_counts=True
        )
        self.batches = len(labels) // batch_size
        self.batch_size, self.samples_per_class = batch_size, samples_per_class
        self.blocks = batch_size // samples_per_class  # classes in a batch
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields."""
        self.epoch = epoch

    def state_dict(self) -> dict:
        """The chosen epoch, and what its batches depend on beside the settings."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict) -> None:
        self.epoch = state["epoch"]

    def __len__(self) -> int:
        return self.batches

    @abstractmethod
    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the chosen epoch."""

    def generator(self) -> np.random.Generator:
        """The random numbers of the chosen epoch, from their beginning."""
        return np.random.default_rng(derive(self.seed, self.epoch))

    def groups_per_class(self) -> np.ndarray:
        """[C] number of groups of samples_per_class images that hold every image of the class."""
        return -(-self.counts // self.samples_per_class)

    def groups(self, random: np.random.Generator, classes: np.ndarray) -> np.ndarray:
        """Shuffle the images of each class and cut them: indices [G, samples_per_class].

        The groups come class after class in the given order. The last group of a class is filled up
        with other random images of it, repeated where the class has fewer than samples_per_class.
        """
        counts = self.counts[classes]
        owner, place = ragged(counts)
        positions = self.starts[classes][owner] + place
        shuffled = self.by_class[positions[np.lexsort((random.random(len(owner)), owner))]]
        owner, place = ragged(self.groups_per_class()[classes] * self.samples_per_class)
        first = np.cumsum(counts) - counts
        return shuffled[first[owner] + place % counts[owner]].reshape(-1, self.samples_per_class)

    def with_classmates(self, random: np.random.Generator, indices: np.ndarray) -> np.ndarray:
        """Follow each image by samples_per_class - 1 others of its class.

        Indices [n] -> [n, samples_per_class]. They differ from the image and from each other where
        the class is large enough; else they are drawn with replacement from its other images, and
        the only image of a class is repeated.
        """
        positions = self.positions[indices]
        classes = np.searchsorted(self.starts, positions, side="right") - 1
        image_places = (positions - self.starts[classes])[:, None]  # within the class
        other_counts = self.counts[classes] - 1
        mate_places = draw_distinct(random, other_counts, self.samples_per_class - 1)
        mate_places += (mate_places >= image_places) & (other_counts > 0)[:, None]
        places = np.hstack([image_places, mate_places])
        return self.by_class[self.starts[classes][:, None] + places]


def ragged(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each entry of a table whose rows have these lengths, row after row."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.arange(len(rows)) - (np.cumsum(lengths) - lengths)[rows]


def draw_distinct(random: np.random.Generator, counts: np.ndarray, number: int) -> np.ndarray:
    """In each row `number` different values of 0..count-1: counts [n] -> [n, number].

    They are drawn with replacement where the count is smaller than `number`. Floyd's algorithm
    (Bentley and Floyd, CACM 1987): no row is shuffled. Rows with count 0 are 0.
    """
    drawn = random.integers(np.maximum(counts, 1)[:, None], size=(len(counts), number))
    enough = counts >= number
    for column in range(number):
        last = np.maximum(counts - number + column, 0)
        value = random.integers(last + 1)
        is_taken = (drawn[:, :column] == value[:, None]).any(1)
        value = np.where(is_taken, last, value)
        drawn[enough, column] = value[enough]
    return drawn
