"""Batch samplers: yield lists of dataset indices, seeded per (seed, epoch)."""

import numpy as np

from datasampler.base import BatchSampler
from datasampler.class_balanced import ClassBalancedSampler
from datasampler.class_random import ClassRandomSampler
from datasampler.d2_coreset import D2CoresetSampler
from datasampler.disthist_batchmatch import DistHistBatchMatchSampler
from datasampler.fid_batchmatch import FIDBatchMatchSampler
from datasampler.greedy_coreset import GreedyCoresetSampler
from datasampler.random import RandomSampler
from datasampler.semi_class_random import SemiClassRandomSampler
from utilities.choices import part_of

REGISTRY: dict[str, type[BatchSampler]] = {
    "class_random": ClassRandomSampler,
    "random": RandomSampler,
    "semi_class_random": SemiClassRandomSampler,
    "class_balanced": ClassBalancedSampler,
    "greedy_coreset": GreedyCoresetSampler,
    "d2_coreset": D2CoresetSampler,
    "disthist_batchmatch": DistHistBatchMatchSampler,
    "fid_batchmatch": FIDBatchMatchSampler,
}


def select(
    name: str,
    labels: np.ndarray,
    *,
    batch_size: int,
    samples_per_class: int,
    seed: int,
    **options: float,
) -> BatchSampler:
    """The sampler `name` over a split with the given labels [N].

    Args:
        options: those of the run by name; the sampler gets the ones that it names in OPTIONS.
    Raises:
        ValueError: a name that there is not.
    """
    sampler = part_of(REGISTRY, "name", name)
    sampler_options = {option: options[option] for option in sampler.OPTIONS if option in options}
    return sampler(
        labels,
        batch_size=batch_size,
        samples_per_class=samples_per_class,
        seed=seed,
        **sampler_options,
    )
