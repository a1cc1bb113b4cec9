"""The values that flow between the rooms."""
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
    """What a data loader yields."""
    images: torch.Tensor   # [B, 3, H, W] float
    labels: torch.Tensor   # [B] long, 0..C-1 within the split
    indices: torch.Tensor  # [B] long, the samples' positions in the split

    def to(self, device: torch.device, channels_last: bool = False) -> "Batch":
        layout = torch.channels_last if channels_last else torch.preserve_format
        images = self.images.to(device, non_blocking=True, memory_format=layout)
        return Batch(images, self.labels.to(device, non_blocking=True), self.indices.to(device, non_blocking=True))
