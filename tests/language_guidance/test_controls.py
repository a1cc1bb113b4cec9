"""Controls: other texts, and nothing else."""

import pytest
import torch

from language_guidance import controls
from language_guidance.text_bank import TextBank


@pytest.mark.parametrize("classes", [2, 3, 50])
def test_no_class_keeps_its_texts(classes):
    donors = controls.shuffled_classes(classes, seed=1)
    assert sorted(donors.tolist()) == list(range(classes))
    assert (donors != torch.arange(classes)).all()


def test_a_shuffle_has_its_own_seed():
    state = torch.get_rng_state()
    found = [controls.shuffled_classes(30, seed).tolist() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2] and torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="two classes"):
        controls.shuffled_classes(1, 0)


def test_texts_of_images_come_from_images_of_the_other_class():
    labels = torch.tensor([1, 0, 1, 2, 0, 1])
    donors = torch.tensor([1, 2, 0])
    shares = torch.rand(6, 1)
    bank = TextBank(torch.randn(6, 4), torch.arange(6)[:, None], by_image=True, shares=shares)
    found = controls.shuffle(bank, donors, labels)
    given = found.assignment[:, 0]
    assert torch.equal(labels[given], donors[labels])
    assert given.tolist() == [3, 0, 3, 1, 2, 3]  # in their order, from the first again
    assert found.shares is not None and torch.equal(found.shares, shares[given])


def test_random_vectors_are_nearly_orthogonal():
    source = controls.unrelated("random", 40, seed=0)
    found = source(torch.arange(40), torch.arange(40))
    off = found[~torch.eye(40, dtype=torch.bool)]
    assert off.abs().mean() < 0.1 and torch.equal(
        found, controls.unrelated("random", 40, seed=0)(torch.arange(40), torch.arange(40))
    )
