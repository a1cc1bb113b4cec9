"""Objectives: one file each, an explicit registry, `select(name, ...)` is the door."""
from criteria.base import Criterion
from criteria.margin import MarginLoss
from criteria.multisimilarity import MultiSimilarityLoss

REGISTRY: dict[str, type[Criterion]] = {"margin": MarginLoss, "multisimilarity": MultiSimilarityLoss}


def select(name: str, *, n_classes: int, embed_dim: int, miner=None, **hyperparameters) -> Criterion:
    """The objective `name`; each takes what it needs of the class count, the dimension and the miner."""
    criterion = REGISTRY[name]
    given = {"n_classes": n_classes, "embed_dim": embed_dim, "miner": miner}
    return criterion(**{argument: given[argument] for argument in criterion.NEEDS}, **hyperparameters)
