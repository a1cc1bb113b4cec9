"""ArcFace (Deng et al., CVPR 2019, eq. 3)."""

import math

import torch
from torch.nn.functional import cross_entropy, normalize

from criteria.base import Criterion
from criteria.softmax import class_directions
from utilities.choices import one_of
from utilities.types import ModelOutput

FORMS = ("paper", "textbook", "textbook_normalised")


class ArcFaceLoss(Criterion):
    """Normalised softmax whose target must win by an angular margin.

    Cross entropy of feature_scale * cos(theta_c), with theta + angular_margin for the target. The
    paper's code clamps every cosine to [1e-10, 1 - 1e-10], so that negative ones, targets too, get
    no gradient; `textbook` does not, and `textbook_normalised` normalises the embedding inside as
    well.

    Args:
        n_classes, embed_dim: shape of the class weights. lr: their own learning rate.
            angular_margin: in radians.
    """

    NEEDS = ("n_classes", "embed_dim")
    BY_CLASS = "class_map"

    def __init__(
        self,
        n_classes: int,
        embed_dim: int,
        lr: float = 0.0005,
        angular_margin: float = 0.5,
        feature_scale: float = 16,
        form: str = "paper",
    ):
        super().__init__()
        self.lr, self.form = lr, one_of("form", form, FORMS)
        self.angular_margin, self.feature_scale = angular_margin, feature_scale
        self.class_map = class_directions(n_classes, embed_dim)

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        embeddings = output.embeddings
        if self.form == "textbook_normalised":
            embeddings = normalize(embeddings, dim=1)
        cosines = embeddings @ normalize(self.class_map, dim=1).T
        # At 1 the angle has no finite gradient; in float32 1 - 1e-10 is 1, so the bound is the
        # nearest number below.
        bound = 1 - max(1e-10 if self.form == "paper" else 0, torch.finfo(cosines.dtype).eps)
        if self.form == "paper":
            cosines = cosines.clamp(1e-10, bound)
        target = cosines.gather(1, labels[:, None]).clamp(-bound, bound)
        sine = (1 - target.square()).sqrt()
        with_margin = target * math.cos(self.angular_margin) - sine * math.sin(self.angular_margin)
        logits = self.feature_scale * cosines.scatter(1, labels[:, None], with_margin)
        return cross_entropy(logits, labels)

    def parameter_groups(self, base_lr: float) -> list[dict]:
        return [{"params": [self.class_map], "lr": self.lr}]
