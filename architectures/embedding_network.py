"""A trunk with a linear embedding head, as the paper's `--arch` describes it."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

import timm
import torch
from timm.layers import PatchEmbed
from torch import nn
from torch.nn.functional import normalize

from architectures import clip_tower, folded_norms, low_rank, stages, trunks
from architectures.low_rank import LowRank
from architectures.trunks import Trunk
from architectures.weights import FOLDER
from utilities.errors import UserError, of_memory, reason
from utilities.types import ModelOutput

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

OPTIONS = ("frozen", "double", "normalize", "projected")


class ArchSpec(NamedTuple):
    trunk: str  # timm's name, or another of `trunks`
    frozen: bool  # BatchNorm as in evaluation
    double: bool  # max added to average pooling
    normalize: bool  # unit embeddings
    projected: bool = False  # features behind the projection of a tower of open_clip


def parse_arch(arch: str) -> ArchSpec:
    """`resnet50_frozen_normalize` -> its trunk and options.

    Options come last, in any order, and once: what stands before a repeated one is no trunk.
    """
    parts = arch.split("_")
    options: set[str] = set()
    while len(parts) > 1 and parts[-1] in OPTIONS and parts[-1] not in options:
        options.add(parts.pop())
    return ArchSpec("_".join(parts), *(option in options for option in OPTIONS))


def may_be_moved(arch: str, other: str) -> bool:
    """Whether two values of `--arch` may be of one trunk whose folder lies elsewhere by now."""
    here, there = map(parse_arch, (arch, other))
    are_folders = here.trunk.startswith(FOLDER) and there.trunk.startswith(FOLDER)
    return are_folders and here._replace(trunk=there.trunk) == there


def select(
    arch: str,
    *,
    embed_dim: int,
    image_size: int,
    pretrained: bool,
    weights_file: str | None,
    adapters: LowRank | None = None,
) -> "EmbeddingNetwork":
    """The network of `--arch`; with adapters nothing else of its trunk learns.

    It has seen an image of its size once, in evaluation.

    Raises UserError for an unknown trunk, a foreign weights file, no network, or a trunk that gives
    no features of such images.
    """
    spec = parse_arch(arch)
    with _failures_told(arch, image_size):
        trunk = trunks.create(
            spec.trunk,
            image_size=image_size,
            projected=spec.projected,
            pretrained=pretrained,
            file=weights_file,
        )
        if spec.double and (spec.projected or _pools_to_another_width(trunk)):
            raise UserError(
                f"--arch {arch}: features that are projected, or of another width than the map, "
                "have no maximum beside them; leave _double out."
            )
        if adapters:
            low_rank.insert(trunk, adapters, arch, image_size)
        network = EmbeddingNetwork(
            trunk,
            embed_dim,
            frozen=spec.frozen,
            double=spec.double,
            unit_norm=spec.normalize,
            adapted=adapters is not None,
        )
        with torch.no_grad():
            network.eval().pass_first(torch.zeros(1, 3, image_size, image_size))
    return network.train()


@contextmanager
def _failures_told(arch: str, image_size: int) -> Iterator[None]:
    """A UserError in the place of whatever a trunk raises that is no trunk, or not at this size."""
    try:
        yield
    except Exception as error:  # timm's models raise many types
        if isinstance(error, UserError | OSError) or of_memory(error):
            raise
        raise UserError(
            f"--arch {arch} gives no features of images of {image_size} pixels "
            f"({reason(error) or type(error).__name__}); take another --image_size or another "
            "trunk."
        ) from error


def require_known(arch: str) -> None:
    """Raises UserError for a trunk of `--arch` that there is not, and for a misspelt option."""
    trunk = parse_arch(arch).trunk
    try:
        trunks.require_known(trunk)
    except UserError:
        last = trunk.rpartition("_")[2]
        close = difflib.get_close_matches(last, OPTIONS, n=1, cutoff=0.8)
        if not close or last in OPTIONS:
            raise
        raise UserError(f"--arch {arch}: did you mean _{close[0]} by _{last}?") from None


def _pools_to_another_width(trunk: Trunk) -> bool:
    """Whether a tower of open_clip does; timm's heads take the maximum through their layers."""
    kinds = (clip_tower.TransformerTower, clip_tower.ResNetTower, clip_tower.ProjectedTimm)
    return isinstance(trunk, kinds) and trunk.head_hidden_size != trunk.num_features


class EmbeddingNetwork(nn.Module):
    """images [B, 3, H, W] -> ModelOutput.

    Args:
        trunk: timm model without classifier (`num_classes=0`), convolutional or a vision
            transformer.
        embed_dim: D of the embeddings.
        frozen: keep BatchNorm in evaluation mode, so that neither its statistics move nor the batch
            enters them. Its scale and shift still learn, as in the paper.
        double: add max pooling to the trunk's own pooling. Layers that a trunk has before its
            pooling (VGG, `efficientvit_b0`) see the maximum of the map, not the map. What
            normalises pooled features normalises the maximum, too.
        unit_norm: L2-normalise the embeddings.
        adapted: of the trunk only low-rank adapters learn; BatchNorm is in evaluation mode.
    """

    def __init__(
        self,
        trunk: Trunk,
        embed_dim: int,
        *,
        frozen: bool = False,
        double: bool = False,
        unit_norm: bool = False,
        adapted: bool = False,
    ):
        super().__init__()
        self.trunk, self.adapted = trunk, adapted
        self.frozen, self.adds_max_pooling, self.unit_norm = frozen, double, unit_norm
        # Trunks whose head begins with layers of its own give features of another width.
        self.feature_dim: int = getattr(trunk, "head_hidden_size", trunk.num_features)
        self.head = nn.Linear(self.feature_dim, embed_dim)
        self.prefix_tokens = _prefix_tokens(trunk)
        config = timm.data.resolve_model_data_config(trunk)
        self.mean, self.std = config["mean"], config["std"]
        self.fixed: frozenset[str] = frozenset()  # what of the trunk never learns, by name
        self.order: list[str] = []  # of the trunk's modules, as an image passes them
        self.folded: list[folded_norms.Pair] = []
        self.train(self.training)

    def train(self, mode: bool = True) -> "EmbeddingNetwork":
        super().train(mode)
        if self.frozen or self.adapted:
            for module in self.batch_norms():
                module.eval()
        for name, module in self.trunk.named_modules() if self.fixed else ():
            if name in self.fixed:
                module.eval()
        return self

    def batch_norms(self) -> list[nn.Module]:
        """The BatchNorm layers of the trunk, which `_frozen` is about."""
        kind = nn.modules.batchnorm._BatchNorm
        return [module for module in self.trunk.modules() if isinstance(module, kind)]

    def fold_norms(self, image_size: int) -> None:
        """Frozen BatchNorms become part of the convolutions before them, where they can.

        The function stays, and so do the weights and their names.
        """
        if self.frozen and self.batch_norms():
            self.folded = folded_norms.fold(self, torch.zeros(1, 3, image_size, image_size))

    def synchronise_norms(self, processes: "ProcessGroup | None") -> None:
        """The trunk's BatchNorms normalise by the images of all processes, which have GPUs.

        Their weights, and the names of these, stay.
        """
        self.trunk = timm.layers.convert_sync_batchnorm(self.trunk, processes)

    def train_trunk(self, enabled: bool) -> None:
        """Warm-up: with False only the head learns."""
        for name, weights in self.trunk.named_parameters():
            is_learned = not self.adapted or low_rank.is_adapter(name)
            weights.requires_grad_(enabled and is_learned and name not in self.fixed)

    def freeze_until(self, stage: str) -> None:
        """The trunk before a stage never learns, and its BatchNorms are as in evaluation.

        Raises UserError, with all stages, for a stage that there is not.
        """
        self.fixed = stages.before(cast(nn.Module, self.trunk), stage, self.order)
        self.train_trunk(True)
        self.train(self.training)

    def learned_of_trunk(self) -> list[nn.Parameter]:
        """All weights of the trunk, or those of its adapters alone."""
        return low_rank.learned(self.trunk) if self.adapted else list(self.trunk.parameters())

    def merge_adapters(self) -> None:
        """The same function as a trunk without adapters, all of which learns."""
        if self.adapted:
            low_rank.merge(self.trunk)
            self.trunk.requires_grad_(True)
        self.adapted = False

    def parameter_groups(self, lr: float, head_lr: float, layer_decay: float = 1.0) -> list[dict]:
        """Optimizer groups of trunk and head.

        With a `layer_decay` below 1 there is a group for each layer of the trunk.
        """
        trunk = "trunk's adapters" if self.adapted else "trunk"
        learned = self.learned_of_trunk()
        groups = [{"params": learned, "lr": lr, "name": trunk}]
        if layer_decay < 1:
            groups = stages.layer_groups(cast(nn.Module, self.trunk), learned, lr, layer_decay)
            for number, group in enumerate(groups, start=1):
                group["name"] = f"{trunk} layer {number} of {len(groups)}"
        return [*groups, {"params": list(self.head.parameters()), "lr": head_lr, "name": "head"}]

    def pass_first(self, images: torch.Tensor) -> None:
        """See by them whether the trunk takes such images, and in which order they pass it."""
        self.order = stages.passed(cast(nn.Module, self.trunk), partial(self, images))

    def forward(self, images: torch.Tensor) -> ModelOutput:
        with folded_norms.applied(self.folded) if self.folded else nullcontext():
            return self._output(images)

    def _output(self, images: torch.Tensor) -> ModelOutput:
        tokens = self.trunk.forward_features(images)
        feature_map = self._as_map(tokens, images.shape[-2:])
        features = self.trunk.forward_head(tokens, pre_logits=True)
        if self.adds_max_pooling:
            features = features + self._max_pooled(tokens, feature_map)
        embeddings = self.head(features)
        if self.unit_norm:  # in fp32: half precision loses the unit norm
            embeddings = normalize(embeddings.float(), dim=-1)
        return ModelOutput(embeddings, features, feature_map)

    def _as_map(self, tokens: torch.Tensor, image: Sequence[int]) -> torch.Tensor:
        """[B, C, h, w] of what the trunk gives for images of a height and width.

        That is a map, a channels-last map, or prefix and patch tokens [B, T, C].
        """
        if tokens.ndim == 4:
            width = self.trunk.num_features
            channels_last = tokens.shape[1] != width and tokens.shape[-1] == width
            return tokens.permute(0, 3, 1, 2) if channels_last else tokens
        has_patches = tokens.shape[1] > self.prefix_tokens  # PiT gives its class token alone
        patches = tokens[:, self.prefix_tokens if has_patches else 0 :].transpose(1, 2)
        return patches.unflatten(-1, self._token_grid(patches.shape[-1], image))

    def _token_grid(self, count: int, image: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of patches: as the trunk says, of a square, or one column."""
        patches = getattr(self.trunk, "patch_embed", None)
        rows = columns = 0
        if isinstance(self.trunk, clip_tower.TransformerTower):
            rows, columns = self.trunk.token_grid(*image)
        elif isinstance(patches, PatchEmbed):
            rows, columns = patches.dynamic_feat_size((image[0], image[1]))
        return (rows, columns) if rows * columns == count else _near_square(count)

    def _max_pooled(self, tokens: torch.Tensor, feature_map: torch.Tensor) -> torch.Tensor:
        if tokens.ndim == 3:
            return _norm_of_pooled(self.trunk)(feature_map.amax((-2, -1)))
        # A 1 x 1 map passes any pooling unchanged, and with it whatever the trunk has between
        # pooling and classifier.
        pooled = feature_map.amax((-2, -1), keepdim=True)
        if feature_map is not tokens:
            pooled = pooled.permute(0, 2, 3, 1)
        return self.trunk.forward_head(pooled, pre_logits=True)


def _prefix_tokens(trunk: Trunk) -> int:
    """How many tokens stand before those of the patches; VOLO and CoaT of timm do not say it."""
    has_class_token = any(name.startswith("cls_token") for name, _ in trunk.named_parameters())
    return getattr(trunk, "num_prefix_tokens", int(has_class_token))


def _norm_of_pooled(trunk: Trunk) -> Callable[[torch.Tensor], torch.Tensor]:
    """What normalises the pooled tokens, where the tokens themselves are as the last block gave."""
    if isinstance(trunk, clip_tower.TransformerTower):
        return nn.Identity() if trunk.norms_tokens else trunk.tower.ln_post
    of_head = getattr(getattr(trunk, "head", None), "norm", None)  # Hiera
    return getattr(trunk, "fc_norm", None) or of_head or nn.Identity()


def _near_square(count: int) -> tuple[int, int]:
    side = int(count**0.5)
    return (side, side) if side * side == count else (count, 1)
