"""Pretrained ImageNet classifiers, whose outputs are pseudolabels."""

from collections.abc import Callable

import timm
import torch
from PIL import Image
from torch import nn

from architectures import packaged, weights
from utilities.errors import UserError

FLAG, FILE_FLAG = "--language_pseudoclass_arch", "--language_pseudoclass_weights"
SUBSETS = (1000, 11221, 11821, 21841, 21842, 21843)  # sets of ImageNet classes that timm knows


def load_classifier(name: str, file: str | None) -> nn.Module:
    """timm classifier `name` over a set of ImageNet classes, downloaded or from `file`.

    Raises UserError if it cannot be had, or is over other classes.
    """
    classifier_subset(name, file)
    return weights.create(
        name,
        pretrained=True,
        file=file,
        flag=FLAG,
        file_flag=FILE_FLAG,
        num_classes=_classes(name, file) if file else None,
    )


def classifier_subset(name: str, file: str | None) -> str:
    """timm's name of the ImageNet classes that classifier `name` is over.

    The number of classes tells it: that of the published weights, or that of the classifier in
    `file`. Raises UserError for another number.
    """
    weights.require_known(name, FLAG)
    classes = _classes(name, file)
    subset = timm.data.infer_imagenet_subset({"num_classes": classes})
    if subset is None:
        whose = f"{FILE_FLAG} {file}" if file else f"{FLAG} {name}"
        known = f"{', '.join(map(str, SUBSETS[:-1]))} or {SUBSETS[-1]}"
        raise UserError(
            f"{whose} has {classes or 'no'} classes; pseudolabels need a classifier of {known} "
            "classes, whose ImageNet names timm knows."
        )
    return subset


def classifier_identity(name: str) -> str:
    """What timm says of classifier `name`: its preprocessing and where its weights come from.

    Weights of an installed package are told by their checksum. Needs neither weights nor network.
    Raises UserError for a name that timm does not know.
    """
    weights.require_known(name, FLAG)
    config = repr(timm.get_pretrained_cfg(weights.tagged(name)))
    installed = packaged.identity(name)
    return f"{config} {installed}" if installed else config


def classifier_transform(model: nn.Module) -> Callable[[Image.Image], torch.Tensor]:
    """The evaluation transform that the classifier was published with, image -> [3, H, W].

    The paper's code used a crop larger than the image.
    """
    config = timm.data.resolve_model_data_config(model)
    return timm.data.create_transform(**config, is_training=False)


def _classes(name: str, file: str | None) -> int:
    found = weights.outputs_in(file, name, FILE_FLAG) if file else None
    config = timm.get_pretrained_cfg(weights.tagged(name))
    return found or (config.num_classes if config else 0)
