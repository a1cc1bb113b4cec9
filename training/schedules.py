"""Learning rate schedules by name, stepped once at the end of each epoch."""

import warnings
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR


def step(optimizer: Optimizer, tau: Sequence[int], gamma: float) -> LRScheduler:
    """Multiply by gamma after each epoch of tau."""
    return MultiStepLR(optimizer, list(tau), gamma)


def constant(optimizer: Optimizer, tau: Sequence[int], gamma: float) -> LRScheduler:
    """The learning rates stay as they are."""
    return MultiStepLR(optimizer, [], gamma)


# What a checkpoint keeps; rates, milestones and factors come from the settings.
STATE = ("last_epoch", "_last_lr", "_step_count")

REGISTRY: dict[str, Callable[[Optimizer, Sequence[int], float], LRScheduler]] = {
    "step": step,
    "none": constant,
}


def select(name: str, optimizer: Optimizer, *, tau: Sequence[int], gamma: float) -> LRScheduler:
    """The schedule `name` of all parameter groups of an optimiser."""
    return REGISTRY[name](optimizer, tau, gamma)


class PlainSchedule:
    """A schedule whose state is plain values, which a checkpoint may hold.

    A loaded state says how many epochs are done. The rates are those that this schedule and the
    optimiser's own rates give after as many, whatever they were in the stored run.
    """

    def __init__(self, schedule: LRScheduler):
        self.schedule = schedule

    def state_dict(self) -> dict:
        state = self.schedule.state_dict()
        return {name: state[name] for name in STATE if name in state}

    def load_state_dict(self, state_dict: dict) -> None:
        schedule = self.schedule
        for group, rate in zip(schedule.optimizer.param_groups, schedule.base_lrs):
            group["initial_lr"] = group["lr"] = rate
        schedule.last_epoch, schedule._step_count = 0, 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the optimiser has not made a step before
            for _ in range(state_dict["last_epoch"]):
                schedule.step()
