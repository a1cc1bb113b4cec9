"""Batches in chunks: the gradients of a single pass, for every objective, whatever is drawn."""

import copy

import pytest
import torch
from every_objective import build, every_form
from small_learner import Convolution, batch, learner, weights
from torch import nn

from criteria import Criterion
from training.chunks import Chunks
from utilities.runtime import Runtime
from utilities.types import ModelOutput

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3])
FIELDS = ("embeddings", "features", "feature_map")


def network_with(between: nn.Module) -> Convolution:
    """In float64, always with the same weights."""
    torch.manual_seed(5)
    return Convolution(between).double()


def images() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(len(LABELS), 3, 5, 5, dtype=torch.float64, generator=random)


def in_chunks(network: Convolution, criterion: Criterion, size: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    reads = {"embeddings", *criterion.reads()}
    chunks = Chunks(network, images(), size, reads=reads, runtime=Runtime())
    loss = criterion(chunks.output, LABELS)
    loss.backward()
    chunks.backward()
    return [loss.detach(), torch.rand(1), *gradients(network, criterion)]


def with_a_graph(network: Convolution, criterion: Criterion, size: int) -> list[torch.Tensor]:
    """The same chunks, whose activations are all kept."""
    torch.manual_seed(1)
    outputs = [network(chunk) for chunk in images().split(size)]
    output = ModelOutput(*(torch.cat(parts) for parts in zip(*outputs)))
    loss = criterion(output, LABELS)
    loss.backward()
    return [loss.detach(), torch.rand(1), *gradients(network, criterion)]


def gradients(*parts: nn.Module) -> list[torch.Tensor]:
    return [each.grad for part in parts for each in part.parameters() if each.grad is not None]


def assert_alike(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    assert len(one) == len(other) > 3
    for ours, expected in zip(one, other):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name, settings", every_form())
def test_gradients_are_those_of_a_single_pass(name, settings):
    network, criterion = network_with(nn.Identity()), build(name, settings).double()
    ours = in_chunks(copy.deepcopy(network), copy.deepcopy(criterion), 4)
    assert_alike(ours, with_a_graph(network, criterion, len(LABELS)))


@pytest.mark.parametrize("size", [1, 4, 11, 20])
@pytest.mark.parametrize("between", [nn.Dropout(0.4), nn.BatchNorm2d(5)], ids=["dropout", "norm"])
def test_what_is_drawn_is_drawn_again_and_a_norm_follows_once(between, size):
    ours, expected = (network_with(copy.deepcopy(between)) for _ in range(2))
    criteria = [build("margin", {}).double() for _ in range(2)]
    assert_alike(in_chunks(ours, criteria[0], size), with_a_graph(expected, criteria[1], size))
    for buffer, value in zip(ours.buffers(), expected.buffers()):
        torch.testing.assert_close(buffer, value)


def test_only_what_losses_read_is_kept():
    network, criterion = network_with(nn.Identity()), build("multisimilarity", {})
    chunks = Chunks(network, images(), 3, reads=criterion.reads(), runtime=Runtime())
    sizes = [len(getattr(chunks.output, field)) for field in FIELDS]
    assert sizes == [len(LABELS), 0, 0]


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_learner_in_chunks_makes_the_step_of_the_whole_batch(warmup):
    whole, ours = learner(warmup=warmup), learner(warmup=warmup, micro_batch=3)
    for each in (whole, ours):
        each.start_epoch(0)
        losses = [each.step(batch(seed)) for seed in range(3)]
        assert set(losses[0]) == {"objective", "guidance", "loss"}
    for one, other in zip(weights(whole), weights(ours)):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
