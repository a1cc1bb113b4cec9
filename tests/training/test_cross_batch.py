"""The memory of earlier batches: what it holds, and the losses in it against plain loops."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import loops
import pytest
import torch
from every_objective import build, output_of, unit

import criteria
import parameters
from training import CrossBatchMemory

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
BETA = torch.full((4,), 1.2).double()  # as it begins
# Objective -> its settings, and its loop over rows, labels, and triplets or the number of anchors.
MINED: dict[str, tuple[dict[str, Any], Any]] = {
    "contrastive": (
        {"form": "textbook"},
        lambda x, y, t: loops.contrastive(x, y, t, form="textbook"),
    ),
    "triplet": ({}, loops.triplet),
    "margin": ({}, lambda x, y, t: loops.margin(x, y, t, BETA)),
    "quadruplet": (
        {"margin_alpha_2": -9.0},  # the fourth sample is drawn
        lambda x, y, t: loops.quadruplet(x, y, [(*of, None) for of in t]),
    ),
    "snr": ({}, loops.snr),
}
ON_PAIRS = {
    "multisimilarity": loops.multisimilarity,
    "supcon": loops.supcon,
    "circle": loops.circle,
}


def all_triplets(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A miner that leaves nothing out."""
    y = labels.tolist()
    found = [
        (a, p, n)
        for a in range(len(y))
        for p in loops.positives(y, a)
        for n in loops.negatives(y, a)
    ]
    return torch.tensor(found).reshape(-1, 3)


def batches(count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for number in range(count):
        yield unit(6, seed=number), (LABELS + number) % 4


def remembered(count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """In the places of a ring, written down without one."""
    rows = [row for x, y in batches(count) for row in zip(x, y)]
    ring: list = [None] * size
    for place, row in enumerate(rows):
        ring[place % size] = row
    kept = [row for row in ring if row is not None]
    return torch.stack([x for x, _ in kept]), torch.stack([y for _, y in kept])


def memory_of(name: str, size: int, start: int = 0) -> CrossBatchMemory:
    settings = MINED[name][0] if name in MINED else {}
    miner = all_triplets if "miner" in criteria.REGISTRY[name].NEEDS else None
    criterion = build(name, settings, miner).double()
    return CrossBatchMemory(criterion, size, start)


@pytest.mark.parametrize("name", [*MINED, *ON_PAIRS])
def test_losses_and_gradients_are_those_of_a_loop_over_the_anchors_of_the_batch(name):
    memory = memory_of(name, 9)
    for number, (x, y) in enumerate(batches(4)):
        rows = x.clone().requires_grad_()
        loss = memory(output_of(rows), y)
        loss.backward()
        by_hand = x.clone().requires_grad_()
        others, classes = remembered(number, 9) if number else (x[:0], y[:0])
        everything, labels = torch.cat([by_hand, others]), torch.cat([y, classes]).tolist()
        if name in MINED:
            triplets = all_triplets(everything, torch.tensor(labels)).tolist()
            chosen = [tuple(triplet) for triplet in triplets if triplet[0] < 6]
            expected = MINED[name][1](list(everything), labels, chosen)
        else:
            expected = ON_PAIRS[name](list(everything), labels, anchors=6)
        expected.backward()
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(rows.grad, by_hand.grad, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", parameters.ANCHORED)
def test_the_loss_is_the_objective_while_nothing_is_remembered(name):
    memory = memory_of(name, 9, start=2)
    for number, (x, y) in enumerate(batches(4)):
        loss, plain = memory(output_of(x), y), memory.criterion(output_of(x), y)
        assert torch.equal(loss, plain) == (number < 3)


def test_it_holds_the_last_rows_and_begins_after_its_start():
    memory = memory_of("supcon", 9, start=1)
    for x, y in batches(1):
        memory(output_of(x), y)
    assert memory.kept == 0 and memory.rows is None
    memory = memory_of("supcon", 9)
    for x, y in batches(4):
        memory(output_of(x), y)
    state, (rows, labels) = memory.state_dict(), remembered(4, 9)
    assert torch.equal(state["embeddings"], rows) and torch.equal(state["labels"], labels)


def test_of_batches_that_are_larger_the_last_rows_are_kept():
    memory = memory_of("supcon", 4)
    for x, y in batches(1):
        memory(output_of(x), y)
    assert torch.equal(memory.state_dict()["embeddings"], x[-4:])


@pytest.mark.parametrize("made", [0, 1, 3])
def test_a_restored_memory_goes_on_as_the_stored_one(made):
    stored, restored = memory_of("multisimilarity", 9), memory_of("multisimilarity", 9)
    for x, y in batches(made):
        stored(output_of(x), y)
    restored.load_state_dict(deepcopy(stored.state_dict()))
    for x, y in batches(4):
        assert torch.equal(stored(output_of(x), y), restored(output_of(x), y))


@pytest.mark.parametrize("size", [4, 30])
def test_another_size_takes_the_newest_rows(size):
    stored, other = memory_of("supcon", 9), memory_of("supcon", size)
    rows = [row for x, y in batches(3) for row in x]
    for x, y in batches(3):
        stored(output_of(x), y)
    other.load_state_dict(deepcopy(stored.state_dict()))
    assert torch.equal(other.state_dict()["embeddings"], torch.stack(rows[-min(size, 9) :]))
    other(output_of(x), y)
    newest = other.state_dict()["embeddings"]
    assert all(any(torch.equal(row, kept) for kept in newest) for row in x[-size:])


def test_an_objective_of_the_whole_batch_has_no_anchors():
    criterion = build("proxyanchor", {}).double()
    with pytest.raises(NotImplementedError, match="ProxyAnchorLoss has no anchors"):
        criterion(output_of(unit(6)), LABELS, anchors=3)
