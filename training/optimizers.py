"""Optimisers by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

# As torch.optim takes them: "params", "lr", "weight_decay", and a "name" for people.
ParameterGroups = list[dict[str, Any]]


def adam(groups: ParameterGroups) -> Optimizer:
    """Adam (Kingma and Ba, ICLR 2015) with weight decay in the gradient, as in the paper's code."""
    return torch.optim.Adam(groups)


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
        """Raises ValueError for groups of other sizes."""
        settings = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(state_dict)
        for group, current in zip(self.optimizer.param_groups, settings):
            group.update(current)
