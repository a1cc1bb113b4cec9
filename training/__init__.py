"""How a batch becomes a step: the `Learner`, its optimiser and schedule, and an epoch of steps."""

from training.cross_batch import CrossBatchMemory
from training.epoch import TrainingEpoch
from training.learner import Learner, Updates, WeightedGuide

__all__ = ["CrossBatchMemory", "Learner", "TrainingEpoch", "Updates", "WeightedGuide"]
