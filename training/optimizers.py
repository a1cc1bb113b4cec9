"""Optimisers by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

ParameterGroups = list[dict[str, Any]]  # as torch.optim takes them: "params", "lr", ...


def adam(groups: ParameterGroups, weight_decay: float) -> Optimizer:
    """Adam (Kingma and Ba, ICLR 2015) with weight decay in the gradient, as in the paper's code."""
    return torch.optim.Adam(groups, weight_decay=weight_decay)


REGISTRY: dict[str, Callable[[ParameterGroups, float], Optimizer]] = {
    "adam": adam,
}


def select(name: str, groups: ParameterGroups, *, weight_decay: float) -> Optimizer:
    """The optimiser `name` of parameter groups that each have a learning rate of their own."""
    return REGISTRY[name](groups, weight_decay)
