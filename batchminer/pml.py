"""Bridge to the miners of pytorch-metric-learning (Musgrave et al., 2020).

That library is an optional dependency.
"""

import torch

from batchminer.base import BatchMiner
from utilities import pml


class PytorchMetricLearningMiner(BatchMiner):
    """Any miner of pytorch-metric-learning, by the name of its class.

    Args:
        name: class in pytorch_metric_learning.miners. args: JSON object of its arguments.
    Raises:
        UserError: the library is missing, knows no such class, or refuses the arguments.
    """

    def __init__(self, name: str, args: str = "{}"):
        self.miner = pml.build("miners", name, {}, args, "--miner_pml_args")

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.stack(pml.triplets(self.miner(embeddings, labels), labels), dim=1)

    def native(self, embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The library's own form, pairs or triplets, for its own objectives."""
        return self.miner(embeddings, labels)
