"""The learner: a step against the same step by hand, its losses, its state."""

import math
from copy import deepcopy

import pytest
import torch
from small_learner import batch, learner, weights
from torch import nn

from training import TrainingEpoch, optimizers, schedules
from utilities.errors import NonFiniteLoss


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


def test_a_long_gradient_is_scaled_to_the_norm_and_a_short_one_is_left():
    clipped, short = learner(clip_gradient=1e-3), learner(clip_gradient=1e3)
    plain = learner()
    for each in (clipped, short, plain):
        each.step(batch(0))
    gradients = [
        torch.cat([part.grad.flatten() for part in weights(each)]) for each in (clipped, plain)
    ]
    assert gradients[0].norm() == pytest.approx(1e-3, rel=1e-3)
    cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0)
    assert cosine == pytest.approx(1, abs=1e-5)
    assert all(map(torch.equal, weights(short), weights(plain)))


def test_without_a_guide_the_loss_is_the_objective():
    losses = learner(guide=False).step(batch(0))
    assert set(losses) == {"objective", "loss"} and losses["objective"] == losses["loss"]


def test_the_trunk_waits_for_the_end_of_the_warm_up():
    ours = learner(warmup=1)
    before = ours.network.trunk.weight.detach().clone()
    TrainingEpoch(ours, 0, 0).run([batch(0)])
    assert torch.equal(ours.network.trunk.weight, before)
    TrainingEpoch(ours, 1, 1).run([batch(0)])
    assert not torch.equal(ours.network.trunk.weight, before)


def test_a_restored_learner_goes_on_as_the_stored_one():
    stored, restored = learner(0), learner(1)
    TrainingEpoch(stored, 0, 0).run([batch(0), batch(1)])
    state = deepcopy(stored.state_dict())  # as through a file: an optimiser keeps what it is given
    for name, part in restored.parts.items():
        part.load_state_dict(state[name])
    for each in (stored, restored):
        TrainingEpoch(each, 1, 1).run([batch(2)])
    assert all(map(torch.equal, weights(stored), weights(restored)))
    assert stored.schedule.get_last_lr() == restored.schedule.get_last_lr() == [0.05, 0.005]
    assert stored.guide.calls == restored.guide.calls == 3


def test_an_epoch_gives_the_mean_of_its_losses():
    ours, alike = learner(), learner()
    means = TrainingEpoch(ours, 0, 0).run([batch(0), batch(1)])
    steps = [alike.step(batch(seed)) for seed in range(2)]
    assert list(means) == ["objective", "guidance", "loss", "time"] and means["time"] > 0
    for name in ("objective", "guidance", "loss"):
        expected = sum(step[name].double() for step in steps) / 2
        assert means[name] == pytest.approx(expected.item(), rel=1e-12)


def test_a_loss_that_is_not_finite_ends_the_epoch():
    broken = batch(0)._replace(images=torch.full((4, 3, 2, 2), torch.nan))
    with pytest.raises(NonFiniteLoss, match="step 2 of epoch 5"):
        TrainingEpoch(learner(), 4, 0).run([batch(0), broken])


def test_a_constant_schedule_stays():
    optimizer = optimizers.select("adam", [{"params": [nn.Parameter(torch.ones(1))], "lr": 0.1}])
    schedule = schedules.select("none", optimizer, schedules.Course(3, tau=[1], gamma=0.5))
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == [0.1]


def test_a_cosine_falls_to_its_floor_and_goes_on_where_it_was():
    def rates(epochs: int, done: int = 0) -> list[float]:
        groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": 0.1}]
        optimizer = optimizers.select("adam", groups)
        schedule = schedules.select("cosine", optimizer, schedules.Course(4, floor=0.2))
        schedules.PlainSchedule(schedule).load_state_dict({"last_epoch": done})
        found = []
        for _ in range(epochs):
            optimizer.step()
            found.append(optimizer.param_groups[0]["lr"])
            schedule.step()
        return found

    shares = [0.2 + 0.8 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(6)]
    assert rates(4) == pytest.approx([0.1 * share for share in shares[:4]])
    assert rates(3, done=3) == pytest.approx([0.1 * shares[3], 0.1 * 0.2, 0.1 * 0.2])


def test_rates_rise_over_the_first_steps_and_a_stored_rise_goes_on():
    made, seen = learner(rise=4), []
    made.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    for seed in range(6):
        made.step(batch(seed))
    assert [rates[0] for rates in seen] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
    assert [rates[1] for rates in seen] == pytest.approx([0.0025, 0.005, 0.0075, *[0.01] * 3])
    assert [group["lr"] for group in made.optimizer.param_groups] == [0.1, 0.01]
    stored, restored = learner(0, rise=4), learner(1, rise=4)
    stored.step(batch(0))
    state = deepcopy(stored.state_dict())
    for name, part in restored.parts.items():
        part.load_state_dict(state[name])
    for each in (stored, restored):
        each.step(batch(1))
    assert all(map(torch.equal, weights(stored), weights(restored)))
    assert "rise" not in learner().state_dict()


@pytest.mark.parametrize(
    ("before", "after", "rate"), [(2, 8, 0.075), (8, 2, 0.1), (2, 6, 0.1), (2, 5, 0.1)]
)
def test_a_rise_of_another_length_counts_all_steps_before_it(before, after, rate):
    """Also those behind a shorter one: the rates do not fall to begin again."""
    stored, restored, seen = learner(rise=before), learner(rise=after), []
    for seed in range(5):
        stored.step(batch(seed))
    restored.rise.load_state_dict(stored.rise.state_dict())
    restored.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"])
    )
    restored.step(batch(5))
    assert seen == pytest.approx([rate])
