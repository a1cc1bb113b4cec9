"""How a batch becomes a step: the `Learner`, its optimiser and schedule, and an epoch of steps."""

from training.epoch import train_epoch
from training.learner import Learner

__all__ = ["Learner", "train_epoch"]
