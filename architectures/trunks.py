"""Trunks by name: timm's, towers of open_clip, and two that neither has."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import torch
from timm.layers import PatchEmbed
from torch import nn

from architectures import bn_inception, clip_tower, googlenet, weights
from utilities.errors import UserError, reason
from utilities.hub import answers

FLAG, FILE_FLAG = "--arch", "--arch_weights"


class Trunk(Protocol):
    """The nn.Module below the head: what is asked of a timm model without its classifier."""

    num_features: int  # C of the last feature map

    def forward_features(self, images: torch.Tensor, /) -> torch.Tensor:
        """[B, 3, H, W] -> a map [B, C, h, w] or [B, h, w, C], or tokens [B, T, C]."""

    def forward_head(self, tokens: torch.Tensor, /, *, pre_logits: bool) -> torch.Tensor:
        """What `forward_features` gave, pooled: [B, F] where `pre_logits`."""

    def modules(self) -> Iterator[nn.Module]: ...

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def requires_grad_(self, requires_grad: bool, /) -> object: ...


class Own(NamedTuple):
    """A trunk that timm does not have.

    Attributes:
        build: with random weights. address: of its published weights; the end of the file's name
            is the beginning of its sha256. downloads: whether they are fetched from there.
    """

    build: Callable[[], nn.Module]
    address: str
    downloads: bool


OWN = {
    "bninception": Own(bn_inception.BNInception, bn_inception.ADDRESS, downloads=False),
    "googlenet": Own(googlenet.GoogLeNet, googlenet.ADDRESS, downloads=True),
}


def require_known(name: str) -> None:
    """Raises UserError for a trunk that there is not."""
    if name.startswith(clip_tower.KIND):
        clip_tower.require_known(name)
    elif name not in OWN and not name.startswith(weights.SOURCES):
        weights.require_known(name, FLAG, beside=tuple(OWN))


def create(
    name: str, *, image_size: int, projected: bool, pretrained: bool, file: str | None
) -> Trunk:
    """The trunk `name`, for images of a size.

    Args:
        projected: through the projection of a tower of open_clip. pretrained: with its published
            weights. file: these weights instead.
    Raises:
        UserError: an unknown trunk, weights that cannot be had, a size that it cannot take.
    """
    require_known(name)
    if name.startswith(clip_tower.KIND):
        trunk = clip_tower.create(
            name, image_size=image_size, projected=projected, pretrained=pretrained, file=file
        )
    elif projected:
        raise UserError(
            f"{FLAG} {name}_projected: only the towers of {clip_tower.KIND}<model>/<weights> have "
            "a projection; leave _projected out."
        )
    elif name in OWN:
        trunk = _own(name, pretrained=pretrained, file=file)
    else:
        trunk = weights.create(
            name,
            pretrained=pretrained,
            file=file,
            flag=FLAG,
            file_flag=FILE_FLAG,
            alternative=", or start from random weights with --not_pretrained",
            num_classes=0,
            **weights.size_option(name, image_size),
        )
    _require_whole_patches(trunk, name, image_size)
    return cast(Trunk, trunk)  # torch knows an attribute of a Module as Tensor or Module only


def _own(name: str, *, pretrained: bool, file: str | None) -> nn.Module:
    own = OWN[name]
    trunk = own.build()
    if pretrained and not file:
        file = str(_published(name, own))
    if file:
        weights.load_file(trunk, file, name, FILE_FLAG)
    return trunk


def _published(name: str, own: Own) -> Path:
    """The file of the published weights, in torch's own cache; raises UserError for none."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / own.address.rpartition("/")[2]
    if file.is_file():
        return file
    try:
        if not own.downloads or not answers(own.address):
            raise OSError("no download from here")
        file.parent.mkdir(parents=True, exist_ok=True)
        beginning = file.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(own.address, str(file), beginning, progress=False)
    except (OSError, RuntimeError) as error:  # of a connection, of a checksum
        raise UserError(
            f"The ImageNet weights of {name} are not here ({reason(error)}): fetch {own.address} "
            f"and pass the file with {FILE_FLAG} FILE, or start from random weights with "
            "--not_pretrained."
        ) from error
    return file


def _require_whole_patches(trunk: nn.Module, name: str, image_size: int) -> None:
    """Raises UserError for images that a transformer would cut to whole patches, unsaid."""
    patches = getattr(trunk, "patch_embed", None)
    if isinstance(patches, PatchEmbed):
        if patches.dynamic_img_pad:
            return
        side = max(patches.patch_size)
    elif isinstance(trunk, clip_tower.TransformerTower):
        side = max(trunk.tower.patch_size)
    else:
        return
    if image_size % side:
        below = image_size // side * side
        sizes = f"{below} or {below + side}" if below else str(side)
        raise UserError(
            f"{FLAG} {name} sees patches of {side} pixels, and images of {image_size} are no whole "
            f"number of them; the nearest --image_size: {sizes} (--augmentation big enlarges it "
            "by 8/7)."
        )
