"""The moving average of the weights: by hand, from where it begins, and what it stores."""

from copy import deepcopy

import pytest
import torch
from small_learner import Network, batch, learner

from training.average import Average
from utilities import processes


def test_it_follows_each_step_from_the_weights_at_the_beginning():
    ours = learner(ema=0.75)
    assert ours.average is not None and ours.evaluated is ours.network
    ours.start_epoch(0)
    expected = ours.network.head.weight.detach().clone()
    for seed in range(3):
        ours.step(batch(seed))
        expected = 0.75 * expected + 0.25 * ours.network.head.weight.detach()
    assert ours.evaluated is ours.average.network
    torch.testing.assert_close(ours.evaluated.head.weight, expected)
    assert not any(part.requires_grad for part in ours.evaluated.parameters())


def test_training_is_as_without_it():
    ours, plain = learner(ema=0.75), learner()
    for each in (ours, plain):
        each.start_epoch(0)
        each.step(batch(0))
    assert torch.equal(ours.network.head.weight, plain.network.head.weight)
    assert "ema" not in plain.parts


def test_statistics_are_averaged_and_counts_taken_over():
    network = torch.nn.BatchNorm1d(2)
    average = Average(network, 0.5)
    average.begin(network)
    network.running_mean += 1
    network.num_batches_tracked += 3
    average.update(network)
    assert average.network.running_mean.tolist() == [0.5, 0.5]
    assert average.network.num_batches_tracked == 3


class Exchange:
    """As a ProcessGroup of torch, of which there are no copies."""

    def __reduce__(self):
        raise TypeError("cannot pickle")


def test_norms_of_several_processes_are_averaged(monkeypatch):
    group = Exchange()
    monkeypatch.setattr(processes, "group_of_gpus", lambda: group)
    norm = torch.nn.SyncBatchNorm(2, process_group=group)
    average = Average(norm, 0.5)
    average.begin(norm)
    norm.running_mean += 1
    average.update(norm)
    assert average.network.running_mean.tolist() == [0.5, 0.5]
    assert average.network.process_group is group


def test_a_layer_at_two_places_is_averaged_once():
    layer = torch.nn.Linear(1, 1)
    network = torch.nn.Sequential(layer, torch.nn.Sequential(layer))
    average = Average(network, 0.5)
    average.begin(network)
    expected = layer.weight.item() + 0.5
    with torch.no_grad():
        layer.weight += 1
    average.update(network)
    assert average.network[0].weight.item() == pytest.approx(expected)


def test_a_stored_average_goes_on_and_one_that_has_not_begun_stores_nothing():
    stored, restored = learner(0, ema=0.75), learner(1, ema=0.75)
    assert stored.state_dict()["ema"] == {}
    stored.start_epoch(0)
    stored.step(batch(0))
    state = deepcopy(stored.state_dict())
    for name, part in restored.parts.items():
        part.load_state_dict(state[name])
    for each in (stored, restored):
        each.start_epoch(1)
        each.step(batch(1))
    assert torch.equal(stored.evaluated.head.weight, restored.evaluated.head.weight)


def test_one_that_a_resumed_run_adds_begins_from_its_weights():
    average, network = Average(Network(), 0.9), Network()
    average.begin(network)
    assert torch.equal(average.network.head.weight, network.head.weight)
