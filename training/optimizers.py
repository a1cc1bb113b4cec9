"""Optimisers by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

# As torch.optim takes them: "params", "lr", "weight_decay", and a "name" for people.
ParameterGroups = list[dict[str, Any]]


def adam(groups: ParameterGroups) -> Optimizer:
    """Adam (Kingma and Ba, ICLR 2015) with weight decay in the gradient, as in the paper's code."""
    return torch.optim.Adam(groups, fused=_fuses(groups))


def _fuses(groups: ParameterGroups) -> bool | None:
    """True, one kernel for all weights, where they are on a GPU; elsewhere torch's own choice."""
    is_on_gpu = all(weights.is_cuda for group in groups for weights in group["params"])
    return True if is_on_gpu else None


REGISTRY: dict[str, Callable[[ParameterGroups], Optimizer]] = {
    "adam": adam,
}


def select(name: str, groups: ParameterGroups) -> Optimizer:
    """The optimiser `name` of groups that each have a learning rate and a decay of their own."""
    return REGISTRY[name](groups)


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
        if len(groups) == len(settings):  # otherwise torch says so
            groups = [group | current for group, current in zip(groups, settings)]
        self.optimizer.load_state_dict(state_dict | {"param_groups": groups})
        for weights, values in self.optimizer.state.items():
            _lay_out(values, weights)


def _lay_out(values: dict[str, Any], weights: torch.Tensor) -> None:
    """Give what lies beside weights their layout in memory, which a fused kernel asks for."""
    for name, value in values.items():
        if value.shape == weights.shape and value.stride() != weights.stride():
            values[name] = torch.empty_like(weights, dtype=value.dtype).copy_(value)
