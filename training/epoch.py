"""One pass of the batch sampler."""

import time
from collections.abc import Iterable

from tqdm import tqdm

from training.learner import Learner
from utilities.meters import LossMeter
from utilities.seeding import seed_everything
from utilities.types import Batch, PixelBatch


def train_epoch(
    learner: Learner, batches: Iterable[Batch | PixelBatch], *, epoch: int, seed: int
) -> dict[str, float]:
    """Mean losses by name, and `time` in seconds.

    Args:
        seed: of this epoch; it fixes all that the steps draw.
    Raises:
        NonFiniteLoss: a loss was NaN or infinite.
    """
    started = time.monotonic()
    seed_everything(seed)
    learner.start_epoch(epoch)
    meter = LossMeter(epoch)
    progress = tqdm(batches, desc=f"Epoch {epoch}", leave=False)
    for batch in progress:
        meter.update(**learner.step(batch))
        if meter.due():  # the only place where a step waits for the device, about once a second
            means = meter.means()
            progress.set_postfix({name: f"{value:.4f}" for name, value in means.items()})
    learner.end_epoch()
    return meter.means() | {"time": time.monotonic() - started}
