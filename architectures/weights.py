"""timm models with weights from a download, from a file, or none; failures say what to do."""

import difflib
import sys
from pathlib import Path
from typing import Any

import timm
from torch import nn

from utilities.errors import UserError, reason

# The paper's resnet50 has torchvision's first weights; timm's default tag is a stronger recipe.
PAPER_TAGS = {"resnet50": "resnet50.tv_in1k"}


def require_known(name: str, flag: str) -> None:
    """Raises UserError, with the nearest names, if timm has no model `name`."""
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        nearest = difflib.get_close_matches(base, timm.list_models(), n=4)
        hint = f" (did you mean {', '.join(nearest)}?)" if nearest else ""
        raise UserError(
            f"{flag}: timm has no model {name!r}{hint}; "
            f"timm.list_models() shows all {len(timm.list_models())}."
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise UserError(
            f"{flag}: timm has no weights {tag!r} of {base}; it has: {', '.join(tags) or 'none'}."
        )


def create(
    name: str,
    *,
    pretrained: bool,
    file: str | None,
    flag: str,
    file_flag: str,
    alternative: str = "",
    **options: Any,
) -> nn.Module:
    """timm model `name`.

    Args:
        pretrained: download timm's weights, unless `file` is given.
        flag, file_flag: named in messages: the flag that chose the model, and the one that takes a
            local file.
        alternative: what else the person can do where nothing can be downloaded. options: of
            timm's constructor.
    Raises:
        UserError: unknown name, foreign file, no network.
    """
    require_known(name, flag)
    tagged = PAPER_TAGS.get(name, name)
    if file or not pretrained:
        model = timm.create_model(tagged, pretrained=False, **options)
        if file:
            _load(model, file, tagged, file_flag)
        return model
    try:
        return timm.create_model(tagged, pretrained=True, **options)
    except Exception as error:  # timm and the hub client each raise types of their own
        raise UserError(
            f"The ImageNet weights of {tagged} could not be downloaded ({type(error).__name__}): "
            f"fetch timm/{tagged} (model.safetensors) on a machine with network "
            f"and pass it with {file_flag} FILE{alternative}."
        ) from error


def _load(model: nn.Module, file: str, name: str, file_flag: str) -> None:
    """All weights of the model from a file, which may hold more: the classifier of a trunk.

    Raises UserError if any is missing.
    """
    # The filter of the model's own module fits old key names, and positions of a ViT to its image
    # size.
    fit = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        path = str(Path(file).expanduser())
        loaded = timm.models.load_checkpoint(model, path, strict=False, filter_fn=fit)
    except Exception as error:  # timm, safetensors and torch each raise types of their own
        raise UserError(
            f"{file_flag} {file} does not hold weights of {name} ({reason(error)})."
        ) from error
    if missing := loaded.missing_keys:
        raise UserError(
            f"{file_flag} {file} does not hold weights of {name} "
            f"({len(missing)} are missing, the first {missing[0]})."
        )
