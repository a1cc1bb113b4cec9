"""Learning rate schedules by name, and a rise before them.

They go by epochs, or, the plateau, by what was measured after each.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, ReduceLROnPlateau

from utilities.choices import part_of
from utilities.logger import LOWER_IS_BETTER, Families

LOSS = "loss"  # of the training


class Course(NamedTuple):
    """What schedules depend on.

    Attributes:
        epochs: of the run. tau: epochs, and gamma: the factor after each of them. floor: the share
            of its rate that a falling schedule ends at. patience: measured epochs without a better
            value that a plateau bears. watched: that value, LOSS or a metric of validation.
    """

    epochs: int
    tau: Sequence[int] = ()
    gamma: float = 1.0
    floor: float = 0.0
    patience: int = 0
    watched: str = LOSS


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


class Plateau:
    """Multiply by gamma, down to the floor, where a value has not become better for some epochs.

    The value is a metric of the validation part, or the training loss; never one of the test part.
    An epoch without the value does not count.
    """

    def __init__(self, optimizer: Optimizer, course: Course):
        self.optimizer, self.watched = optimizer, course.watched
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.epochs, self.reductions = 0, 0
        self.reduce = ReduceLROnPlateau(
            optimizer,
            mode="max",
            factor=course.gamma,
            patience=course.patience,
            threshold=0.0,
            min_lr=[rate * course.floor for rate in self.rates],
            eps=0.0,
        )

    def step(self) -> None:
        """The end of an epoch, which by itself changes nothing."""
        self.epochs += 1

    def hear(self, losses: Mapping[str, float], validation: Families | None) -> None:
        """What was measured after an epoch: mean losses, and metrics by family, if any were."""
        for metrics in [losses] if self.watched == LOSS else (validation or {}).values():
            if self.watched in metrics:
                self._hear(metrics[self.watched])
                return

    def _hear(self, value: float) -> None:
        before = self.reduce.get_last_lr()
        self.reduce.step(-value if self.watched.startswith(LOWER_IS_BETTER) else value)
        self.reductions += self.reduce.get_last_lr() != before

    def state_dict(self) -> dict[str, float | str]:
        """Also how many epochs are done, by which another schedule goes on."""
        return {
            "last_epoch": self.epochs,
            "watched": self.watched,
            "best": float(self.reduce.best),
            "waited": self.reduce.num_bad_epochs,
            "reductions": self.reductions,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The rates are those of the settings after as many reductions.

        Of another schedule only the epochs are known, and the best of another value says nothing.
        """
        self.epochs = int(state_dict["last_epoch"])
        self.reductions = int(state_dict.get("reductions", 0))
        if state_dict.get("watched", self.watched) == self.watched:
            self.reduce.best = state_dict.get("best", self.reduce.best)
            self.reduce.num_bad_epochs = int(state_dict.get("waited", 0))
        rates = self.rates
        for _ in range(self.reductions):
            reduced = [rate * self.reduce.factor for rate in rates]
            rates = [max(rate, floor) for rate, floor in zip(reduced, self.reduce.min_lrs)]
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate
        self.reduce._last_lr = [*rates]


# What a checkpoint keeps; rates, milestones and factors come from the settings.
STATE = ("last_epoch", "_last_lr", "_step_count")
Schedule = LRScheduler | Plateau

REGISTRY: dict[str, Callable[[Optimizer, Course], Schedule]] = {
    "step": step,
    "cosine": cosine,
    "none": constant,
    "plateau": Plateau,
}


def select(name: str, optimizer: Optimizer, course: Course) -> Schedule:
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

    @property
    def share(self) -> float:
        """Of the rates, at which the last step was made."""
        return min(self.done / self.steps, 1.0) if self.steps else 1.0

    @contextmanager
    def applied(self, optimizer: Optimizer) -> Iterator[None]:
        """One step of the optimiser, made inside, at its share of the rates."""
        self.done += 1  # also behind the rise, which may be made longer when a run is resumed
        if self.done > self.steps:
            yield
            return
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

    def __init__(self, schedule: Schedule):
        self.schedule = schedule

    def state_dict(self) -> dict:
        state = self.schedule.state_dict()
        if isinstance(self.schedule, Plateau):
            return state
        return {name: state[name] for name in STATE if name in state}

    def load_state_dict(self, state_dict: dict) -> None:
        schedule = self.schedule
        if isinstance(schedule, Plateau):
            schedule.load_state_dict(state_dict)
            return
        for group, rate in zip(schedule.optimizer.param_groups, schedule.base_lrs):
            group["initial_lr"] = group["lr"] = rate
        schedule.last_epoch, schedule._step_count = 0, 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the optimiser has not made a step before
            for _ in range(state_dict["last_epoch"]):
                schedule.step()
