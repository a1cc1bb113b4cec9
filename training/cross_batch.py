"""Embeddings of earlier batches, as further positives and negatives of each step.

Source: Wang, Zhang, Huang, Scott, "Cross-Batch Memory for Embedding Learning", CVPR 2020.
"""

from typing import NamedTuple, Protocol

import torch

from utilities.types import ModelOutput


class AnchoredObjective(Protocol):
    """An objective that can be asked for the loss of the first rows alone, against all."""

    def __call__(
        self, output: ModelOutput, labels: torch.Tensor, /, *, anchors: int | None = None
    ) -> torch.Tensor: ...


class Rows(NamedTuple):
    """What is remembered: a ring, whose next place is that of the oldest row."""

    embeddings: torch.Tensor  # [size, D], without gradient
    labels: torch.Tensor  # [size] long


class CrossBatchMemory:
    """The last `size` images of earlier batches beside each batch, whose own rows are the anchors.

    An earlier embedding of an image of the batch counts as another image of its class. While
    nothing is remembered the loss is that of the objective. No step waits for the device.

    Args:
        start: steps before any batch is remembered, because embeddings drift most at first.
    """

    def __init__(self, criterion: AnchoredObjective, size: int, start: int = 0):
        self.criterion, self.size, self.start = criterion, size, start
        self.steps, self.kept = 0, 0  # made, and rows remembered since the beginning
        self.rows: Rows | None = None

    def __call__(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch, which is remembered then."""
        self.steps += 1
        if self.steps <= self.start:
            return self.criterion(output, labels)
        self._go_to(labels.device)
        loss = self._loss(output, labels)
        self._remember(output.embeddings.detach(), labels)
        return loss

    def state_dict(self) -> dict:
        """Plain values and tensors; of the ring what is filled."""
        state = {"size": self.size, "steps": self.steps, "kept": self.kept}
        return state | {name: part.clone() for name, part in self._filled().items()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Of another size the newest rows that fit."""
        self.steps, self.kept, self.rows = state_dict["steps"], state_dict["kept"], None
        if not self.kept:
            return
        filled = Rows(state_dict["embeddings"], state_dict["labels"])
        if state_dict["size"] != self.size:
            shift = self.kept % state_dict["size"] if self.kept >= state_dict["size"] else 0
            filled = Rows(*(part.roll(-shift, 0)[-self.size :] for part in filled))
            self.kept = len(filled.labels)
        self._begin(filled)
        self._put(filled, torch.arange(len(filled.labels)))

    def _loss(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        remembered = self._filled()
        if not remembered:
            return self.criterion(output, labels)
        embeddings = torch.cat([output.embeddings, remembered["embeddings"]])
        return self.criterion(
            output._replace(embeddings=embeddings),
            torch.cat([labels, remembered["labels"]]),
            anchors=len(labels),
        )

    def _filled(self) -> dict[str, torch.Tensor]:
        if self.rows is None:
            return {}
        count = min(self.kept, self.size)
        return {name: part[:count] for name, part in self.rows._asdict().items()}

    def _remember(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        newest = Rows(embeddings[-self.size :], labels[-self.size :])
        if self.rows is None:
            self._begin(newest)
        count = len(newest.labels)
        places = torch.arange(self.kept, self.kept + count, device=labels.device) % self.size
        self._put(newest, places)
        self.kept += count

    def _go_to(self, device: torch.device) -> None:
        """What a checkpoint has brought lies on the CPU."""
        if self.rows is not None and self.rows.labels.device != device:
            self.rows = Rows(*(part.to(device) for part in self.rows))

    def _begin(self, like: Rows) -> None:
        self.rows = Rows(*(part.new_zeros((self.size, *part.shape[1:])) for part in like))

    def _put(self, rows: Rows, places: torch.Tensor) -> None:
        assert self.rows is not None
        for kept, part in zip(self.rows, rows):
            kept.index_copy_(0, places, part.to(kept.dtype))
