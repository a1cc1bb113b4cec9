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


# What a step reads; milestones and factors come from the settings.
STATE = ("last_epoch", "_last_lr", "_step_count")

REGISTRY: dict[str, Callable[[Optimizer, Sequence[int], float], LRScheduler]] = {
    "step": step,
    "none": constant,
}


def select(name: str, optimizer: Optimizer, *, tau: Sequence[int], gamma: float) -> LRScheduler:
    """The schedule `name` of all parameter groups of an optimiser."""
    return REGISTRY[name](optimizer, tau, gamma)


class PlainSchedule:
    """A schedule whose state is plain values, which a checkpoint may hold."""

    def __init__(self, schedule: LRScheduler):
        self.schedule = schedule

    def state_dict(self) -> dict:
        state = self.schedule.state_dict()
        return {name: state[name] for name in STATE if name in state}

    def load_state_dict(self, state_dict: dict) -> None:
        self.schedule.load_state_dict(state_dict)
