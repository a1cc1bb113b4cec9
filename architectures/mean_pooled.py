"""What convolutional trunks of this project have in common: features are the mean over the map."""

import torch
from torch import nn


class MeanPooled(nn.Module):
    """A trunk without classifier; a subclass writes `forward_features`, [B, 3, H, W] -> a map."""

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define forward_features(images)")

    def forward_head(self, feature_map: torch.Tensor, *, pre_logits: bool = True) -> torch.Tensor:
        """The mean over the map [B, C, h, w], [B, C]; there is no classifier."""
        return feature_map.mean((-2, -1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled features [B, C]."""
        return self.forward_head(self.forward_features(images))
