"""Pretrained ImageNet classifiers, whose outputs are pseudolabels."""

from collections.abc import Callable

import timm
import torch
from PIL import Image
from torch import nn

from architectures import packaged, weights
from utilities.errors import UserError

IMAGENET_CLASSES = 1000


def load_classifier(name: str, file: str | None) -> nn.Module:
    """timm classifier `name` over the 1000 ImageNet classes, downloaded or from `file`.

    Raises UserError if it cannot be had.
    """
    model = weights.create(
        name,
        pretrained=True,
        file=file,
        flag="--language_pseudoclass_arch",
        file_flag="--language_pseudoclass_weights",
    )
    if model.num_classes != IMAGENET_CLASSES:
        raise UserError(
            f"--language_pseudoclass_arch {name} knows {model.num_classes} classes; "
            f"pseudolabels need one of the {IMAGENET_CLASSES} ImageNet classes."
        )
    return model


def classifier_identity(name: str) -> str:
    """What timm says of classifier `name`: its preprocessing and where its weights come from.

    Weights of an installed package are told by their checksum. Needs neither weights nor network.
    Raises UserError for a name that timm does not know.
    """
    weights.require_known(name, "--language_pseudoclass_arch")
    config = repr(timm.get_pretrained_cfg(weights.tagged(name)))
    installed = packaged.identity(name)
    return f"{config} {installed}" if installed else config


def classifier_transform(model: nn.Module) -> Callable[[Image.Image], torch.Tensor]:
    """The evaluation transform that the classifier was published with, image -> [3, H, W].

    The paper's code used a crop larger than the image.
    """
    config = timm.data.resolve_model_data_config(model)
    return timm.data.create_transform(**config, is_training=False)
