"""Image towers of open_clip's models as trunks: CLIP, SigLIP and what else it has by name.

Features are what the tower pools, or, projected, the vectors that it compares with texts.
"""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

from architectures import weights
from utilities import open_clip_models
from utilities.errors import UserError
from utilities.open_clip_models import CONFIGURATION, OpenClip
from utilities.paths import expanded

LOG = logging.getLogger(__name__)
KIND = "clip:"
FILES = (".pt", ".pth", ".bin", ".safetensors", ".tar", ".ckpt")  # with weights and nothing else
POSITIONS = "tower.positional_embedding"
FLAGS = {"flag": "--arch", "file_flag": "--arch_weights"}


def require_known(name: str) -> None:
    """Raises UserError for a model of `clip:<model>[/...]` that open_clip does not know."""
    open_clip_models.require_model(_named(name, None))


def create(
    name: str, *, image_size: int, projected: bool, pretrained: bool, file: str | None
) -> nn.Module:
    """The trunk of `clip:<model>/<tag or file>` or `clip:hf-hub:<repository>`.

    Args:
        image_size: to which learned positions are interpolated, where the tower can do that.
        pretrained: with weights. file: these instead, or a folder with an open_clip_config.json.
    Raises:
        UserError: a model, weights or a projection that there is not, a size that the tower cannot
            take.
    """
    wanted = _named(name, file)
    _require_folder(wanted, name)
    open_clip_models.require_model(wanted)
    if pretrained or file:
        wanted = open_clip_models.source(name.removeprefix(KIND), file, **FLAGS)
        _require_activation(wanted, name)
    seen_by = open_clip_models.vision_configuration(wanted)
    trained_at = seen_by.get("image_size", 224)
    is_resnet = isinstance(seen_by.get("layers"), list)
    if is_resnet and projected and image_size != trained_at:
        raise UserError(
            f"--arch {name}_projected: its pooling knows images of {trained_at} pixels only, not "
            f"of {image_size}; give --image_size {trained_at}, or leave _projected out."
        )
    if image_size != trained_at and not is_resnet:
        message = "--arch %s was trained at %s pixels; it takes positions for %d by interpolation."
        LOG.info(message, name, trained_at, image_size)
    is_of_run = file is not None and Path(expanded(file)).is_file() and weights.is_of_run(file)
    tower = open_clip_models.image_tower(
        wanted,
        None if is_resnet else image_size,
        with_weights=bool(pretrained or file) and not is_of_run,
    )
    if file and wanted.is_folder:
        _require_seen_alike(tower, wanted, name)
    trunk = _as_trunk(tower, name, projected=projected)
    if file and is_of_run:
        weights.load_file(trunk, file, name, FLAGS["file_flag"])
    seen = tower.preprocess_cfg
    trunk.pretrained_cfg = {  # where timm looks for it
        "input_size": (3, image_size, image_size),
        "interpolation": seen["interpolation"],
        "mean": tuple(seen["mean"]),
        "std": tuple(seen["std"]),
    }
    return trunk


def checkpoint_filter_fn(
    state: dict[str, torch.Tensor], model: nn.Module
) -> dict[str, torch.Tensor]:
    """What a run kept, as its tower takes it: `weights.load_file` asks for it as for timm's.

    A layer that had adapters has names of its own; positions are fitted to the size of images.
    """
    names = {"attn.qkv.": "attn.in_proj_", "attn.proj.": "attn.out_proj."}
    fitted = {}
    for name, tensor in state.items():
        for adapted, plain in names.items():
            name = name.replace(adapted, plain)
        fitted[name] = tensor
    positions = fitted.get(POSITIONS)
    if isinstance(model, TransformerTower) and positions is not None:
        grid = list(model.tower.grid_size)
        resized = resample_abs_pos_embed(positions[None], new_size=grid, num_prefix_tokens=1)
        fitted[POSITIONS] = resized[0]
    return fitted


class TransformerTower(nn.Module):
    """open_clip's VisionTransformer: images [B, 3, H, W] -> a class token and patches [B, T, C]."""

    num_prefix_tokens = 1
    last_weights = ("tower.proj",)  # which torch names first, as they are of no module below

    def __init__(self, tower: Any, *, projected: bool):
        super().__init__()
        # Pooling by attention, or by what is normalised later, sees the tokens as they are.
        self.norms_tokens = tower.attn_pool is None and not tower.final_ln_after_pool
        self.num_features: int = tower.conv1.out_channels
        pooled: int = self.num_features if tower.attn_pool is None else tower.output_dim
        if not projected:
            tower.proj = None
        self.head_hidden_size: int = tower.output_dim if projected else pooled
        self.tower = tower

    def token_grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the patches of an image."""
        patch_height, patch_width = self.tower.patch_size
        return height // patch_height, width // patch_width

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, T, C]."""
        tokens = self.tower.transformer(self.tower._embeds(images))
        return self.tower.ln_post(tokens) if self.norms_tokens else tokens

    def forward_head(self, tokens: torch.Tensor, *, pre_logits: bool = True) -> torch.Tensor:
        """Pooled, and projected where that was asked for, [B, F]."""
        pool = self.tower._global_pool if self.norms_tokens else self.tower._pool
        pooled = pool(tokens)[0]
        return pooled if self.tower.proj is None else pooled @ self.tower.proj

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Which parameters are of which depth, as timm's models say it."""
        last = (r"^tower\.(?:ln_post|proj|attn_pool)", (99_999,))
        return {
            "stem": r"^tower\.(?:conv1|class_embedding|positional_embedding|ln_pre)",
            "blocks": [(r"^tower\.transformer\.resblocks\.(\d+)", None), last],
        }


class ResNetTower(nn.Module):
    """open_clip's ModifiedResNet: images [B, 3, H, W] -> a map [B, C, H / 32, W / 32].

    Without the projection, which is the end of its pooling by attention, the mean is taken.
    """

    def __init__(self, tower: Any, *, projected: bool):
        super().__init__()
        self.num_features: int = tower.attnpool.k_proj.in_features
        self.head_hidden_size: int = tower.output_dim if projected else self.num_features
        if not projected:
            tower.attnpool = None
        self.tower = tower

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, C, h, w]."""
        x = self.tower.stem(images)
        for layer in (self.tower.layer1, self.tower.layer2, self.tower.layer3, self.tower.layer4):
            x = layer(x)
        return x

    def forward_head(self, feature_map: torch.Tensor, *, pre_logits: bool = True) -> torch.Tensor:
        """Pooled, [B, F]."""
        if self.tower.attnpool is None:
            return feature_map.mean((-2, -1))
        return self.tower.attnpool(feature_map)

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Which parameters are of which depth, as timm's models say it."""
        last = (r"^tower\.attnpool", (99_999,))
        blocks = r"^tower\.layer(\d+)" if coarse else r"^tower\.layer(\d+)\.(\d+)"
        return {"stem": r"^tower\.(?:conv|bn)\d", "blocks": [(blocks, None), last]}


class ProjectedTimm(nn.Module):
    """A tower that is a model of timm, through open_clip's projection."""

    def __init__(self, tower: Any, width: int):
        super().__init__()
        self.trunk, self.projection = tower.trunk, tower.head
        self.num_features: int = tower.trunk.num_features
        self.num_prefix_tokens: int = getattr(tower.trunk, "num_prefix_tokens", 0)
        self.head_hidden_size = width

    @property
    def patch_embed(self) -> nn.Module | None:
        """What makes tokens of patches, if anything does."""
        return getattr(self.trunk, "patch_embed", None)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """As the model of timm."""
        return self.trunk.forward_features(images)

    def forward_head(self, tokens: torch.Tensor, *, pre_logits: bool = True) -> torch.Tensor:
        """Projected, [B, F]."""
        return self.projection(self.trunk.forward_head(tokens))


def _named(name: str, file: str | None) -> OpenClip:
    return open_clip_models.named(name.removeprefix(KIND), file, **FLAGS)


def _require_activation(wanted: OpenClip, name: str) -> None:
    """Raises UserError for an archive of OpenAI under the name of a model with another activation.

    The name says the activation, because the trunk is built again where the archive is gone; with a
    tag it is the tag that does.
    """
    fitting = open_clip_models.with_activation(wanted)
    if not wanted.tag and fitting.arch != wanted.arch:
        right = name.replace(wanted.arch, fitting.arch, 1)
        raise UserError(
            f"--arch {name}: {wanted.weights} is an archive of OpenAI, which was trained with "
            f"QuickGELU; write --arch {right}."
        )


def _require_folder(wanted: OpenClip, name: str) -> None:
    """Raises UserError where a folder of the name is gone, which says how images are seen.

    A file that is gone says nothing but weights, which a checkpoint has.
    """
    place = wanted.tag or ""
    if os.sep in place and not wanted.weights and not place.endswith(FILES):
        raise UserError(
            f"--arch {name}: there is no folder {expanded(place)}, whose "
            f"{CONFIGURATION} says what the trunk is and how it sees images."
        )


def _require_seen_alike(tower: Any, wanted: OpenClip, name: str) -> None:
    """Raises UserError for a folder of `--arch_weights` that says otherwise than the name.

    The trunk is built again by the name alone, where a checkpoint brings the weights.
    """
    by_name = _named(name, None)
    again = open_clip_models.image_tower(by_name, None, with_weights=False).preprocess_cfg
    other = [
        part for part in ("mean", "std") if tuple(again[part]) != tuple(tower.preprocess_cfg[part])
    ]
    if open_clip_models.is_quick(wanted) != open_clip_models.is_quick(by_name):
        other.append("activation")
    if other:
        raise UserError(
            f"--arch_weights {wanted.weights} has another {' and '.join(other)} than "
            f"--arch {name}; write --arch {KIND}{by_name.arch}/{wanted.weights} without "
            "--arch_weights."
        )


def _as_trunk(tower: Any, name: str, *, projected: bool) -> Any:
    """Raises UserError where there is no projection, or nothing pools."""
    if hasattr(tower, "trunk"):
        return _of_timm(tower, name, projected=projected)
    if hasattr(tower, "attnpool"):
        return ResNetTower(tower, projected=projected)
    if tower.pool_type == "none" and tower.attn_pool is None:
        raise UserError(f"--arch {name}: this tower pools nothing; take another.")
    return TransformerTower(tower, projected=projected)


def _of_timm(tower: Any, name: str, *, projected: bool) -> Any:
    outputs = getattr(tower.trunk, "num_classes", 0)  # a classifier that serves as projection
    if not projected:
        if len(tower.head) and not hasattr(tower.head, "proj") and not hasattr(tower.head, "mlp"):
            raise UserError(
                f"--arch {name}: its pooling is one with its projection; write {name}_projected."
            )
        tower.trunk.reset_classifier(0)
        return tower.trunk
    if not outputs and not len(tower.head):
        raise UserError(f"--arch {name}_projected: this tower has no projection; leave it out.")
    last = [part for part in tower.modules() if isinstance(part, nn.Linear)][-1]
    return ProjectedTimm(tower, outputs or last.out_features)
