"""Bridge to the miners of pytorch-metric-learning (Musgrave et al., 2020).

That library is an optional dependency.
"""

import torch

from batchminer.base import BatchMiner
from utilities import pml

TRIED_CLASSES, TRIED_DIMENSION = 8, 16  # a miner takes any


class PytorchMetricLearningMiner(BatchMiner):
    """Any miner of pytorch-metric-learning, by the name of its class.

    Args:
        name: class in pytorch_metric_learning.miners. args: JSON object of its arguments.
    Raises:
        UserError: the library is missing, knows no such class, or cannot work with the arguments.
    """

    def __init__(self, name: str, args: str = "{}"):
        asked = pml.Asked("miners", name, "--batch_mining", args, "--miner_pml_args")
        self.miner = pml.build(asked, {})
        pml.require_working(asked, self.miner, TRIED_CLASSES, TRIED_DIMENSION)

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.stack(pml.triplets(self.miner(embeddings, labels), labels), dim=1)

    def native(self, embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The library's own form, pairs or triplets, for its own objectives."""
        return self.miner(embeddings, labels)
