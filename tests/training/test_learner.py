"""The learner: a step against the same step by hand, its losses, its state."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from training import Learner, optimizers, schedules, train_epoch
from utilities.meters import NonFiniteLoss
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


class Spread(nn.Module):
    """The mean square of embeddings around a learned centre."""

    def __init__(self):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(3))

    def forward(self, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
        return (output.embeddings - self.centre).square().mean()

    def is_mined(self) -> bool:
        return False


class Guide(nn.Module):
    """Another loss of the same embeddings, which counts its calls."""

    calls: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, embeddings, labels, indices) -> torch.Tensor:
        self.calls += 1
        return (embeddings.sum(1) - indices).abs().mean()


def batch(seed: int) -> Batch:
    images = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    return Batch(images, torch.tensor([0, 0, 1, 1]), torch.tensor([3, 1, 0, 2]))


def learner(seed: int = 0, guide: bool = True, warmup: int = 0) -> Learner:
    torch.manual_seed(seed)
    network, criterion = Network(), Spread()
    groups = [
        {"params": list(network.parameters()), "lr": 0.1, "weight_decay": 0.01},
        {"params": [criterion.centre], "lr": 0.01, "weight_decay": 0.01},
    ]
    optimizer = optimizers.select("adam", groups)
    schedule = schedules.select("step", optimizer, tau=[2], gamma=0.5)
    return Learner(
        network,
        criterion,
        optimizer,
        schedule,
        runtime=Runtime(),
        guide=Guide() if guide else None,
        guide_weight=0.5 if guide else 0.0,
        warmup=warmup,
    )


def weights(of: Learner) -> list[torch.Tensor]:
    return [*of.network.parameters(), *of.criterion.parameters()]


def test_a_step_is_that_of_its_losses_by_hand():
    ours, by_hand = learner(), learner()
    for seed in range(3):
        losses = ours.step(batch(seed))
        images, labels, indices = batch(seed)
        by_hand.optimizer.zero_grad()
        output = by_hand.network(images)
        objective = by_hand.criterion(output, labels)
        guidance = by_hand.guide(output.embeddings, labels, indices)
        loss = objective + 0.5 * guidance
        loss.backward()
        by_hand.optimizer.step()
        assert losses == {"objective": objective, "guidance": guidance, "loss": loss}
        assert list(losses) == ["objective", "guidance", "loss"]
        assert not any(value.requires_grad for value in losses.values())
    assert all(map(torch.equal, weights(ours), weights(by_hand)))


def test_without_a_guide_the_loss_is_the_objective():
    losses = learner(guide=False).step(batch(0))
    assert set(losses) == {"objective", "loss"} and losses["objective"] == losses["loss"]


def test_the_trunk_waits_for_the_end_of_the_warm_up():
    ours = learner(warmup=1)
    before = ours.network.trunk.weight.detach().clone()
    train_epoch(ours, [batch(0)], epoch=0, seed=0)
    assert torch.equal(ours.network.trunk.weight, before)
    train_epoch(ours, [batch(0)], epoch=1, seed=1)
    assert not torch.equal(ours.network.trunk.weight, before)


def test_a_restored_learner_goes_on_as_the_stored_one():
    stored, restored = learner(0), learner(1)
    train_epoch(stored, [batch(0), batch(1)], epoch=0, seed=0)
    state = deepcopy(stored.state_dict())  # as through a file: an optimiser keeps what it is given
    for name, part in restored.parts.items():
        part.load_state_dict(state[name])
    for each in (stored, restored):
        train_epoch(each, [batch(2)], epoch=1, seed=1)
    assert all(map(torch.equal, weights(stored), weights(restored)))
    assert stored.schedule.get_last_lr() == restored.schedule.get_last_lr() == [0.05, 0.005]
    assert stored.guide.calls == restored.guide.calls == 3


def test_an_epoch_gives_the_mean_of_its_losses():
    ours, alike = learner(), learner()
    means = train_epoch(ours, [batch(0), batch(1)], epoch=0, seed=0)
    steps = [alike.step(batch(seed)) for seed in range(2)]
    assert list(means) == ["objective", "guidance", "loss", "time"] and means["time"] > 0
    for name in ("objective", "guidance", "loss"):
        expected = sum(step[name].double() for step in steps) / 2
        assert means[name] == pytest.approx(expected.item(), rel=1e-12)


def test_a_loss_that_is_not_finite_ends_the_epoch():
    broken = batch(0)._replace(images=torch.full((4, 3, 2, 2), torch.nan))
    with pytest.raises(NonFiniteLoss, match="step 2 of epoch 5"):
        train_epoch(learner(), [batch(0), broken], epoch=4, seed=0)


def test_a_constant_schedule_stays():
    optimizer = optimizers.select("adam", [{"params": [nn.Parameter(torch.ones(1))], "lr": 0.1}])
    schedule = schedules.select("none", optimizer, tau=[1], gamma=0.5)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == [0.1]
