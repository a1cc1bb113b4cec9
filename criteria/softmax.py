"""Normalised softmax loss (Zhai and Wu, BMVC 2019)."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from criteria.base import Criterion
from utilities.choices import one_of
from utilities.types import ModelOutput

FORMS = ("paper", "textbook")


class SoftmaxLoss(Criterion):
    """Classification by cosine similarity to one learned direction per class.

    Cross entropy of <x, w_c/|w_c|> / temperature; `textbook` also normalises x.

    Args:
        n_classes, embed_dim: shape of the class weights w. lr: their own learning rate.
    """

    NEEDS = ("n_classes", "embed_dim")
    BY_CLASS = "class_map"

    def __init__(
        self,
        n_classes: int,
        embed_dim: int,
        lr: float = 1e-5,
        temperature: float = 0.05,
        form: str = "paper",
    ):
        super().__init__()
        self.lr, self.temperature, self.form = lr, temperature, one_of("form", form, FORMS)
        self.class_map = class_directions(n_classes, embed_dim)

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        embeddings = output.embeddings
        if self.form != "paper":
            embeddings = normalize(embeddings, dim=1)
        logits = embeddings @ normalize(self.class_map, dim=1).T / self.temperature
        return cross_entropy(logits, labels)

    def parameter_groups(self, base_lr: float) -> list[dict]:
        return [{"params": [self.class_map], "lr": self.lr}]


def class_directions(n_classes: int, embed_dim: int) -> nn.Parameter:
    """[C, D] class weights, uniform within 1/sqrt(D) as in a linear layer."""
    return nn.Parameter((2 * torch.rand(n_classes, embed_dim) - 1) / embed_dim**0.5)
