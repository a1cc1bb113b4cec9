"""What the samplers that choose batches by the embeddings of the split share.

Source: Roth et al., "Revisiting Training Strategies and Generalization Performance in Deep Metric
Learning", ICML 2020.
"""

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch

from datasampler.base import BatchSampler, ragged
from utilities.seeding import derive


class StorageSampler(BatchSampler):
    """Chooses each batch from a pool of random images by their stored embeddings.

    An epoch is N // batch_size batches. The pool of a batch is made of random classes with
    samples_per_class random images each (repeated where a class has fewer). A class comes again
    only after all others are in the pool, and then with other images, so the pool of a small
    dataset ends at the whole split.

    Args:
        pool_size: images in the pool, rounded down to a multiple of samples_per_class; at least a
            batch.
        projection_dim: project embeddings of more dimensions to this many by a random Gaussian
            matrix, the same in all epochs; -1 keeps them.
    """

    OPTIONS: tuple[str, ...] = ("pool_size", "projection_dim")

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        samples_per_class: int,
        seed: int,
        pool_size: int = 512,
        projection_dim: int = -1,
    ):
        super().__init__(
            labels, batch_size=batch_size, samples_per_class=samples_per_class, seed=seed
        )
        all_groups = int(self.groups_per_class().sum())
        self.pool_groups = max(min(pool_size // samples_per_class, all_groups), self.blocks)
        self.projection_dim = projection_dim
        self.embeddings: torch.Tensor | None = None

    def refresh(self, embeddings: torch.Tensor) -> None:
        """Take the embeddings [N, D] of the whole split in dataset order; any device and dtype."""
        if len(embeddings) != len(self.by_class):
            raise ValueError(f"{len(embeddings)} embeddings for {len(self.by_class)} images.")
        embeddings = embeddings.detach().to("cpu", torch.float32)
        if 0 < self.projection_dim < embeddings.shape[1]:
            generator = torch.Generator().manual_seed(derive(self.seed, 0))
            matrix = torch.randn(embeddings.shape[1], self.projection_dim, generator=generator)
            # The divisor keeps squared distances in expectation.
            embeddings = embeddings @ matrix / self.projection_dim**0.5
        self.embeddings = embeddings

    def state_dict(self) -> dict:
        """The stored embeddings, of the network as it was when the epoch began."""
        return super().state_dict() | {"embeddings": self.embeddings}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.embeddings = state["embeddings"]

    def __iter__(self) -> Iterator[list[int]]:
        if self.embeddings is None:
            raise RuntimeError(
                f"{type(self).__name__} chooses batches by embeddings: "
                "call refresh(embeddings) before iterating."
            )
        random = self.generator()
        return (self.batch(random, self.pool(random)).ravel().tolist() for _ in range(self.batches))

    @abstractmethod
    def batch(self, random: np.random.Generator, pool: np.ndarray) -> np.ndarray:
        """Indices of the pool [G, samples_per_class] -> those of a batch [B, samples_per_class].

        B is batch_size / samples_per_class.
        """

    def pool(self, random: np.random.Generator) -> np.ndarray:
        """Indices [pool_size / samples_per_class, samples_per_class], a class per row."""
        classes = random.permutation(len(self.counts))[: self.pool_groups]
        groups = self.groups(random, classes)
        _, turn = ragged(self.groups_per_class()[classes])
        order = np.lexsort((random.random(len(groups)), turn))
        return groups[order[: self.pool_groups]]

    def stored(self, indices: np.ndarray) -> torch.Tensor:
        """[n] indices of the split -> their embeddings [n, D]."""
        if self.embeddings is None:
            raise RuntimeError(f"{type(self).__name__} has no embeddings yet")
        return self.embeddings[torch.from_numpy(indices)]


class CoresetSampler(StorageSampler):
    """Chooses batch_size / samples_per_class images of the pool, and others of their classes."""

    def batch(self, random: np.random.Generator, pool: np.ndarray) -> np.ndarray:
        images = pool.ravel()
        chosen = images[self.coreset(random, self.stored(images))]
        return self.with_classmates(random, chosen)

    @abstractmethod
    def coreset(self, random: np.random.Generator, embeddings: torch.Tensor) -> list[int]:
        """batch_size / samples_per_class different rows of the pool's embeddings [n, D]."""


class BatchMatchSampler(StorageSampler):
    """Draws random batches from the pool and keeps the one that is most like the pool.

    Args:
        candidates: random batches to choose from.
    """

    OPTIONS = ("pool_size", "candidates", "projection_dim")

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        samples_per_class: int,
        seed: int,
        pool_size: int = 512,
        candidates: int = 10,
        projection_dim: int = -1,
    ):
        super().__init__(
            labels,
            batch_size=batch_size,
            samples_per_class=samples_per_class,
            seed=seed,
            pool_size=pool_size,
            projection_dim=projection_dim,
        )
        self.candidates = candidates

    def batch(self, random: np.random.Generator, pool: np.ndarray) -> np.ndarray:
        chosen = random.random((self.candidates, len(pool))).argsort(1)[:, : self.blocks]
        rows_of_group = np.arange(pool.size).reshape(pool.shape)
        rows = rows_of_group[chosen].reshape(self.candidates, self.batch_size)
        costs = self.costs(self.stored(pool.ravel()), torch.from_numpy(rows))
        return pool[chosen[costs.argmin()]]

    @abstractmethod
    def costs(self, pool: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """How unlike the pool [n, D] each candidate is; rows of the pool [c, batch_size] -> [c]."""


def squared_distances(embeddings: torch.Tensor, row: int) -> torch.Tensor:
    """[n, D] -> [n] squared Euclidean distances to one of the rows, exactly 0 for equal ones."""
    return (embeddings - embeddings[row]).square().sum(1)
