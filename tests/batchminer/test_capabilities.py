"""What a miner can be asked beside its triplets, and that triplets alone are enough."""

import pytest
import torch

import batchminer
import criteria
from utilities.types import Miner, PairMiner, TupleMiner, Tuples

LABELS = torch.tensor([4, 0, 0, 4, 1, 1, 1, 7])
EMBEDDINGS = torch.nn.functional.normalize(
    torch.randn(len(LABELS), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    dim=1,
)


class Recorded:
    """A miner that gives triplets and nothing else, those that it was made with."""

    def __init__(self, triplets: torch.Tensor):
        self.triplets = triplets

    def __call__(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.triplets


class RecordedTuples:
    """One that knows tuples, and does not want to be called."""

    def __init__(self, chosen: Tuples):
        self.chosen = chosen

    def __call__(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        raise AssertionError("tuples were to be had")

    def tuples(self, labels: torch.Tensor) -> Tuples:
        return self.chosen


class RecordedPairs:
    """One that knows pairs, and does not want to be called."""

    def __init__(self, masks: tuple[torch.Tensor, torch.Tensor]):
        self.masks = masks

    def __call__(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        raise AssertionError("pairs were to be had")

    def pairs(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.masks


def value_and_gradient(name: str, miner: Miner) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings = EMBEDDINGS.clone().requires_grad_()
    loss = criteria.select(name, miner=miner)(embeddings, LABELS)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    return loss.detach(), gradient


def miners_that_are(capability: type) -> set[str]:
    return {name for name in batchminer.REGISTRY if isinstance(batchminer.select(name), capability)}


def test_which_miners_give_more_than_triplets():
    assert miners_that_are(TupleMiner) == {"npair"}
    assert miners_that_are(PairMiner) == {"lifted"}
    assert not isinstance(Recorded(LABELS), (TupleMiner, PairMiner))


@pytest.mark.parametrize("form", ["paper", "mc"])
@pytest.mark.parametrize("name", ["npair", "angular"])
def test_triplets_alone_say_the_same_as_tuples(name, form):
    torch.manual_seed(0)
    chosen = batchminer.select("npair", form=form).tuples(LABELS)
    torch.manual_seed(0)
    triplets = batchminer.select("npair", form=form)(EMBEDDINGS, LABELS)
    torch.testing.assert_close(
        value_and_gradient(name, Recorded(triplets)),
        value_and_gradient(name, RecordedTuples(chosen)),
    )


def test_triplets_alone_say_the_same_as_pairs():
    miner = batchminer.select("lifted")
    torch.testing.assert_close(
        value_and_gradient("lifted", Recorded(miner(EMBEDDINGS, LABELS))),
        value_and_gradient("lifted", RecordedPairs(miner.pairs(LABELS))),
    )


@pytest.mark.parametrize(
    "name", [name for name, criterion in criteria.REGISTRY.items() if "miner" in criterion.NEEDS]
)
def test_a_function_of_one_s_own_is_a_miner_for_every_objective(name):
    def first_of_each(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0, 3, 1], [1, 2, 0], [4, 5, 7]])

    embeddings = EMBEDDINGS.clone().requires_grad_()
    loss = criteria.select(name, n_classes=8, miner=first_of_each).double()
    loss(embeddings, LABELS).backward()
    assert embeddings.grad.isfinite().all() and embeddings.grad.any()
