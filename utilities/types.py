"""The values that flow between the rooms, and what they ask of parts."""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from utilities.functional import masked_mean


class ModelOutput(NamedTuple):
    """What an architecture gives for a batch of B images."""

    embeddings: torch.Tensor  # [B, D], unit rows where the architecture normalises
    features: torch.Tensor  # [B, F], pooled output of the trunk
    feature_map: torch.Tensor  # [B, C, h, w], before pooling


class Stateful(Protocol):
    """What a checkpoint holds the state of: modules, optimisers, schedules, scalers."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


class Trainable(Stateful, Protocol):
    """What has learnable parameters."""

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...


class Network(Trainable, Protocol):
    """An architecture as training sees it."""

    def __call__(self, images: torch.Tensor, /) -> ModelOutput: ...

    def train(self, mode: bool = True, /) -> Any: ...

    def train_trunk(self, enabled: bool, /) -> None: ...


class Objective(Trainable, Protocol):
    """A criterion as training sees it."""

    def __call__(self, output: ModelOutput, labels: torch.Tensor, /) -> torch.Tensor: ...

    def is_mined(self) -> bool: ...

    def reads(self) -> set[str]: ...


class Guide(Trainable, Protocol):
    """Language guidance as training sees it."""

    calls: int  # steps of the run, by which it begins and fades

    def __call__(
        self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor, /
    ) -> torch.Tensor: ...


class Triplets(NamedTuple):
    """Mined triplets; among fillers where counting them would make a step wait for the device."""

    rows: torch.Tensor  # long [T, 3] of anchor, positive, negative
    real: torch.Tensor | None = None  # bool [T], which are no fillers; None: all

    def of(self, chosen: torch.Tensor, *, compact: bool) -> "Triplets":
        """Those for which bool [T] is true; the others are left out, or become fillers."""
        real = chosen if self.real is None else chosen & self.real
        return Triplets(self.rows[real]) if compact else Triplets(self.rows, real)

    def compact(self) -> torch.Tensor:
        """The rows without fillers."""
        return self.rows if self.real is None else self.rows[self.real]

    def kept(self, values: torch.Tensor) -> torch.Tensor:
        """Values [T] of the triplets, 0 at fillers."""
        return values if self.real is None else values.masked_fill(~self.real, 0.0)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Of the values [T] of the triplets, fillers left out."""
        return values.mean() if self.real is None else masked_mean(values, self.real)


class Tuples(NamedTuple):
    """Anchors with one positive and any number of negatives each.

    They say the same as triplets (a, p, n), without writing all of them out.
    """

    anchors: torch.Tensor  # [A] samples
    positives: torch.Tensor  # [A] the positive of each anchor
    candidates: torch.Tensor  # [N] samples that are a negative of any anchor
    negatives: torch.Tensor  # bool [A, N], which candidates are negatives of which anchor


class Miner(Protocol):
    """Chooses the triplets of a batch; any function with these arguments is one."""

    def __call__(self, embeddings: torch.Tensor, labels: torch.Tensor, /) -> torch.Tensor:
        """Embeddings [B, D] and labels [B] -> long [T, 3], rows of anchor, positive, negative."""


@runtime_checkable
class PaddedMiner(Miner, Protocol):
    """A miner that also gives its choice among fillers, so many that no step waits for a count."""

    def padded(self, embeddings: torch.Tensor, labels: torch.Tensor, /) -> Triplets:
        """The triplets of a call; T depends on the shape of the batch alone."""


@runtime_checkable
class TupleMiner(Miner, Protocol):
    """A miner that also gives its choice as tuples, which costs less than every triplet."""

    def tuples(self, labels: torch.Tensor, /) -> Tuples:
        """A choice for labels [B], drawn as a call would draw it."""


@runtime_checkable
class PairMiner(Miner, Protocol):
    """A miner that also gives all pairs of each anchor, which costs less than triplets of them."""

    def pairs(self, labels: torch.Tensor, /) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels [B] -> two bool [B, B], the positives and the negatives of the anchor of a row."""


@runtime_checkable
class NativeMiner(Miner, Protocol):
    """A miner of pytorch-metric-learning that also gives what that library's objectives take."""

    def native(self, embeddings: torch.Tensor, labels: torch.Tensor, /) -> tuple[torch.Tensor, ...]:
        """Index vectors: three of triplets, or four of positive and of negative pairs."""


class Batch(NamedTuple):
    """Images as the network takes them.

    Where several processes share a batch, each has some of its images, with the labels and indices
    of all.
    """

    images: torch.Tensor  # [B, 3, H, W] float
    labels: torch.Tensor  # [B] long, 0..C-1 within the split
    indices: torch.Tensor  # [B] long, the samples' positions in the split

    def to(self, device: torch.device, channels_last: bool = False) -> "Batch":
        layout = torch.channels_last if channels_last else torch.preserve_format
        images = self.images.to(device, non_blocking=True, memory_format=layout)
        return Batch(
            images,
            self.labels.to(device, non_blocking=True),
            self.indices.to(device, non_blocking=True),
        )


class PixelBatch(NamedTuple):
    """What a data loader yields, a quarter of the bytes of the `Batch` that `to` makes of it.

    Images are this process's share, as of a `Batch`.
    """

    images: torch.Tensor  # [B, 3, H, W] uint8, channels last in memory
    labels: torch.Tensor  # [B] long, 0..C-1 within the split
    indices: torch.Tensor  # [B] long, the samples' positions in the split
    mirrored: torch.Tensor  # [M] long, rows of the images that are still to be flipped
    mean: tuple[float, ...]  # of the channels, in 0..1
    std: tuple[float, ...]

    def to(self, device: torch.device, channels_last: bool = False) -> Batch:
        """Flipped and normalised on the device; no step of it waits for the device."""
        mean, std = _per_channel(tuple(self.mean), device), _per_channel(tuple(self.std), device)
        normalised = self._normalised_here if device.type == "cpu" else self._normalised_there
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return Batch(
            normalised(mean, std).contiguous(memory_format=layout),
            self.labels.to(device, non_blocking=True),
            self.indices.to(device, non_blocking=True),
        )

    def _normalised_there(self, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        images = self.images.to(mean.device, non_blocking=True, copy=True)
        rows = self.mirrored.to(mean.device, non_blocking=True)
        images.index_copy_(0, rows, images.index_select(0, rows).flip(3))
        return images.to(torch.float32, memory_format=torch.contiguous_format).sub_(mean).div_(std)

    def _normalised_here(self, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """On the CPU, twice as fast.

        Single images stay in its cache, and numpy asks for large pages for its large arrays.
        """
        images = torch.from_numpy(np.empty(self.images.shape, dtype=np.float32))
        mirrored = set(self.mirrored.tolist())
        for row, image in enumerate(self.images):
            images[row].copy_(image.flip(2) if row in mirrored else image).sub_(mean).div_(std)
        return images


@cache  # copied to a device once, because that copy makes the step wait
def _per_channel(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """[3, 1, 1], for images of 0..255."""
    return torch.tensor(values, device=device).mul_(255).view(-1, 1, 1)
