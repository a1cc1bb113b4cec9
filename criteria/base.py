"""What all objectives share: checks, float32, and a zero with a graph where there is nothing to learn."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import normalize

from utilities.functional import graph_zero
from utilities.types import ModelOutput


class Criterion(nn.Module):
    """A subclass writes `loss(output, labels)`; callers use `criterion(output, labels)`.

    NEEDS names the constructor arguments that come from the run: of `n_classes`, `embed_dim`,
        `feature_dim`, `miner`,
    and, of an objective around others, `source` and `target`. MINERS names the batch miners it can
    work with; None: any.
    """

    NEEDS: tuple[str, ...] = ()
    MINERS: tuple[str, ...] | None = None

    def forward(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        """Scalar loss of a batch, in fp32 (fp64 stays) whatever the autocast.

        Args:
            output: embeddings [B, D], features [B, F], feature_map [B, C, h, w].
            labels: [B] long.
        Raises:
            ValueError: shapes that do not fit together.
        """
        embeddings = output.embeddings
        if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
            raise ValueError(
                f"expected embeddings [B, D] and labels [B], got {tuple(embeddings.shape)} and {tuple(labels.shape)}"
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            output = ModelOutput(
                *(
                    part.float() if part.dtype in (torch.float16, torch.bfloat16) else part
                    for part in output
                )
            )
            # NaN embeddings compare as False everywhere, so a loss may not see them: the added 0 is
            # NaN then.
            return self.loss(output, labels) + graph_zero(output.embeddings)

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define loss(output, labels)")

    def is_mined(self) -> bool:
        """Whether this objective, or one that it holds, uses a batch miner."""
        return any(getattr(module, "miner", None) is not None for module in self.modules())

    def parameter_groups(self, base_lr: float) -> list[dict]:
        """Optimizer groups of the learnable parts (proxies, class margins, networks); none by default."""
        return []


class TripletCriterion(Criterion):
    """An objective on mined triplets; a subclass writes `triplet_loss(anchors, positives, negatives)` for T > 0 rows."""

    NEEDS = ("miner",)

    def __init__(self, miner):
        super().__init__()
        self.miner = miner

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        triplets = self.miner(output.embeddings.detach(), labels)
        if len(triplets) == 0:
            return graph_zero(output.embeddings)
        return self.triplet_loss(*output.embeddings[triplets].unbind(1))

    def triplet_loss(
        self, anchors: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor
    ) -> torch.Tensor:
        raise NotImplementedError(
            f"{type(self).__name__} must define triplet_loss(anchors, positives, negatives)"
        )


class ProxyCriterion(Criterion):
    """An objective on cosine similarities to one learned proxy per class; a subclass writes `proxy_loss(similarities, labels)`.

    Args:
        n_classes, embed_dim: shape of the proxies, which start as in the paper's code. lrmulti:
            their learning rate as a multiple of the trunk's.
    """

    NEEDS = ("n_classes", "embed_dim")

    def __init__(self, n_classes: int, embed_dim: int, lrmulti: float):
        super().__init__()
        self.lrmulti = lrmulti
        self.proxies = nn.Parameter(torch.randn(n_classes, embed_dim) / 8)

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        return self.proxy_loss(
            normalize(output.embeddings, dim=1) @ normalize(self.proxies, dim=1).T, labels
        )

    def proxy_loss(self, similarities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of similarities [B, C] and labels [B]."""
        raise NotImplementedError(
            f"{type(self).__name__} must define proxy_loss(similarities, labels)"
        )

    @staticmethod
    def own_proxies(similarities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """bool [B, C], the proxy of each sample's class."""
        return torch.zeros_like(similarities, dtype=torch.bool).scatter(1, labels[:, None], True)

    def parameter_groups(self, base_lr: float) -> list[dict]:
        return [{"params": [self.proxies], "lr": base_lr * self.lrmulti}]


class CompositeCriterion(Criterion):
    """An objective around others: `source` on the embedding, one of `target` on each further embedding that it makes."""

    def __init__(self, source: Criterion, target: Sequence[Criterion]):
        super().__init__()
        self.source, self.targets = source, nn.ModuleList(target)

    def source_loss(
        self, output: ModelOutput, embeddings: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        return self.source(output._replace(embeddings=embeddings), labels)

    def target_loss(
        self, output: ModelOutput, further: list[torch.Tensor], labels: torch.Tensor
    ) -> torch.Tensor:
        """Mean over the further embeddings, [B, D_k] each."""
        return torch.stack(
            [
                target(output._replace(embeddings=rows), labels)
                for target, rows in zip(self.targets, further)
            ]
        ).mean()

    def parameter_groups(self, base_lr: float) -> list[dict]:
        """Those of the objectives inside; a subclass adds its networks."""
        return [
            group
            for part in (self.source, *self.targets)
            for group in part.parameter_groups(base_lr)
        ]
