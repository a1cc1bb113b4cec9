"""Batch samplers: yield lists of dataset indices, seeded per (seed, epoch, rank)."""
import numpy as np

from datasampler.class_random import ClassRandomSampler

REGISTRY = {"class_random": ClassRandomSampler}


def select(name: str, labels: np.ndarray, *, batch_size: int, samples_per_class: int, seed: int, **options):
    """The sampler `name` over a split with the given labels [N]."""
    return REGISTRY[name](labels, batch_size=batch_size, samples_per_class=samples_per_class, seed=seed, **options)
