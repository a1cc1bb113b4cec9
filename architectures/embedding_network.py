"""A timm trunk with a linear embedding head, as the paper's `--arch` describes it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import timm
import torch
from torch import nn
from torch.nn.functional import normalize

from architectures import weights
from utilities.types import ModelOutput

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

OPTIONS = ("frozen", "double", "normalize")


class Trunk(Protocol):
    """The nn.Module below the head: what is asked of a timm model without its classifier."""

    num_features: int  # C of the last feature map

    def forward_features(self, images: torch.Tensor, /) -> torch.Tensor:
        """[B, 3, H, W] -> a map [B, C, h, w] or [B, h, w, C], or tokens [B, T, C]."""

    def forward_head(self, tokens: torch.Tensor, /, *, pre_logits: bool) -> torch.Tensor:
        """What `forward_features` gave, pooled: [B, F] where `pre_logits`."""

    def modules(self) -> Iterator[nn.Module]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def requires_grad_(self, requires_grad: bool, /) -> object: ...


class ArchSpec(NamedTuple):
    trunk: str  # timm name
    frozen: bool  # BatchNorm as in evaluation
    double: bool  # max added to average pooling
    normalize: bool  # unit embeddings


def parse_arch(arch: str) -> ArchSpec:
    """`resnet50_frozen_normalize` -> its trunk and options.

    Options come last, in any order, and once: what stands before a repeated one is no trunk.
    """
    parts = arch.split("_")
    options: set[str] = set()
    while len(parts) > 1 and parts[-1] in OPTIONS and parts[-1] not in options:
        options.add(parts.pop())
    return ArchSpec("_".join(parts), *(option in options for option in OPTIONS))


def select(
    arch: str, *, embed_dim: int, image_size: int, pretrained: bool, weights_file: str | None
) -> "EmbeddingNetwork":
    """The network of `--arch`.

    Raises UserError for an unknown trunk, a foreign weights file, or no network.
    """
    spec = parse_arch(arch)
    require_known(arch)
    trunk = weights.create(
        spec.trunk,
        pretrained=pretrained,
        file=weights_file,
        flag="--arch",
        file_flag="--arch_weights",
        alternative=", or start from random weights with --not_pretrained",
        num_classes=0,
        **weights.size_option(spec.trunk, image_size),
    )
    return EmbeddingNetwork(
        cast(Trunk, trunk),  # torch knows an attribute of a Module as Tensor or Module only
        embed_dim,
        frozen=spec.frozen,
        double=spec.double,
        unit_norm=spec.normalize,
    )


def require_known(arch: str) -> None:
    """Raises UserError if timm does not know the trunk of `--arch`."""
    weights.require_known(parse_arch(arch).trunk, "--arch")


class EmbeddingNetwork(nn.Module):
    """images [B, 3, H, W] -> ModelOutput.

    Args:
        trunk: timm model without classifier (`num_classes=0`), convolutional or a vision
            transformer.
        embed_dim: D of the embeddings.
        frozen: keep BatchNorm in evaluation mode, so that neither its statistics move nor the batch
            enters them. Its scale and shift still learn, as in the paper.
        double: add max pooling to the trunk's own pooling.
        unit_norm: L2-normalise the embeddings.
    """

    def __init__(
        self,
        trunk: Trunk,
        embed_dim: int,
        *,
        frozen: bool = False,
        double: bool = False,
        unit_norm: bool = False,
    ):
        super().__init__()
        self.trunk = trunk
        self.frozen, self.adds_max_pooling, self.unit_norm = frozen, double, unit_norm
        # Trunks whose head begins with layers of its own give features of another width.
        self.feature_dim: int = getattr(trunk, "head_hidden_size", trunk.num_features)
        self.head = nn.Linear(self.feature_dim, embed_dim)
        config = timm.data.resolve_model_data_config(trunk)
        self.mean, self.std = config["mean"], config["std"]
        self.train(self.training)

    def train(self, mode: bool = True) -> "EmbeddingNetwork":
        super().train(mode)
        if self.frozen:
            for module in self.batch_norms():
                module.eval()
        return self

    def batch_norms(self) -> list[nn.Module]:
        """The BatchNorm layers of the trunk, which `_frozen` is about."""
        kind = nn.modules.batchnorm._BatchNorm
        return [module for module in self.trunk.modules() if isinstance(module, kind)]

    def synchronise_norms(self, processes: "ProcessGroup | None") -> None:
        """The trunk's BatchNorms normalise by the images of all processes, which have GPUs.

        Their weights, and the names of these, stay.
        """
        self.trunk = timm.layers.convert_sync_batchnorm(self.trunk, processes)

    def train_trunk(self, enabled: bool) -> None:
        """Warm-up: with False only the head learns."""
        self.trunk.requires_grad_(enabled)

    def parameter_groups(self, lr: float, head_lr: float) -> list[dict]:
        """Optimizer groups of trunk and head."""
        return [
            {"params": list(self.trunk.parameters()), "lr": lr},
            {"params": list(self.head.parameters()), "lr": head_lr},
        ]

    def forward(self, images: torch.Tensor) -> ModelOutput:
        tokens = self.trunk.forward_features(images)
        feature_map = self._as_map(tokens)
        features = self.trunk.forward_head(tokens, pre_logits=True)
        if self.adds_max_pooling:
            features = features + self._max_pooled(tokens, feature_map)
        embeddings = self.head(features)
        if self.unit_norm:  # in fp32: half precision loses the unit norm
            embeddings = normalize(embeddings.float(), dim=-1)
        return ModelOutput(embeddings, features, feature_map)

    def _as_map(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] of what the trunk gives.

        That is a map, a channels-last map, or prefix and patch tokens [B, T, C].
        """
        if tokens.ndim == 4:
            width = self.trunk.num_features
            channels_last = tokens.shape[1] != width and tokens.shape[-1] == width
            return tokens.permute(0, 3, 1, 2) if channels_last else tokens
        patches = tokens[:, getattr(self.trunk, "num_prefix_tokens", 0) :].transpose(1, 2)
        side = int(patches.shape[-1] ** 0.5)
        if side * side == patches.shape[-1]:
            return patches.unflatten(-1, (side, -1))
        return patches.unsqueeze(-1)

    def _max_pooled(self, tokens: torch.Tensor, feature_map: torch.Tensor) -> torch.Tensor:
        if tokens.ndim == 3:
            return feature_map.amax((-2, -1))
        # A 1 x 1 map passes any pooling unchanged, and with it whatever the trunk has between
        # pooling and classifier.
        pooled = feature_map.amax((-2, -1), keepdim=True)
        if feature_map is not tokens:
            pooled = pooled.permute(0, 2, 3, 1)
        return self.trunk.forward_head(pooled, pre_logits=True)
