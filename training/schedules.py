"""Learning rate schedules by name, stepped once at the end of each epoch."""

from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR


def step(optimizer: Optimizer, tau: Sequence[int], gamma: float) -> LRScheduler:
    """Multiply by gamma after each epoch of tau."""
    return MultiStepLR(optimizer, list(tau), gamma)


def constant(optimizer: Optimizer, tau: Sequence[int], gamma: float) -> LRScheduler:
    """The learning rates stay as they are."""
    return MultiStepLR(optimizer, [], gamma)


REGISTRY: dict[str, Callable[[Optimizer, Sequence[int], float], LRScheduler]] = {
    "step": step,
    "none": constant,
}


def select(name: str, optimizer: Optimizer, *, tau: Sequence[int], gamma: float) -> LRScheduler:
    """The schedule `name` of all parameter groups of an optimiser."""
    return REGISTRY[name](optimizer, tau, gamma)
