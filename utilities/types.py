"""The values that flow between the rooms."""
from functools import cache
from typing import NamedTuple

import torch


class ModelOutput(NamedTuple):
    """What an architecture gives for a batch of B images."""
    embeddings: torch.Tensor   # [B, D], unit rows where the architecture normalises
    features: torch.Tensor     # [B, F], pooled output of the trunk
    feature_map: torch.Tensor  # [B, C, h, w], before pooling


class Tuples(NamedTuple):
    """Anchors with one positive and any number of negatives each: what triplets (a, p, n) say, without writing all of them out."""
    anchors: torch.Tensor     # [A] samples
    positives: torch.Tensor   # [A] the positive of each anchor
    candidates: torch.Tensor  # [N] samples that are a negative of any anchor
    negatives: torch.Tensor   # bool [A, N], which candidates are negatives of which anchor


class Batch(NamedTuple):
    """Images as the network takes them."""
    images: torch.Tensor   # [B, 3, H, W] float
    labels: torch.Tensor   # [B] long, 0..C-1 within the split
    indices: torch.Tensor  # [B] long, the samples' positions in the split

    def to(self, device: torch.device, channels_last: bool = False) -> "Batch":
        layout = torch.channels_last if channels_last else torch.preserve_format
        images = self.images.to(device, non_blocking=True, memory_format=layout)
        return Batch(images, self.labels.to(device, non_blocking=True), self.indices.to(device, non_blocking=True))


class PixelBatch(NamedTuple):
    """What a data loader yields: a quarter of the bytes of a `Batch`, which `to` makes of it on the device."""
    images: torch.Tensor      # [B, 3, H, W] uint8, channels last in memory
    labels: torch.Tensor      # [B] long, 0..C-1 within the split
    indices: torch.Tensor     # [B] long, the samples' positions in the split
    mirrored: torch.Tensor    # [M] long, rows of the batch that are still to be flipped
    mean: tuple[float, ...]   # of the channels, in 0..1
    std: tuple[float, ...]

    def to(self, device: torch.device, channels_last: bool = False) -> Batch:
        """Flipped and normalised on the device; no step of it waits for the device."""
        images = self.images.to(device, non_blocking=True, copy=True)
        if device.type == "cpu":  # whose kernels flip single images of this layout, but not batches, a dozen times faster
            for row in self.mirrored.tolist():
                images[row] = images[row].flip(2)
        else:
            rows = self.mirrored.to(device, non_blocking=True)
            images.index_copy_(0, rows, images.index_select(0, rows).flip(3))
        images = images.to(torch.float32, memory_format=torch.contiguous_format)
        images.sub_(_per_channel(tuple(self.mean), device)).div_(_per_channel(tuple(self.std), device))
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return Batch(images.contiguous(memory_format=layout), self.labels.to(device, non_blocking=True), self.indices.to(device, non_blocking=True))


@cache  # copied to a device once, because that copy makes the step wait
def _per_channel(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """[3, 1, 1], for images of 0..255."""
    return torch.tensor(values, device=device).mul_(255).view(-1, 1, 1)
