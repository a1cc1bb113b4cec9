"""Optimisers by name: the paper's Adam, others of torch, and those of timm's factory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer

from utilities.choices import part_of
from utilities.errors import UserError, reason
from utilities.flags import nearest

# As torch.optim takes them: "params", "lr", "weight_decay", and a "name" for people.
ParameterGroups = list[dict[str, Any]]
PREFIX = "timm:"


def adam(groups: ParameterGroups, momentum: float) -> Optimizer:
    """Adam (Kingma and Ba, ICLR 2015) with weight decay in the gradient, as in the paper's code."""
    return torch.optim.Adam(groups, fused=_fuses(groups))


def adamw(groups: ParameterGroups, momentum: float) -> Optimizer:
    """Adam with weight decay beside the gradient (Loshchilov and Hutter, ICLR 2019)."""
    return torch.optim.AdamW(groups, fused=_fuses(groups))


def sgd(groups: ParameterGroups, momentum: float) -> Optimizer:
    """Stochastic gradient descent with Nesterov's momentum, plain where it is 0."""
    is_nesterov = momentum > 0
    fused = _fuses(groups)
    return torch.optim.SGD(groups, momentum=momentum, nesterov=is_nesterov, fused=fused)


def of_timm(groups: ParameterGroups, momentum: float, *, name: str) -> Optimizer:
    """What timm's factory makes under a name; `momentum` is beta_1 where it has no other.

    Raises UserError for a name that it does not know, or an optimiser that needs another package.
    """
    import timm.optim  # here, because the paper's optimisers do without

    known = [str(known) for known in timm.optim.list_optimizers()]
    if name not in known:
        raise UserError(
            f"--optim {PREFIX}{name} is not known to timm{nearest(name, known)}; "
            "timm.optim.list_optimizers() lists what is."
        )
    rate = groups[0]["lr"]  # each group has its own
    try:
        optimizer = timm.optim.create_optimizer_v2(groups, opt=name, lr=rate, momentum=momentum)
    except (ImportError, AssertionError) as error:  # of another package, or of a GPU
        why = reason(error).rstrip(".")
        raise UserError(f"--optim {PREFIX}{name} cannot be made here: {why}.") from error
    if getattr(optimizer, "is_second_order", False) or hasattr(optimizer, "zero_hessian"):
        raise UserError(f"--optim {PREFIX}{name} needs second derivatives, which no step has.")
    _correct_decay_by_own_rates(optimizer)
    return optimizer


def _correct_decay_by_own_rates(optimizer: Optimizer) -> None:
    """Decay that timm corrects for the schedule goes by the share of a group's rate that is left.

    timm takes the rate that it was given for the whole of all groups, here that of the first one.
    """
    for group in optimizer.param_groups:
        if "max_lr_snapshot" in group and group["lr"] > 0:
            group["max_lr_snapshot"] = group["lr"]


@contextmanager
def without_idle_groups(optimizer: Optimizer) -> Iterator[None]:
    """A step that is made inside is none of groups without gradients, as a trunk's in its warm-up.

    LAMB and Adan count the steps of a group, by which they correct the moments of its first ones.
    """
    groups = optimizer.param_groups
    optimizer.param_groups = [
        group for group in groups if any(weights.grad is not None for weights in group["params"])
    ]
    try:
        yield
    finally:
        optimizer.param_groups = groups


def _fuses(groups: ParameterGroups) -> bool | None:
    """True, one kernel for all weights, where they are on a GPU; elsewhere torch's own choice."""
    is_on_gpu = all(weights.is_cuda for group in groups for weights in group["params"])
    return True if is_on_gpu else None


REGISTRY: dict[str, Callable[[ParameterGroups, float], Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
    "sgd": sgd,
    "lion": partial(of_timm, name="lion"),
    "lamb": partial(of_timm, name="lamb"),
    "nadamw": partial(of_timm, name="nadamw"),
    "adan": partial(of_timm, name="adan"),
}


def select(name: str, groups: ParameterGroups, *, momentum: float = 0.9) -> Optimizer:
    """The optimiser `name` of groups that each have a learning rate and a decay of their own.

    Args:
        name: of the registry, or `timm:<name>`. momentum: of those that have one.
    Raises:
        ValueError: a name that there is not. UserError: an optimiser of timm that cannot be had.
    """
    if name.startswith(PREFIX):
        return of_timm(groups, momentum, name=name.removeprefix(PREFIX))
    return part_of(REGISTRY, "name", name)(groups, momentum)


def without_decay_of_vectors(groups: ParameterGroups) -> ParameterGroups:
    """The same groups, in which what has one dimension or none has groups of its own.

    Biases, norms and class margins are such: decay would draw them to 0, where they say nothing of
    the size of a function.
    """
    parted: ParameterGroups = []
    for group in groups:
        matrices = [weights for weights in group["params"] if weights.ndim > 1]
        vectors = [weights for weights in group["params"] if weights.ndim <= 1]
        if matrices:
            parted.append(group | {"params": matrices})
        if vectors:
            name = f"{group['name']}, vectors" if matrices else group["name"]
            parted.append(group | {"params": vectors, "name": name, "weight_decay": 0.0})
    return parted


class PlainOptimizer:
    """An optimiser that takes from a checkpoint what it has gathered of gradients, and no more.

    Rates, decay and names of its groups stay those of the settings.
    """

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer

    def state_dict(self) -> dict:
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """Raises ValueError for groups of other sizes.

        The settings go in with the state: by `fused` torch decides whether the count of steps lies
        on the GPU, and a checkpoint may be of another device.
        """
        settings = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]
        groups = state_dict["param_groups"]
        if len(groups) != len(settings):
            raise ValueError(
                f"{len(groups)} groups of weights there, {len(settings)} here: were they made by "
                "another --layer_decay, --decay_matrices_only or --language_loss?"
            )
        groups = [group | current for group, current in zip(groups, settings)]
        self.optimizer.load_state_dict(state_dict | {"param_groups": groups})
        for weights, values in self.optimizer.state.items():
            _lay_out(values, weights)


def _lay_out(values: dict[str, Any], weights: torch.Tensor) -> None:
    """Give what lies beside weights their layout in memory, which a fused kernel asks for.

    Optimisers of timm keep plain numbers there, too.
    """
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    for name, value in tensors.items():
        if value.shape == weights.shape and value.stride() != weights.stride():
            values[name] = torch.empty_like(weights, dtype=value.dtype).copy_(value)
