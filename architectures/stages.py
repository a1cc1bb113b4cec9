"""The parts of a trunk in the order in which an image passes them: its layers and its stages."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence

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


def passed(trunk: nn.Module, pass_image: Callable[[], object]) -> list[str]:
    """Names of the modules of a trunk in the order in which an image first comes to them."""
    named = {module: name for name, module in trunk.named_modules()}
    order: dict[str, None] = {}

    def note(module: nn.Module, _: tuple) -> None:
        order.setdefault(named[module])

    hooks = [module.register_forward_pre_hook(note) for module in named]
    try:
        pass_image()
    finally:
        for hook in hooks:
            hook.remove()
    return list(order)


def before(trunk: nn.Module, stage: str, order: Sequence[str] = ()) -> frozenset[str]:
    """Names of the weights before a stage, and of the BatchNorms there.

    Weights that belong to no module, such as a class token, are before the first stage, unless the
    trunk says that they are its last. Raises UserError, with all stages, for one that there is not.

    Args:
        order: as `passed` gives it; modules that are not in it are where the trunk names them.
            Some trunks name all patch embeddings, say, before all blocks.
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
    norms = [name for name, module in trunk.named_modules() if isinstance(module, _BatchNorm)]
    modules = [name for name, _ in trunk.named_modules()]
    is_before = _until(is_of_stage, modules) | _until(is_of_stage, order)
    earlier = [name for name in parts if is_before[name.rpartition(".")[0]]]
    return frozenset([*earlier, *(name for name in norms if is_before[name])])


def _until(stage: re.Pattern[str], modules: Sequence[str]) -> dict[str, bool]:
    """Whether each stands before the first of a stage; nothing where none is of it."""
    places = [place for place, name in enumerate(modules) if stage.match(f"{name}.")]
    return {name: place < places[0] for place, name in enumerate(modules)} if places else {}


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
