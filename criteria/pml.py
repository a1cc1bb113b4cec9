"""Bridge to the objectives of pytorch-metric-learning (Musgrave et al., 2020).

That library is an optional dependency.
"""

import torch

from criteria.base import Criterion
from utilities import pml
from utilities.types import Miner, ModelOutput, NativeMiner


class PytorchMetricLearningLoss(Criterion):
    """Any objective of pytorch-metric-learning, by the name of its class.

    Args:
        name: class in pytorch_metric_learning.losses. flag: that gave the name.
        n_classes, embed_dim: go to its num_classes and embedding_size where it asks for them.
        miner: used if it is one of that library (batchminer/pml.py), whose native pairs or triplets
            it takes; all pairs otherwise.
        args: JSON object of further arguments. lr: of its learnable parts; negative: the trunk's.
    Raises:
        UserError: the library is missing, knows no such class, or cannot work with the arguments.
    """

    NEEDS = ("n_classes", "embed_dim", "miner", "flag")

    def __init__(
        self,
        name: str,
        n_classes: int,
        embed_dim: int,
        miner: Miner | None = None,
        flag: str = "--loss",
        args: str = "{}",
        lr: float = -1,
    ):
        super().__init__()
        asked = pml.Asked("losses", name, flag, args, "--loss_pml_args")
        given = {"num_classes": n_classes, "embedding_size": embed_dim}
        self.objective = pml.build(asked, given)
        pml.require_working(asked, self.objective, n_classes, embed_dim)
        self.miner = miner if isinstance(miner, NativeMiner) else None
        self.lr = lr

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        if self.miner is None:
            return self.objective(output.embeddings, labels)
        mined = self.miner.native(output.embeddings.detach(), labels)
        return self.objective(output.embeddings, labels, mined)

    def is_mined(self) -> bool:
        return self.miner is not None

    def parameter_groups(self, base_lr: float) -> list[dict]:
        parameters = list(self.objective.parameters())
        if not parameters:
            return []
        return [{"params": parameters, "lr": base_lr if self.lr < 0 else self.lr}]
