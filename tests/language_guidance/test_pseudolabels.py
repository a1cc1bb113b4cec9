"""ImageNet classes of the training images."""

from collections import Counter

import pytest
import torch
from torch import nn

from language_guidance import pseudolabels
from utilities.types import Batch


def test_class_names():
    names = pseudolabels.class_names()
    assert len(names) == 1000 and all(names) and not any("," in name for name in names)
    assert {name for name, count in Counter(names).items() if count > 1} == {"crane", "maillot"}
    assert [names[index] for index in (0, 1, 134, 517, 999)] == [
        "tench",
        "goldfish",
        "crane",
        "crane",
        "toilet tissue",
    ]


@pytest.mark.parametrize("subset, count", [("imagenet-12k", 11821), ("imagenet-21k-goog", 21843)])
def test_class_names_of_larger_sets(subset, count):
    """A class of several sets has the same name in each."""
    from timm.data import ImageNetInfo

    names, synsets = pseudolabels.class_names(subset), ImageNetInfo(subset).label_names()
    assert len(names) == len(synsets) == count
    name_of = dict(zip(synsets, names))
    of_1k = dict(zip(ImageNetInfo().label_names(), pseudolabels.class_names()))
    shared = name_of.keys() & of_1k.keys()
    assert len(shared) > 900 and all(name_of[synset] == of_1k[synset] for synset in shared)


def test_top_classes_prefer_logits_to_probabilities():
    logits = torch.tensor([[0.0, 8.0, -90.0], [0.0, 8.0, -90.0], [30.0, 8.0, -90.0]])
    assert logits.mean(0).argmax() == 0 and logits.softmax(1).mean(0).argmax() == 1
    assert pseudolabels.top_classes(logits, torch.zeros(3, dtype=torch.long), 1).tolist() == [[0]]


@pytest.mark.parametrize("topk", [1, 4])
def test_top_classes_against_loops(topk):
    logits = torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 3
    found = pseudolabels.top_classes(logits, labels, topk).tolist()
    for c in range(3):
        images = [row for row, label in zip(logits.tolist(), labels.tolist()) if label == c]
        means = [sum(column) / len(images) for column in zip(*images)]
        assert found[c] == sorted(range(9), key=lambda index: -means[index])[:topk]


def test_top_samples():
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.5, 0.0, -1.0]])
    assert pseudolabels.top_samples(logits, 2).tolist() == [[1, 2], [0, 1]]


class Sums(nn.Module):
    """Logits that name the image, and the wrong ones in training mode."""

    def forward(self, images):
        sums = images.sum((1, 2, 3), keepdim=True)[:, 0, 0]
        sign = -1 if self.training else 1
        return torch.cat([sums, images[:, 0, 0, :2]], 1) * sign


def test_classify_scatters_by_index_in_evaluation_mode():
    images = torch.randn(5, 3, 4, 4)
    batches = [
        Batch(images[rows], torch.zeros(len(rows), dtype=torch.long), torch.tensor(rows))
        for rows in ([4, 0], [2, 1, 3])
    ]
    found = pseudolabels.classify(Sums().train(), batches, count=5, device=torch.device("cpu"))
    with torch.no_grad():
        assert torch.equal(found, Sums().eval()(images))
