"""The parts of a trunk in the order in which an image passes them: its layers and its stages."""

import itertools
import re
from collections.abc import Collection, Iterator

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from utilities.errors import UserError
from utilities.flags import nearest

LISTS = (nn.Sequential, nn.ModuleList)


def layer_groups(
    trunk: nn.Module, learned: Collection[nn.Parameter], lr: float, decay: float
) -> list[dict]:
    """Groups of an optimiser, one for each layer with weights that learn, the first one first.

    Layers are those that timm knows of the trunk. The last has the rate `lr`, each other `decay`
    times that of the next (Clark et al., ICLR 2020). Raises UserError for a trunk whose layers timm
    does not know.
    """
    matcher = getattr(trunk, "group_matcher", None)
    if matcher is None:
        raise UserError(
            f"--layer_decay: timm does not know the layers of {type(trunk).__name__}; leave the "
            "flag out, or take another trunk."
        )
    layers = group_parameters(trunk, matcher(coarse=False), reverse=True)
    parts: dict[int, list[nn.Parameter]] = {}
    wanted = {id(parameter) for parameter in learned}
    for name, parameter in trunk.named_parameters():
        if id(parameter) in wanted:
            parts.setdefault(layers[name], []).append(parameter)
    last = len(parts) - 1
    return [
        {"params": parts[layer], "lr": lr * decay ** (last - number)}
        for number, layer in enumerate(sorted(parts))
    ]


def names(trunk: nn.Module) -> list[str]:
    """The stages of a trunk in its order: its modules with weights, and the members of lists.

    What only wraps others, as a tower of open_clip does, is looked into. Modules that lie flat in a
    trunk are of the stages that it names itself, by which their names begin.
    """
    flat = getattr(trunk, "flat_stages", None)
    return list(flat) if flat else [*_names(trunk, "")]


def before(trunk: nn.Module, stage: str) -> frozenset[str]:
    """Names of the weights before a stage, and of the BatchNorms there.

    Weights that belong to no module, such as a class token, are before the first stage, unless the
    trunk says that they are its last. Raises UserError, with all stages, for one that there is not.
    """
    known = names(trunk)
    if stage not in known:
        raise UserError(
            f"--freeze_until {stage} is no stage of this trunk{nearest(stage, known)}; it has "
            f"{', '.join(known)}."
        )
    is_of_stage = re.compile(
        rf"{re.escape(stage)}{'_' if hasattr(trunk, 'flat_stages') else '[.]'}"
    )
    last = getattr(trunk, "last_weights", ())
    parts = [name for name, _ in trunk.named_parameters() if name not in last]
    earlier = itertools.takewhile(lambda name: not is_of_stage.match(name), parts)
    modules = itertools.takewhile(
        lambda named: not is_of_stage.match(f"{named[0]}."), trunk.named_modules()
    )
    norms = [name for name, module in modules if isinstance(module, _BatchNorm)]
    return frozenset([*earlier, *norms])


def _names(parent: nn.Module, prefix: str) -> Iterator[str]:
    children = _with_weights(parent)
    is_wrapper = len(children) <= 2  # a model, and perhaps its projection
    for name, part in children.items():
        yield prefix + name
        inner = _with_weights(part)
        if isinstance(part, LISTS):
            yield from (f"{prefix}{name}.{member}" for member in inner)
        elif inner and (is_wrapper or _is_list(inner)):
            yield from _names(part, f"{prefix}{name}.")


def _is_list(children: dict[str, nn.Module]) -> bool:
    """Whether a module has a list and nothing else."""
    return len(children) == 1 and all(isinstance(part, LISTS) for part in children.values())


def _with_weights(parent: nn.Module) -> dict[str, nn.Module]:
    children = parent.named_children()
    return {name: part for name, part in children if any(True for _ in part.parameters())}
