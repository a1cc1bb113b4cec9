"""A network and all that trains it."""

import warnings
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from training.average import Average
from training.chunks import Chunks, statistics
from training.cross_batch import CrossBatchMemory
from training.optimizers import PlainOptimizer, without_idle_groups
from training.schedules import PlainSchedule, Plateau, Rise, Schedule
from utilities.logger import Families
from utilities.runtime import Runtime
from utilities.types import (
    Batch,
    Guide,
    ModelOutput,
    Network,
    Objective,
    PixelBatch,
    Stateful,
    Trainable,
)


class Updates(NamedTuple):
    """How gradients become steps.

    Attributes:
        clip_gradient: a longer gradient of all that learns is scaled to this norm; 0: never.
        rise: steps over which the learning rates rise; 0: none.
        ema: decay of the weights' moving average, which is evaluated; 0: none.
    """

    optimizer: Optimizer
    schedule: Schedule
    clip_gradient: float = 0.0
    rise: int = 0
    ema: float = 0.0


class WeightedGuide(NamedTuple):
    guide: Guide
    weight: float


class Learner:
    """`step(batch)` updates the network by one batch.

    Args:
        network: images [B, 3, H, W] -> ModelOutput.
        criterion: the objective, (ModelOutput, labels) -> scalar.
        guidance: language guidance, (embeddings, labels, indices) -> scalar, and its weight beside
            the objective.
        warmup: epochs in which only the network's head learns.
        micro_batch: images that pass the network at a time; 0: the whole batch.
        memory: that of earlier batches, in which the objective is asked for its loss.
    """

    def __init__(
        self,
        network: Network,
        criterion: Objective,
        updates: Updates,
        *,
        runtime: Runtime,
        guidance: WeightedGuide | None = None,
        warmup: int = 0,
        micro_batch: int = 0,
        memory: CrossBatchMemory | None = None,
    ):
        self.network, self.criterion = network, criterion
        self.guide: Guide | None = guidance.guide if guidance else None
        self.guide_weight = guidance.weight if guidance else 0.0
        self.warmup, self.micro_batch, self.memory = warmup, micro_batch, memory
        self.optimizer, self.schedule, self.clip_gradient, steps, decay = updates
        self.rise = Rise(steps)
        self.average = Average(network, decay) if decay else None
        self.runtime, self.scaler = runtime, runtime.gradient_scaler()

    def begin_alike(self) -> None:
        """All processes begin with the weights of the first: machines may draw other ones."""
        parts: list[Trainable] = [self.network, *self._heads()]
        weights = [each.detach() for part in parts for each in part.parameters()]
        self.runtime.add_up([], weights)

    def count(self, steps: int) -> None:
        """So many were made before: what begins with a certain one may have its own behind it."""
        if self.guide is not None:
            self.guide.calls = steps
        if self.memory:
            self.memory.steps = steps

    def start_epoch(self, epoch: int) -> None:
        """Training mode, with the trunk learning once the warm-up is over."""
        self.network.train()
        self.network.train_trunk(epoch >= self.warmup)
        if self.average:
            self.average.begin(self.network)

    def step(self, batch: Batch | PixelBatch, seed: int = 0) -> dict[str, torch.Tensor]:
        """Forward, loss, backward, update; the losses of the batch by name.

        Nothing here waits for the device. Of several processes each has its share of the images,
        with the labels and indices of all.

        Args:
            seed: of what the network draws where several processes share the batch.
        """
        placed = self.runtime.place(batch)
        self.optimizer.zero_grad(set_to_none=True)
        backward = self._backward_in_chunks if self.micro_batch else self._backward
        losses = backward(placed, seed)
        self._join_gradients()
        if self.clip_gradient:
            self._clip()
        with self.rise.applied(self.optimizer), without_idle_groups(self.optimizer):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(self.network)
        return {name: loss.detach() for name, loss in losses.items()}

    def _backward(self, batch: Batch, seed: int) -> dict[str, torch.Tensor]:
        with self.runtime.own_draws(seed), self.runtime.autocast():
            output = self.network(batch.images)
        losses = self._losses_of_all(output, batch)
        self.scaler.scale(losses["loss"]).backward()
        return losses

    def _backward_in_chunks(self, batch: Batch, seed: int) -> dict[str, torch.Tensor]:
        images, reads = batch.images, self._reads()
        with self.runtime.own_draws(seed):
            chunks = Chunks(
                self.network, images, self.micro_batch, reads=reads, runtime=self.runtime
            )
        losses = self._losses_of_all(chunks.output, batch)
        self.scaler.scale(losses["loss"]).backward()
        chunks.backward()
        return losses

    def _reads(self) -> set[str]:
        """Fields of a ModelOutput that the losses use."""
        return {"embeddings", *self.criterion.reads()}

    def _losses_of_all(self, output: ModelOutput, batch: Batch) -> dict[str, torch.Tensor]:
        """Losses of the whole batch, of which this process has embedded its share."""
        if self.runtime.world_size > 1:
            total, unread = len(batch.labels), output.embeddings.new_empty(0)
            rows = {
                field: self.runtime.gather(getattr(output, field), total)
                for field in ModelOutput._fields  # in one order everywhere
                if field in self._reads()
            }
            output = ModelOutput(*(rows.get(field, unread) for field in ModelOutput._fields))
        return self.losses(output, batch.labels, batch.indices)

    def _join_gradients(self) -> None:
        """Those of the whole batch, in every process.

        A process has the network's for its own images, and those of objective and guide for all.
        Statistics of BatchNorms that follow its images are those of the first process.
        """
        if self.runtime.world_size == 1:
            return
        learned = [weights.grad for part in self._heads() for weights in part.parameters()]
        own = [weights.grad for weights in self.network.parameters()]
        self.runtime.add_up(
            [each for each in own if each is not None],
            [each for each in learned if each is not None] + statistics(self.network),
        )

    def _heads(self) -> list[Trainable]:
        """What sees all of a batch in every process."""
        return [self.criterion, self.guide] if self.guide else [self.criterion]

    def _clip(self) -> None:
        self.scaler.unscale_(self.optimizer)
        weights = [each for group in self.optimizer.param_groups for each in group["params"]]
        clip_grad_norm_(weights, self.clip_gradient)

    def losses(
        self, output: ModelOutput, labels: torch.Tensor, indices: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Scalars by name, of a whole batch: objective, guidance if there is any, loss."""
        objective = (self.memory or self.criterion)(output, labels)
        if self.guide is None:
            return {"objective": objective, "loss": objective}
        guidance = self.guide(output.embeddings, labels, indices)
        loss = objective + self.guide_weight * guidance
        return {"objective": objective, "guidance": guidance, "loss": loss}

    def end_epoch(self) -> None:
        with warnings.catch_warnings():
            # An epoch that was left behind its last step makes none when it is gone on with.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self.schedule.step()

    def hear(self, losses: dict[str, float], validation: Families | None) -> None:
        """What was measured after an epoch, for a schedule that goes by it.

        Args:
            validation: metrics of the validation part by family, if it was evaluated.
        """
        if isinstance(self.schedule, Plateau):
            self.schedule.hear(losses, validation)

    def learning_rates(self) -> dict[str, float]:
        """At which the last step of an epoch was made, by the name of each optimiser's group."""
        share = self.rise.share
        return {group["name"]: share * group["lr"] for group in self.optimizer.param_groups}

    @property
    def evaluated(self) -> nn.Module:
        """The network whose embeddings count: the averaged one, if the weights are averaged."""
        if self.average and self.average.has_begun:
            return self.average.network
        assert isinstance(self.network, nn.Module)
        return self.network

    @property
    def parts(self) -> dict[str, Stateful]:
        """What has state, by its name in a checkpoint."""
        parts: dict[str, Stateful] = {
            "state_dict": self.network,
            "criterion": self.criterion,
            "optimizer": PlainOptimizer(self.optimizer),
            "scaler": self.scaler,
            "scheduler": PlainSchedule(self.schedule),
        }
        if self.guide is not None:
            parts["guide"] = self.guide
        if self.rise.steps:
            parts["rise"] = self.rise
        if self.memory:
            parts["memory"] = self.memory
        if self.average:
            parts["ema"] = self.average
        return parts

    def state_dict(self) -> dict[str, dict]:
        """Tensors and plain values of each part."""
        return {name: part.state_dict() for name, part in self.parts.items()}
