"""Means that are summed on the device, so that a training step never waits for the host."""

import time
from collections.abc import Callable, Mapping

import torch

from utilities.errors import NonFiniteLoss


class LossMeter:
    """Running means of named losses, and the first step at which one was not finite.

    The host reads them at most once in `interval` seconds (for the progress bar) and at the end of
    the epoch. `epoch` counts from 0; messages count epochs and steps from 1.
    """

    def __init__(self, epoch: int = 0, interval: float = 1.0):
        self.epoch, self.interval, self.last_read = epoch, interval, time.monotonic()
        self.steps = 0
        self.sums: dict[str, torch.Tensor] = {}
        self.first_bad: dict[str, torch.Tensor] = {}

    def update(self, **losses: torch.Tensor) -> None:
        """Add the losses of a step, scalars on any device."""
        for name, loss in losses.items():
            value = loss.detach().double()
            never = torch.full_like(value, torch.inf)
            bad = torch.where(value.isfinite(), never, float(self.steps))
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
            self.first_bad[name] = torch.minimum(self.first_bad.get(name, never), bad)
        self.steps += 1

    def state_dict(self) -> dict:
        """Steps, sums and first bad steps, from which the means go on."""
        return {"steps": self.steps, "sums": dict(self.sums), "first_bad": dict(self.first_bad)}

    def load_state_dict(self, state: dict) -> None:
        self.steps = state["steps"]
        self.sums, self.first_bad = dict(state["sums"]), dict(state["first_bad"])

    def due(self) -> bool:
        """Whether it is time to look at the means again."""
        return time.monotonic() - self.last_read >= self.interval

    def means(self) -> dict[str, float]:
        """Means so far. Waits for the device; raises NonFiniteLoss if a loss was not finite."""
        self.last_read = time.monotonic()
        bad = {name: step.item() for name, step in self.first_bad.items()}
        name = min(bad, key=lambda loss: bad[loss])
        if bad[name] < float("inf"):
            raise NonFiniteLoss(
                f"the {name} loss is not finite at step {int(bad[name]) + 1} of epoch "
                f"{self.epoch + 1}"
            )
        return {name: (total / self.steps).item() for name, total in self.sums.items()}


class StepLosses:
    """Tells the losses of every N-th step of a run; the device is waited for at these steps alone.

    Args:
        interval: N; 0 tells none.
        steps: of an epoch, by which those of the run are counted.
        tell: gets the number of a step of the run, from 1, and its losses by name.
    """

    def __init__(self, interval: int, steps: int, tell: Callable[[int, dict[str, float]], None]):
        self.interval, self.steps, self.tell = interval, steps, tell

    def hear(self, epoch: int, step: int, losses: Mapping[str, torch.Tensor]) -> None:
        """The losses of a step, scalars on one device; epochs count from 0, steps in one from 1."""
        number = epoch * self.steps + step
        if self.interval and number % self.interval == 0:
            values = torch.stack([loss.detach().double() for loss in losses.values()]).tolist()
            self.tell(number, dict(zip(losses, values)))
