"""Learning rate schedules by name, stepped at the end of each epoch, and a rise before them."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

from utilities.choices import part_of


class Course(NamedTuple):
    """What schedules depend on.

    Attributes:
        epochs: of the run. tau: epochs, and gamma: the factor after each of them. floor: the share
            of its rate that a falling schedule ends at.
    """

    epochs: int
    tau: Sequence[int] = ()
    gamma: float = 1.0
    floor: float = 0.0


def step(optimizer: Optimizer, course: Course) -> LRScheduler:
    """Multiply by gamma after each epoch of tau."""
    return MultiStepLR(optimizer, list(course.tau), course.gamma)


def constant(optimizer: Optimizer, course: Course) -> LRScheduler:
    """The learning rates stay as they are."""
    return MultiStepLR(optimizer, [])


def cosine(optimizer: Optimizer, course: Course) -> LRScheduler:
    """Half a cosine from the rates down to their floor, which the epoch after the last would have.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5, without restarts.
    """

    def share(epoch: int) -> float:
        done = min(epoch / course.epochs, 1.0)
        return course.floor + (1 - course.floor) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, share)


# What a checkpoint keeps; rates, milestones and factors come from the settings.
STATE = ("last_epoch", "_last_lr", "_step_count")

REGISTRY: dict[str, Callable[[Optimizer, Course], LRScheduler]] = {
    "step": step,
    "cosine": cosine,
    "none": constant,
}


def select(name: str, optimizer: Optimizer, course: Course) -> LRScheduler:
    """The schedule `name` of all parameter groups of an optimiser.

    Raises ValueError for a name that there is not.
    """
    return part_of(REGISTRY, "name", name)(optimizer, course)


class Rise:
    """The learning rates rise linearly over the first steps of a run, to those of the schedule.

    Args:
        steps: step number i of them, from 1, is made with the share i / steps; 0: none.
    """

    def __init__(self, steps: int):
        self.steps, self.done = steps, 0

    @contextmanager
    def applied(self, optimizer: Optimizer) -> Iterator[None]:
        """One step of the optimiser, made inside, at its share of the rates."""
        if self.done >= self.steps:
            yield
            return
        self.done += 1
        rates = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * self.done / self.steps
        try:
            yield
        finally:
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate

    def state_dict(self) -> dict:
        return {"done": self.done}

    def load_state_dict(self, state_dict: dict) -> None:
        self.done = state_dict["done"]


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
