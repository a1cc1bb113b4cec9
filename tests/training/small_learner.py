"""A learner at its smallest, for the tests of this room."""

import torch
from torch import nn

from training import Learner, Updates, WeightedGuide, optimizers, schedules
from utilities.runtime import Runtime
from utilities.types import Batch, ModelOutput


class Network(nn.Module):
    """Embeds an image by a linear function of its pixels, behind a trunk that may be frozen."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head = nn.Linear(12, 6), nn.Linear(6, 3)

    def forward(self, images: torch.Tensor) -> ModelOutput:
        features = self.trunk(images.flatten(1))
        return ModelOutput(self.head(features), features, features[:, :, None, None])

    def train_trunk(self, enabled: bool) -> None:
        self.trunk.requires_grad_(enabled)


class Convolution(nn.Module):
    """A convolution and a head of images [B, 3, H, W], with what is asked for between them."""

    def __init__(self, between: nn.Module):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 5, 3), between)
        self.head = nn.Linear(5, 5)

    def forward(self, images: torch.Tensor) -> ModelOutput:
        feature_map = self.trunk(images)
        features = feature_map.mean((2, 3))
        embeddings = nn.functional.normalize(self.head(features), dim=1)
        return ModelOutput(embeddings, features, feature_map)

    def train_trunk(self, enabled: bool) -> None:
        self.trunk.requires_grad_(enabled)


class Spread(nn.Module):
    """The mean square of embeddings around a learned centre."""

    def __init__(self):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(3))

    def forward(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        return (output.embeddings - self.centre).square().mean()

    def is_mined(self) -> bool:
        return False

    def reads(self) -> set[str]:
        return {"embeddings"}


class Guide(nn.Module):
    """Another loss of the same embeddings, which counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, embeddings, labels, indices) -> torch.Tensor:
        self.calls += 1
        return (embeddings.sum(1) - indices).abs().mean()

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(self.calls)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.calls = int(state)


def batch(seed: int) -> Batch:
    images = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    return Batch(images, torch.tensor([0, 0, 1, 1]), torch.tensor([3, 1, 0, 2]))


def learner(
    seed: int = 0,
    guide: bool = True,
    warmup: int = 0,
    clip_gradient: float = 0.0,
    rise: int = 0,
    micro_batch: int = 0,
    ema: float = 0.0,
) -> Learner:
    torch.manual_seed(seed)
    network, criterion = Network(), Spread()
    groups = [
        {"params": list(network.parameters()), "lr": 0.1, "name": "network"},
        {"params": [criterion.centre], "lr": 0.01, "name": "centre"},
    ]
    optimizer = optimizers.select("adam", [group | {"weight_decay": 0.01} for group in groups])
    schedule = schedules.select("step", optimizer, schedules.Course(5, tau=[2], gamma=0.5))
    return Learner(
        network,
        criterion,
        Updates(optimizer, schedule, clip_gradient, rise, ema),
        runtime=Runtime(),
        guidance=WeightedGuide(Guide(), 0.5) if guide else None,
        warmup=warmup,
        micro_batch=micro_batch,
    )


def weights(of: Learner) -> list[torch.Tensor]:
    return [*of.network.parameters(), *of.criterion.parameters()]
