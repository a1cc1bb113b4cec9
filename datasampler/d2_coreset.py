"""Batches of images far from each other, at random (as k-means++ draws its centres)."""

import numpy as np
import torch

from datasampler.storage import CoresetSampler, squared_distances


class D2CoresetSampler(CoresetSampler):
    """Draws images of a random pool by their squared distances, and adds others of their classes.

    The distances are to the images drawn before. The first is uniform. Each following one is drawn
    among the n images of the pool not drawn yet with probability

        q_i = (lambda * d_i^2 / sum_j d_j^2 + 1 / n) / (lambda + 1),

    d_i the distance to the nearest image drawn: 0 draws uniformly, 1 mixes both halves as
    lightweight coresets do, and large values approach k-means++. Where all distances are zero the
    draw is uniform. Each of the batch_size / samples_per_class images is followed by
    samples_per_class - 1 other random images of its class, from the whole split (with replacement
    where the class has fewer; two drawn images of one class may bring the same ones).

    Source: Arthur and Vassilvitskii, "k-means++", SODA 2007; Bachem et al., "Scalable k-Means
    Clustering via Lightweight Coresets", KDD 2018; as a batch sampler in Roth et al., ICML 2020.
    The published code of the latter weights instead by a Gaussian density times a power of the
    squared distances summed over all images drawn, lambda being the power.

    Args:
        d2_lambda: weight of the squared distances against the uniform share.
    """

    OPTIONS = ("pool_size", "d2_lambda", "projection_dim")

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        samples_per_class: int,
        seed: int,
        pool_size: int = 512,
        d2_lambda: float = 1.0,
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
        self.d2_lambda = d2_lambda

    def coreset(self, random: np.random.Generator, embeddings: torch.Tensor) -> list[int]:
        chosen = [int(random.integers(len(embeddings)))]
        nearest, free = squared_distances(embeddings, chosen[0]), np.ones(len(embeddings), bool)
        while len(chosen) < self.blocks:
            free[chosen[-1]] = False
            shares = d2_probabilities(nearest.double().numpy(), free, self.d2_lambda)
            chosen.append(int(random.choice(len(free), p=shares)))
            nearest = torch.minimum(nearest, squared_distances(embeddings, chosen[-1]))
        return chosen


def d2_probabilities(squared: np.ndarray, free: np.ndarray, d2_lambda: float) -> np.ndarray:
    """q of the class docstring from squared distances [n], 0 for rows that are not free."""
    uniform = free / free.sum()
    squared = squared * free
    share = squared / squared.sum() if squared.any() else uniform
    return (d2_lambda * share + uniform) / (d2_lambda + 1)
