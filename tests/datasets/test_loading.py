"""Batches of a loader: content, determinism, and broken images."""
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import loading, transforms
from datasets.images import ImageClass, ImageSplit
from utilities.errors import UserError

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@pytest.fixture
def split(tmp_path) -> ImageSplit:
    """Six noisy images of two classes under a random training transform."""
    files = []
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        files.append(str(tmp_path / f"{number}.png"))
    return ImageSplit.of_classes([ImageClass("a", files[:4]), ImageClass("b", files[4:])], transforms.training("base", 16, MEAN, STD))


def drawn(split, seed: int, workers: int) -> torch.Tensor:
    torch.manual_seed(seed)
    loader = loading.training_loader(split, [[0, 5, 2], [1, 1, 4]], workers=workers)
    return torch.stack([batch.images for batch in loading.Batches(loader, seed)])


def test_every_image_once_in_order(split):
    batches = loading.evaluation_batches(split.with_transform(transforms.evaluation("base", 16, MEAN, STD)), batch_size=4, workers=0)
    found = list(batches)
    assert len(batches) == len(found) == 2
    assert torch.cat([batch.indices for batch in found]).tolist() == list(range(6))
    assert torch.cat([batch.labels for batch in found]).tolist() == [0, 0, 0, 0, 1, 1]
    assert [tuple(batch.images.shape) for batch in found] == [(4, 3, 16, 16), (2, 3, 16, 16)]
    assert found[0].images.dtype == torch.float32 and found[0].labels.dtype == found[0].indices.dtype == torch.long


def test_batches_follow_the_sampler(split):
    loader = loading.training_loader(split, [[0, 5, 2], [1, 1, 4]], workers=0)
    found = list(loading.Batches(loader))
    assert [batch.indices.tolist() for batch in found] == [[0, 5, 2], [1, 1, 4]]
    assert [batch.labels.tolist() for batch in found] == [[0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_seed_fixes_the_augmentation(split, workers):
    assert torch.equal(drawn(split, 1, workers), drawn(split, 1, workers))
    assert not torch.equal(drawn(split, 1, workers), drawn(split, 2, workers))


def test_workers_do_not_draw_from_the_global_stream(split):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loading.evaluation_batches(split, batch_size=4, workers=1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(split, workers):
    Path(split.files[4]).write_bytes(b"no image")
    with pytest.raises(UserError) as error:
        list(loading.evaluation_batches(split, batch_size=3, workers=workers))
    assert split.files[4] in str(error.value)


def test_batches_move_to_a_device_and_layout(split):
    (batch, *_) = loading.evaluation_batches(split, batch_size=4, workers=0)
    moved = batch.to(torch.device("cpu"), channels_last=True)
    assert moved.images.is_contiguous(memory_format=torch.channels_last) and torch.equal(moved.images, batch.images)
