"""Batch miners: (embeddings [B, D], labels [B]) -> triplets.

Triplets are a LongTensor [T, 3] of anchor, positive and negative; `select(name, ...)` is the door.
"""

from collections.abc import Callable
from typing import Any

from batchminer.base import BatchMiner
from batchminer.distance import DistanceMiner
from batchminer.intra_random import IntraRandomMiner
from batchminer.lifted import LiftedMiner
from batchminer.multisimilarity import MultiSimilarityMiner
from batchminer.npair import NPairMiner
from batchminer.parametric import ParametricMiner
from batchminer.pml import PytorchMetricLearningMiner
from batchminer.random import RandomMiner
from batchminer.random_distance import RandomDistanceMiner
from batchminer.rho_distance import RhoDistanceMiner
from batchminer.semihard import SemihardMiner
from batchminer.softhard import SofthardMiner
from utilities.choices import part_of
from utilities.pml import PREFIX

REGISTRY: dict[str, Callable[..., BatchMiner]] = {
    "random": RandomMiner,
    "semihard": SemihardMiner,
    "softhard": SofthardMiner,
    "distance": DistanceMiner,
    "rho_distance": RhoDistanceMiner,
    "npair": NPairMiner,
    "intra_random": IntraRandomMiner,
    "lifted": LiftedMiner,
    "parametric": ParametricMiner,
    "random_distance": RandomDistanceMiner,
    "multisimilarity": MultiSimilarityMiner,
}


def select(name: str, **hyperparameters: Any) -> BatchMiner:
    """The miner `name`, or `pml:<ClassName>` of pytorch-metric-learning.

    Raises:
        TypeError: a hyper-parameter that it does not know.
        ValueError: a name, form or mode that there is not.
    """
    if name.startswith(PREFIX):
        return PytorchMetricLearningMiner(name.removeprefix(PREFIX), **hyperparameters)
    return part_of(REGISTRY, "name", name)(**hyperparameters)
