"""The parts of a trunk in the order in which an image passes them: its layers and its stages."""

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from utilities.errors import UserError
from utilities.flags import nearest


def layer_groups(trunk: nn.Module, lr: float, decay: float) -> list[dict]:
    """Groups of an optimiser, one for each layer that timm knows of the trunk, the first one first.

    The last has the rate `lr`, each other `decay` times that of the next (Clark et al., ICLR 2020).
    Raises UserError for a trunk whose layers timm does not know.
    """
    matcher = getattr(trunk, "group_matcher", None)
    if matcher is None:
        raise UserError(
            f"--layer_decay: timm does not know the layers of {type(trunk).__name__}; leave the "
            "flag out, or take another trunk."
        )
    layers = group_parameters(trunk, matcher(coarse=False), reverse=True)
    parts: dict[int, list[nn.Parameter]] = {}
    for name, parameter in trunk.named_parameters():
        parts.setdefault(layers[name], []).append(parameter)
    last = len(parts) - 1
    return [
        {"params": parts[layer], "lr": lr * decay ** (last - number)}
        for number, layer in enumerate(sorted(parts))
    ]


def names(trunk: nn.Module) -> list[str]:
    """The stages of a trunk: its modules with weights, and the members of those that are lists."""
    found = []
    for name, part in trunk.named_children():
        if any(True for _ in part.parameters()):
            members = part if isinstance(part, nn.Sequential | nn.ModuleList) else ()
            found += [name, *(f"{name}.{number}" for number in range(len(members)))]
    return found


def before(trunk: nn.Module, stage: str) -> frozenset[str]:
    """Names of the weights before a stage, and of the BatchNorms there.

    Weights that belong to no module, such as a class token, are before the first stage. Raises
    UserError, with all stages, for a stage that there is not.
    """
    known = names(trunk)
    if stage not in known:
        raise UserError(
            f"--freeze_until {stage} is no stage of this trunk{nearest(stage, known)}; it has "
            f"{', '.join(known)}."
        )
    parts = [name for name, _ in trunk.named_parameters()]
    first = next(at for at, name in enumerate(parts) if name.startswith(f"{stage}."))
    modules = dict(trunk.named_modules())
    earlier = list(modules)[: list(modules).index(stage)]
    norms = [name for name in earlier if isinstance(modules[name], _BatchNorm)]
    return frozenset([*parts[:first], *norms])
