"""A network and all that trains it."""

import warnings
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from training.average import Average
from training.chunks import Chunks
from training.cross_batch import CrossBatchMemory
from training.optimizers import PlainOptimizer
from training.schedules import PlainSchedule, Plateau, Rise, Schedule
from utilities.logger import Families
from utilities.runtime import Runtime
from utilities.types import Batch, Guide, ModelOutput, Network, Objective, PixelBatch, Stateful


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

    def start_epoch(self, epoch: int) -> None:
        """Training mode, with the trunk learning once the warm-up is over."""
        self.network.train()
        self.network.train_trunk(epoch >= self.warmup)
        if self.average:
            self.average.begin(self.network)

    def step(self, batch: Batch | PixelBatch) -> dict[str, torch.Tensor]:
        """Forward, loss, backward, update; the losses of the batch by name.

        Nothing here waits for the device.
        """
        images, labels, indices = self.runtime.place(batch)
        self.optimizer.zero_grad(set_to_none=True)
        if self.micro_batch:
            losses = self._backward_in_chunks(images, labels, indices)
        else:
            losses = self._backward(images, labels, indices)
        if self.clip_gradient:
            self._clip()
        with self.rise.applied(self.optimizer):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(self.network)
        return {name: loss.detach() for name, loss in losses.items()}

    def _backward(
        self, images: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        with self.runtime.autocast():
            output = self.network(images)
        losses = self.losses(output, labels, indices)
        self.scaler.scale(losses["loss"]).backward()
        return losses

    def _backward_in_chunks(
        self, images: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        reads = {"embeddings", *self.criterion.reads()}
        chunks = Chunks(self.network, images, self.micro_batch, reads=reads, runtime=self.runtime)
        losses = self.losses(chunks.output, labels, indices)
        self.scaler.scale(losses["loss"]).backward()
        chunks.backward()
        return losses

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
        """Those of the schedule for the next step, by the name of each group of the optimiser."""
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}

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
