"""Batches that cover the embedding space (Sener and Savarese, ICLR 2018)."""

import numpy as np
import torch

from datasampler.storage import CoresetSampler, squared_distances


class GreedyCoresetSampler(CoresetSampler):
    """Chooses images that cover a random pool best, and adds others of their classes.

    The choice is greedy k-center. The first of batch_size / samples_per_class images is random;
    each following one is the image of the pool that is farthest from its nearest chosen one. Each
    is followed by samples_per_class - 1 other random images of its class, from the whole split
    (with replacement where the class has fewer; two chosen images of one class may bring the same
    ones).

    Source: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach", ICLR 2018, algorithm 1; as a batch sampler in Roth et al., ICML 2020.
    """

    def coreset(self, random: np.random.Generator, embeddings: torch.Tensor) -> list[int]:
        return k_center(embeddings, self.blocks, first=int(random.integers(len(embeddings))))


def k_center(embeddings: torch.Tensor, number: int, first: int) -> list[int]:
    """Rows of [n, D], each the farthest from those before it.

    No row comes twice, also where rows are equal.
    """
    chosen, nearest = [first], squared_distances(embeddings, first)
    while len(chosen) < number:
        nearest[chosen[-1]] = -1
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, squared_distances(embeddings, chosen[-1]))
    return chosen
