"""Batch miners: (embeddings [B, D], labels [B]) -> triplets, a LongTensor [T, 3] of (anchor, positive, negative)."""
from batchminer.base import BatchMiner
from batchminer.distance import DistanceMiner

REGISTRY: dict[str, type[BatchMiner]] = {"distance": DistanceMiner}


def select(name: str, **hyperparameters) -> BatchMiner:
    """The miner `name`."""
    return REGISTRY[name](**hyperparameters)
