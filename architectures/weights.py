"""timm models with weights from a download, from a file, or none; failures say what to do."""
import difflib
from pathlib import Path

import timm
from torch import nn

from utilities.errors import UserError

# The paper's resnet50 has torchvision's first weights; timm's default tag is a stronger recipe.
PAPER_TAGS = {"resnet50": "resnet50.tv_in1k"}


def require_known(name: str, flag: str) -> None:
    """Raises UserError, with the nearest names, if timm has no model `name`."""
    base = name.split(".")[0]
    if not timm.is_model(base):
        nearest = difflib.get_close_matches(base, timm.list_models(), n=4)
        hint = f" (did you mean {', '.join(nearest)}?)" if nearest else ""
        raise UserError(f"{flag}: timm has no model {name!r}{hint}; timm.list_models() shows all {len(timm.list_models())}.")


def create(name: str, *, pretrained: bool, file: str | None, flag: str, file_flag: str, alternative: str = "", **options) -> nn.Module:
    """timm model `name`.

    Args:
        pretrained: download timm's weights, unless `file` is given.
        flag, file_flag: named in messages: the flag that chose the model, and the one that takes a local file.
        alternative: what else the person can do where nothing can be downloaded.
    Raises:
        UserError: unknown name, foreign file, no network.
    """
    require_known(name, flag)
    tagged = PAPER_TAGS.get(name, name)
    if not pretrained and not file:
        return timm.create_model(tagged, pretrained=False, **options)
    try:
        overlay = {"file": str(Path(file).expanduser())} if file else None
        return timm.create_model(tagged, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except Exception as error:  # timm, safetensors, torch and the hub client each raise types of their own
        reason = " ".join(str(error).split())[:160]
        if file:
            raise UserError(f"{file_flag} {file} does not hold weights of {tagged} ({reason}).") from error
        raise UserError(f"The ImageNet weights of {tagged} could not be downloaded ({type(error).__name__}): fetch "
                        f"timm/{tagged} (model.safetensors) on a machine with network and pass it with {file_flag} FILE{alternative}.") from error
