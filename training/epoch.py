"""One pass of the batch sampler."""

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager

import torch

from training.learner import Learner
from utilities import processes, seeding, signals
from utilities.errors import of_compiling
from utilities.meters import LossMeter, StepLosses
from utilities.progress import progress
from utilities.types import Batch, PixelBatch


class TrainingEpoch:
    """The steps of an epoch. It can be left between any two of them and taken up again.

    Args:
        number: of the epoch, from 0.
        seed: of this epoch; it fixes all that the steps draw.
        heard: gets the losses of each step, if anything does.
    """

    def __init__(self, learner: Learner, number: int, seed: int, heard: StepLosses | None = None):
        self.learner, self.number, self.seed, self.heard = learner, number, seed, heard
        self.meter = LossMeter(number)
        self.seconds, self.images = 0.0, 0  # of the steps so far
        self.is_over = False
        self.is_between_steps = True
        self.drawn: dict | None = None  # the random streams where it was left
        self.rates: dict[str, float] = {}  # at which its last step was made, once it is over

    @property
    def steps(self) -> int:
        return self.meter.steps

    def run(
        self, batches: Iterable[Batch | PixelBatch], after_step: Callable[[], None] | None = None
    ) -> dict[str, float]:
        """Mean losses by name, and `time` in seconds, of the whole epoch.

        Args:
            batches: those of the steps that are left to make.
        Raises:
            NonFiniteLoss: a loss was NaN or infinite.
        """
        if not self.is_over:
            self._make_steps(batches, after_step)
        return self.meter.means() | {"time": self.seconds}

    def state_dict(self) -> dict:
        """Plain values and tensors, from which the epoch goes on as it would have."""
        return {
            "meter": self.meter.state_dict(),
            "seconds": self.seconds,
            "images": self.images,
            "is_over": self.is_over,
            "rates": self.rates,
            "drawn": seeding.state() if self.steps else None,
        }

    def load_state_dict(self, state: dict) -> None:
        self.meter.load_state_dict(state["meter"])
        self.seconds, self.images = state["seconds"], state["images"]
        self.is_over = state["is_over"]
        self.rates = state.get("rates") or self.learner.learning_rates()
        self.drawn = state["drawn"]

    def _make_steps(
        self, batches: Iterable[Batch | PixelBatch], after_step: Callable[[], None] | None
    ) -> None:
        started = time.monotonic() - self.seconds
        self._begin()
        total = self.steps + len(batches) if isinstance(batches, Sized) else None
        title = f"Steps of epoch {self.number + 1}"
        shown = progress(batches, title, total=total, initial=self.steps)
        with processes.stopping_together() as agree:
            for batch in shown:
                with signals.held():
                    losses = self._step(batch)
                if self.heard:  # here, and below, a step may wait for the device
                    self.heard.hear(self.number, self.steps, losses)
                if self.meter.due():
                    means = self.meter.means()
                    values = {name: f"{value:.4f}" for name, value in means.items()}
                    shown.set_postfix(values, refresh=False)
                self.seconds = time.monotonic() - started
                if after_step:
                    after_step()
                agree()
            with signals.held():
                self.rates = self.learner.learning_rates()
                self.learner.end_epoch()
                self.is_over = True
        self.meter.means()  # the device has made all steps when it answers
        self.seconds = time.monotonic() - started

    def _begin(self) -> None:
        if self.drawn is None:
            seeding.seed_everything(self.seed)
        else:
            seeding.restore(self.drawn)
        self.learner.start_epoch(self.number)

    def _step(self, batch: Batch | PixelBatch) -> dict[str, torch.Tensor]:
        self.is_between_steps = False
        with _answering_ahead_of_compilers():
            losses = self.learner.step(batch, seeding.derive(self.seed, self.steps))
        self.meter.update(**losses)
        self.images += len(batch.labels)
        self.is_between_steps = True
        return losses


@contextmanager
def _answering_ahead_of_compilers() -> Iterator[None]:
    """Where a signal has come, it and no compiler that it has ended as well ends the step."""
    try:
        yield
    except RuntimeError as error:
        if (number := signals.arrived()) and of_compiling(error):
            signals.answer(number)
        raise
