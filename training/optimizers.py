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


REGISTRY: dict[str, Callable[[ParameterGroups], Optimizer]] = {"adam": adam}


def select(name: str, groups: ParameterGroups) -> Optimizer:
    """The optimiser `name` of groups that each have a learning rate and a decay of their own."""
    return REGISTRY[name](groups)
