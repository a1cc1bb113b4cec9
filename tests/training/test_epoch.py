"""An epoch: left after any step and taken up again, it ends as if it had not been."""

import io
import os
import signal
from unittest import mock

import pytest
import torch
from small_learner import batch, learner, weights
from torch._inductor.exc import InductorError

from training import TrainingEpoch
from utilities import signals
from utilities.meters import StepLosses

BATCHES = [batch(number) for number in range(5)]


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def noisy(seed: int = 0):
    """A learner whose steps draw random numbers."""
    ours = learner(seed)
    guide = ours.guide.forward

    def forward(embeddings, labels, indices):
        return guide(embeddings, labels, indices) * torch.rand(())

    ours.guide.forward = forward
    return ours


class Left(Exception):
    """The epoch is left here."""


@pytest.mark.parametrize("left_after", [1, 3, 5])
def test_an_epoch_goes_on_as_it_would_have(left_after):
    whole = noisy()
    expected = TrainingEpoch(whole, 0, seed=7).run(BATCHES)

    first = noisy()
    epoch = TrainingEpoch(first, 0, seed=7)

    def leave() -> None:
        if epoch.steps == left_after:
            raise Left

    with pytest.raises(Left):
        epoch.run(BATCHES, leave)
    assert epoch.is_between_steps and not epoch.is_over
    states = through_a_file({"learner": first.state_dict(), "epoch": epoch.state_dict()})

    second = noisy(1)
    for name, part in second.parts.items():
        part.load_state_dict(states["learner"][name])
    torch.manual_seed(99)  # whatever else has drawn
    again = TrainingEpoch(second, 0, seed=7)
    again.load_state_dict(states["epoch"])
    assert again.steps == left_after
    means = again.run(BATCHES[left_after:])
    assert all(map(torch.equal, weights(whole), weights(second)))
    assert second.schedule.last_epoch == whole.schedule.last_epoch == 1
    assert {name: mean for name, mean in means.items() if name != "time"} == {
        name: mean for name, mean in expected.items() if name != "time"
    }


def test_an_ended_epoch_makes_no_step_again():
    ours = noisy()
    epoch = TrainingEpoch(ours, 0, seed=7)
    means = epoch.run(BATCHES)
    again = TrainingEpoch(ours, 0, seed=7)
    again.load_state_dict(through_a_file(epoch.state_dict()))
    before = [weight.clone() for weight in weights(ours)]
    assert again.is_over and again.run([]) == means
    assert all(map(torch.equal, before, weights(ours))) and ours.schedule.last_epoch == 1


def test_rates_of_an_epoch_are_those_of_its_last_step():
    ours = learner(rise=8)
    names = [group["name"] for group in ours.optimizer.param_groups]
    for number, share in ((0, 5 / 8), (1, 1)):
        epoch = TrainingEpoch(ours, number, seed=7)
        epoch.run(BATCHES)
        assert epoch.rates == pytest.approx(dict(zip(names, [share * 0.1, share * 0.01])))


def test_a_signal_waits_for_the_end_of_the_step():
    ours, steps = noisy(), []
    step = ours.step

    def signalled(batch, seed):
        steps.append("begun")
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        losses = step(batch, seed)
        steps.append("ended")
        return losses

    ours.step = signalled
    epoch = TrainingEpoch(ours, 0, seed=7)
    with pytest.raises(signals.Stopped), signals.answered():
        epoch.run(BATCHES)
    assert steps == ["begun", "ended"] * 2 and epoch.steps == 2 and epoch.is_between_steps


def test_a_step_that_fails_leaves_no_whole_state():
    ours = noisy()
    ours.step = lambda batch, seed: 1 / 0
    epoch = TrainingEpoch(ours, 0, seed=7)
    with pytest.raises(ZeroDivisionError):
        epoch.run(BATCHES)
    assert not epoch.is_between_steps


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_compiler_that_a_signal_ends_too_is_no_failure(number):
    """Ctrl-C comes to the compiler that a step has started as well."""
    ours = noisy()

    def interrupted(batch, seed):
        os.kill(os.getpid(), number)
        raise InductorError(OSError("g++ was ended"), None)

    ours.step = interrupted
    epoch = TrainingEpoch(ours, 0, seed=7)
    with pytest.raises((KeyboardInterrupt, signals.Stopped)), signals.answered():
        epoch.run(BATCHES)
    assert not epoch.is_between_steps


def test_a_compiler_that_fails_by_itself_ends_the_epoch():
    ours = noisy()
    ours.step = mock.Mock(side_effect=InductorError(OSError("no g++"), None))
    with pytest.raises(InductorError), signals.answered():
        TrainingEpoch(ours, 0, seed=7).run(BATCHES)


def test_an_epoch_without_steps_is_seeded_when_it_is_gone_on_with():
    whole, begun = noisy(), noisy()
    expected = TrainingEpoch(whole, 0, seed=7).run(BATCHES)
    torch.manual_seed(99)
    state = through_a_file(TrainingEpoch(begun, 0, seed=7).state_dict())
    again = TrainingEpoch(begun, 0, seed=7)
    again.load_state_dict(state)
    assert again.run(BATCHES)["loss"] == expected["loss"]


def test_losses_of_steps_are_heard_once_wherever_an_epoch_is_left():
    told: list[tuple[int, float]] = []
    sampled = StepLosses(2, len(BATCHES), lambda step, losses: told.append((step, losses["loss"])))
    whole = noisy()
    TrainingEpoch(whole, 1, 7, sampled).run(BATCHES)
    expected, told[:] = list(told), []
    assert [step for step, _ in expected] == [6, 8, 10]

    ours = noisy()
    epoch = TrainingEpoch(ours, 1, 7, sampled)

    def leave() -> None:
        if epoch.steps == 3:
            raise Left

    with pytest.raises(Left):
        epoch.run(BATCHES, leave)
    again = TrainingEpoch(ours, 1, 7, sampled)
    again.load_state_dict(through_a_file(epoch.state_dict()))
    again.run(BATCHES[3:])
    assert told == expected
    unheard = noisy()
    TrainingEpoch(unheard, 1, 7).run(BATCHES)
    assert all(torch.equal(one, other) for one, other in zip(weights(unheard), weights(ours)))
