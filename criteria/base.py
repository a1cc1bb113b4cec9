"""What all objectives share: checks, fp32, and a zero with a graph where nothing can be learnt."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import normalize

from utilities.functional import (
    at_least_float32,
    graph_zero,
    ragged_is_cheap,
    require_real,
    whole_labels,
)
from utilities.types import Miner, ModelOutput, PaddedMiner, Triplets


class Criterion(nn.Module):
    """A subclass writes `loss(output, labels)`; callers use `criterion(output, labels)`.

    NEEDS names the constructor arguments that come from the run: of `n_classes`, `embed_dim`,
    `feature_dim`, `miner`, `flag` (which names the objective), and, of an objective around others,
    `source` and `target`. MINERS names
    the batch miners it can work with; None: any. BY_CLASS names the learnable part that has a row
    for each class, where there is one. READS names the fields of a ModelOutput that
    `loss` uses; an objective that uses the embeddings alone can be called with them.
    """

    NEEDS: tuple[str, ...] = ()
    MINERS: tuple[str, ...] | None = None
    BY_CLASS: str | None = None
    READS: tuple[str, ...] = ("embeddings",)

    def forward(
        self,
        output: ModelOutput | torch.Tensor,
        labels: torch.Tensor,
        *,
        anchors: int | None = None,
    ) -> torch.Tensor:
        """Scalar loss of a batch, in fp32 whatever the autocast; in fp64 where anything is fp64.

        Args:
            output: embeddings [B, D], features [B, F], feature_map [B, C, h, w]; or the embeddings
                [B, D] alone, where the objective reads nothing else.
            labels: [B], whole numbers of any type; of an objective with parts by class, from 0 on.
            anchors: of an AnchoredCriterion, how many rows, the first ones, are anchors; None: all.
        Raises:
            TypeError: arrays or lists in the place of tensors.
            ValueError: shapes that do not fit together, other types of numbers, embeddings alone
                where more is read, or, on the CPU, labels of classes that there are not.
        """
        if isinstance(output, torch.Tensor):
            output = self._without_features(output)
        elif not isinstance(output, ModelOutput):
            raise TypeError(
                "expected embeddings as a torch.Tensor, or a ModelOutput, got "
                f"{type(output).__name__}"
            )
        embeddings = output.embeddings
        require_real(embeddings)
        labels = whole_labels(labels)
        if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1] or len(labels) == 0:
            raise ValueError(
                "expected embeddings [B, D] and labels [B] with at least one row, "
                f"got {tuple(embeddings.shape)} and {tuple(labels.shape)}"
            )
        dtype = self._dtype_beside(embeddings)
        self._require_classes(labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            output = ModelOutput(*(part.to(dtype) for part in output))
            narrower = {
                name: part.to(dtype)
                for name, part in self.named_parameters()
                if part.dtype != dtype
            }
            if narrower:
                return functional_call(self, narrower, (output, labels), {"anchors": anchors})
            # NaN embeddings compare as False everywhere, so a loss may not see them: the added 0 is
            # NaN then.
            if anchors is None:
                return self.loss(output, labels) + graph_zero(output.embeddings)
            return self.anchored_loss(output, labels, anchors) + graph_zero(output.embeddings)

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define loss(output, labels)")

    def anchored_loss(
        self, output: ModelOutput, labels: torch.Tensor, anchors: int
    ) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no anchors among other rows")

    def reads(self) -> set[str]:
        """Fields of a ModelOutput that this objective, with its settings, uses."""
        return set(self.READS)

    def is_mined(self) -> bool:
        """Whether this objective, or one that it holds, uses a batch miner."""
        return False

    def parameter_groups(self, base_lr: float) -> list[dict]:
        """Optimizer groups of the learnable parts: proxies, class margins, networks; or none."""
        return []

    def _require_classes(self, labels: torch.Tensor) -> None:
        """Raises ValueError for a label without a part of its own, where asking costs no wait.

        A negative one would be counted from the end, or passed over.
        """
        part = getattr(self, self.BY_CLASS) if self.BY_CLASS else None
        if not isinstance(part, torch.Tensor) or not ragged_is_cheap(labels) or not len(labels):
            return
        least, most = labels.min().item(), labels.max().item()
        if least < 0 or most >= len(part):
            raise ValueError(
                f"{type(self).__name__} has {len(part)} classes, with labels from 0 to "
                f"{len(part) - 1}; got labels from {least} to {most}"
            )

    def _dtype_beside(self, embeddings: torch.Tensor) -> torch.dtype:
        """In what embeddings and learnable parts meet: the widest of them, at least fp32."""
        dtype = at_least_float32(embeddings).dtype
        for part in self.parameters():
            dtype = torch.promote_types(dtype, part.dtype)
        return dtype

    def _without_features(self, embeddings: torch.Tensor) -> ModelOutput:
        """Embeddings as a ModelOutput, whose other fields are empty: nothing reads them."""
        fields = self.reads()
        further = [name for name in ModelOutput._fields if name in fields and name != "embeddings"]
        if further:
            raise ValueError(
                f"{type(self).__name__} reads {' and '.join(further)} beside the embeddings: "
                f"call it with a ModelOutput({', '.join(ModelOutput._fields)})"
            )
        nothing = embeddings.new_zeros(0)
        return ModelOutput(embeddings, nothing, nothing)


class AnchoredCriterion(Criterion):
    """An objective of anchors against positives and negatives that need not be anchors themselves.

    A subclass writes `anchored_loss(output, labels, anchors)`, of which the first rows are the
    anchors. A memory of earlier batches can give it further rows.
    """

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        return self.anchored_loss(output, labels, len(labels))


class MinedCriterion(Criterion):
    """An objective on what a batch miner chooses.

    Args:
        miner: (embeddings [B, D], labels [B]) -> triplets [T, 3].
    """

    NEEDS: tuple[str, ...] = ("miner",)

    def __init__(self, miner: Miner):
        super().__init__()
        if not callable(miner):
            raise TypeError(
                f"{type(self).__name__} needs a miner, "
                f"(embeddings [B, D], labels [B]) -> triplets [T, 3], not {miner!r}"
            )
        self.miner = miner

    def is_mined(self) -> bool:
        return True

    def mined(
        self, embeddings: torch.Tensor, labels: torch.Tensor, anchors: int | None = None
    ) -> Triplets:
        """The miner's choice, without a wait for its number where the miner knows how.

        With `anchors`, those of its triplets whose anchor is one of the first rows.
        """
        rows = embeddings.detach()
        if isinstance(self.miner, PaddedMiner) and not ragged_is_cheap(embeddings):
            triplets = self.miner.padded(rows, labels)
        else:
            triplets = Triplets(self.miner(rows, labels))
        if anchors is None or anchors == len(labels):
            return triplets
        return triplets.of(triplets.rows[:, 0] < anchors, compact=ragged_is_cheap(embeddings))


class TripletRows(NamedTuple):
    """Rows [T, D] of mined triplets, some of which may be fillers.

    Fillers are rows of the batch that count for nothing: a mean is taken by `mean`, a sum of
    `kept` values.
    """

    anchors: torch.Tensor
    positives: torch.Tensor
    negatives: torch.Tensor
    triplets: Triplets

    def kept(self, values: torch.Tensor) -> torch.Tensor:
        """Values [T] of the triplets, 0 at fillers."""
        return self.triplets.kept(values)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Of the values [T] of the triplets."""
        return self.triplets.mean(values)


class TripletCriterion(MinedCriterion, AnchoredCriterion):
    """An objective on the rows of mined triplets.

    A subclass writes `triplet_loss(rows)`, of at least one row.
    """

    def anchored_loss(
        self, output: ModelOutput, labels: torch.Tensor, anchors: int
    ) -> torch.Tensor:
        triplets = self.mined(output.embeddings, labels, anchors)
        if len(triplets.rows) == 0:
            return graph_zero(output.embeddings)
        first, second, third = output.embeddings[triplets.rows].unbind(1)
        return self.triplet_loss(TripletRows(first, second, third, triplets))

    def triplet_loss(self, rows: TripletRows) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define triplet_loss(rows)")


class ProxyCriterion(Criterion):
    """An objective on cosine similarities to one learned proxy per class.

    A subclass writes `proxy_loss(similarities, labels)`.

    Args:
        n_classes, embed_dim: shape of the proxies, which start as in the paper's code. lrmulti:
            their learning rate as a multiple of the trunk's.
    """

    NEEDS = ("n_classes", "embed_dim")
    BY_CLASS = "proxies"

    def __init__(self, n_classes: int, embed_dim: int, lrmulti: float):
        super().__init__()
        self.lrmulti = lrmulti
        self.proxies = nn.Parameter(torch.randn(n_classes, embed_dim) / 8)

    def loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        similarities = normalize(output.embeddings, dim=1) @ normalize(self.proxies, dim=1).T
        return self.proxy_loss(similarities, labels)

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
    """An objective around others.

    `source` is that of the embedding, `target` has one for each further embedding that it makes.

    Raises:
        TypeError: others than objectives, such as their names.
    """

    def __init__(self, source: Criterion, target: Sequence[Criterion]):
        super().__init__()
        if wrong := [part for part in (source, *target) if not isinstance(part, Criterion)]:
            raise TypeError(
                f"{type(self).__name__} takes objectives, as criteria.select gives them: one as "
                f"source, a list as target; not {type(wrong[0]).__name__}"
            )
        self.source, self.targets = source, nn.ModuleList(target)

    def objectives(self) -> list[Criterion]:
        """Those inside, the source first."""
        return [self.source, *self.targets]

    def source_loss(
        self, output: ModelOutput, embeddings: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        return self.source(output._replace(embeddings=embeddings), labels)

    def target_loss(
        self, output: ModelOutput, further: list[torch.Tensor], labels: torch.Tensor
    ) -> torch.Tensor:
        """Mean over the further embeddings, [B, D_k] each.

        Raises ValueError where they and the objectives are not equally many.
        """
        if len(self.targets) != len(further):
            raise ValueError(
                f"{type(self).__name__} makes {len(further)} further embeddings, one for each of "
                f"target_dims, and has {len(self.targets)} objectives for them in target"
            )
        losses = [
            target(output._replace(embeddings=rows), labels)
            for target, rows in zip(self.targets, further)
        ]
        return torch.stack(losses).mean()

    def reads(self) -> set[str]:
        return super().reads().union(*(objective.reads() for objective in self.objectives()))

    def is_mined(self) -> bool:
        return any(objective.is_mined() for objective in self.objectives())

    def parameter_groups(self, base_lr: float) -> list[dict]:
        """Those of the objectives inside; a subclass adds its networks."""
        groups: list[dict] = []
        for objective in self.objectives():
            groups += objective.parameter_groups(base_lr)
        return groups
