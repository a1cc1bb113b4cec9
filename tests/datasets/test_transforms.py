"""Augmentations and the evaluation transform, beside Pillow and torchvision."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as reference
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from datasets import transforms
from datasets.decoding import Pixels, Source
from utilities.types import PixelBatch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEVEL = 1 / 255 / min(STD)  # one step of a pixel, after normalisation
NAMES = ["base", "adv", "big", "red"]


def picture(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([128 + 100 * np.sin(x / 9), 128 + 100 * np.cos(y / 7), (x + y) % 256], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def source(image: Image.Image) -> Source:
    pixels = Pixels(torch.from_numpy(np.array(image)))
    return Source(image.height, image.width, lambda reduction, rows: pixels)


def normalised(crop: torch.Tensor, mirrored: bool = False, mean=MEAN, std=STD) -> torch.Tensor:
    """[N, N, 3] as the device makes it: float [3, N, N]."""
    zero = torch.zeros(1, dtype=torch.long)
    rows = torch.arange(int(mirrored))
    batch = PixelBatch(crop[None].permute(0, 3, 1, 2), zero, zero, rows, mean, std)
    return batch.to(torch.device("cpu")).images[0]


@pytest.mark.parametrize("image_size, short, big", [(224, 256, 256), (96, 110, 110), (64, 73, 73)])
def test_sizes(image_size, short, big):
    assert transforms.short_side(image_size) == short
    assert transforms.crop_size("big", image_size) == big
    assert {transforms.crop_size(name, image_size) for name in ("base", "adv", "red")} == {
        image_size
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(150, 100), (40, 60), (96, 96), (1, 200), (1, 1)])
def test_training_and_evaluation_agree_on_the_size(name, shape):
    size = transforms.crop_size(name, 96)
    for build in (transforms.training, transforms.evaluation):
        found = build(name, 96, MEAN, STD).crop(source(picture(*shape)), np.random.default_rng(0))
        assert found.shape == (size, size, 3) and found.dtype == torch.uint8


@pytest.mark.parametrize("name", NAMES)
def test_the_transforms_of_a_run_are_both_of_its_augmentation(name):
    image, pair = picture(150, 130), transforms.select(name, 96, MEAN, STD)
    for crops, build in zip(pair, (transforms.training, transforms.evaluation)):
        expected = build(name, 96, MEAN, STD).crop(source(image), np.random.default_rng(0))
        assert torch.equal(crops.crop(source(image), np.random.default_rng(0)), expected)
    assert pair.training.flips and not pair.evaluation.flips


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name, image_size", [("base", 64), ("base", 224), ("big", 64)])
def test_training_crops_are_torchvisions(name, image_size, mirrored):
    """RandomResizedCrop, flip, ToTensor and Normalize, given where the crop lies."""
    crops, image = transforms.training(name, image_size, MEAN, STD), picture(150, 130)
    for seed in range(20):
        placement = crops.place(130, 150, np.random.default_rng(seed))
        expected = reference.resized_crop(image, *placement.box, [crops.size, crops.size])
        expected = reference.hflip(expected) if mirrored else expected
        expected = reference.normalize(reference.to_tensor(expected), MEAN, STD)
        found = normalised(crops.crop(source(image), np.random.default_rng(seed)), mirrored)
        assert (found - expected).abs().max() <= 1.01 * LEVEL
        assert (found - expected).abs().mean() <= 0.1 * LEVEL


@pytest.mark.parametrize("width, height", [(150, 130), (130, 151), (80, 80), (30, 300)])
@pytest.mark.parametrize("name", ["base", "big"])
def test_evaluation_is_torchvisions(width, height, name):
    image, crops = picture(width, height), transforms.evaluation(name, 96, MEAN, STD)
    cropped = reference.center_crop(reference.resize(image, 110), crops.size)
    expected = reference.normalize(reference.to_tensor(cropped), MEAN, STD)
    found = normalised(crops.crop(source(image), np.random.default_rng(0)))
    assert (found - expected).abs().max() <= 1.01 * LEVEL


@pytest.mark.parametrize("side", [110, 73, 300])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_resized_as_pillow_does(interpolation, side):
    """Black beside white too, where bicubic weights go beyond both."""
    values = np.array(picture(150, 130))
    values[::2, 50:] = np.where(values[::2, 50:] > 128, 255, 0)
    image = Image.fromarray(values)
    pair = transforms.select("red", side, MEAN, STD, interpolation=interpolation)
    short, place = transforms.short_side(side), Image.Resampling[interpolation.upper()]
    expected = np.asarray(image.resize((int(short * 150 / 130), short), place)).astype(int)
    for crops in pair:
        found = crops.crop(source(image), np.random.default_rng(0)).numpy()
        top, left = crops.place(130, 150, np.random.default_rng(0)).corner
        window = expected[top : top + side, left : left + side]
        assert np.abs(found - window).max() <= 1


def test_interpolations_are_not_the_same():
    image = picture(150, 130)
    crops = [
        transforms.evaluation("base", 96, MEAN, STD, each).crop(source(image), None)
        for each in ("bilinear", "bicubic")
    ]
    assert not torch.equal(*crops)


@pytest.mark.parametrize("width, height", [(500, 375), (30, 300), (300, 30)])
def test_crops_are_distributed_as_torchvisions(width, height):
    """Means of area, log ratio, centre, each within five standard errors."""
    torch.manual_seed(0)
    random, count = np.random.default_rng(0), 4000
    place = transforms.training("base", 224, MEAN, STD).place
    image = Image.new("L", (width, height))
    ours = [place(height, width, random).box for _ in range(count)]
    theirs = [RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(count)]
    facts = [
        np.array([(h * w, math.log(w / h), 2 * top + h, 2 * left + w) for top, left, h, w in boxes])
        for boxes in (ours, theirs)
    ]
    error = np.sqrt((facts[0].var(0) + facts[1].var(0)) / count)
    assert (np.abs(facts[0].mean(0) - facts[1].mean(0)) <= 5 * error + 1e-9).all()
    assert all(0 <= top <= height - h and 0 <= left <= width - w for top, left, h, w in ours)


def test_evaluation_is_not_random():
    image, crops = picture(90, 70), transforms.evaluation("adv", 32, MEAN, STD)
    assert torch.equal(
        crops.crop(source(image), np.random.default_rng(0)),
        crops.crop(source(image), np.random.default_rng(1)),
    )
    assert not crops.flips


@pytest.mark.parametrize("name", NAMES)
def test_training_is_random_and_flips(name):
    image, random = picture(120, 120), np.random.default_rng(0)
    crops = transforms.training(name, 32, MEAN, STD)
    found = [crops.crop(source(image), random) for _ in range(5)]
    assert crops.flips and not any(
        torch.equal(first, second)
        for number, first in enumerate(found)
        for second in found[:number]
    )


def test_red_only_crops_the_scaled_image():
    """`red` keeps the scale: every crop is a window of the resized image."""
    image = picture(140, 120)
    scaled = image.resize((int(37 * 140 / 120), 37), Image.Resampling.BILINEAR)
    resized = np.asarray(scaled).astype(int)
    crops = transforms.training("red", 32, MEAN, STD)
    found = crops.crop(source(image), np.random.default_rng(0)).numpy()
    windows = [
        resized[top : top + 32, left : left + 32]
        for top in range(resized.shape[0] - 31)
        for left in range(resized.shape[1] - 31)
    ]
    assert min(np.abs(window - found).max() for window in windows) <= 1


def test_adv_sometimes_is_grey_and_changes_colours():
    image, random = Image.new("RGB", (60, 60), (200, 60, 20)), np.random.default_rng(0)
    colours = {
        name: [
            transforms.training(name, 32, MEAN, STD).crop(source(image), random)[0, 0].int()
            for _ in range(200)
        ]
        for name in ("adv", "base")
    }
    assert all(colour.tolist() == [200, 60, 20] for colour in colours["base"])
    grey = [colour for colour in colours["adv"] if colour.max() - colour.min() <= 2]
    assert 20 <= len(grey) <= 62
    assert len({tuple(colour.tolist()) for colour in colours["adv"]}) > 100


@pytest.mark.parametrize(
    "box, part",
    [
        ((20, 10, 90, 70), (20, 10, 90, 70)),
        ((-5, -5, 400, 300), (0, 0, 150, 130)),
        ((200, 10, 300, 70), (149, 10, 150, 70)),
        ((30, 30, 30, 30), (30, 30, 31, 31)),
    ],
)
def test_a_box_is_all_that_is_seen_of_an_image(box, part):
    """Left, top, right, bottom; what lies outside the image is not there, a pixel at least is."""
    image = picture(150, 130)
    for build in (transforms.training, transforms.evaluation):
        crops = build("base", 64, MEAN, STD)
        found = crops.crop(source(image), np.random.default_rng(0), box)
        assert torch.equal(found, crops.crop(source(image.crop(part)), np.random.default_rng(0)))


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_batch_is_flipped_and_normalised_where_it_is_asked_for(channels_last):
    pixels = torch.randint(
        0, 256, (4, 8, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    batch = PixelBatch(
        pixels.permute(0, 3, 1, 2),
        torch.arange(4),
        torch.arange(4) + 7,
        torch.tensor([1, 3]),
        MEAN,
        STD,
    )
    before = batch.images.clone()
    batch.to(torch.device("cpu"), channels_last)
    found = batch.to(torch.device("cpu"), channels_last)  # a second call does not flip back
    expected = torch.stack(
        [reference.normalize(reference.to_tensor(image.numpy()), MEAN, STD) for image in pixels]
    )
    expected[[1, 3]] = expected[[1, 3]].flip(3)
    torch.testing.assert_close(found.images, expected, atol=1e-5, rtol=0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert found.images.is_contiguous(memory_format=layout)
    mean, std = (255 * torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    assert torch.equal(found.images, batch._normalised_there(mean, std))  # as other devices do it
    assert torch.equal(batch.images, before)
    assert found.labels.tolist() == [0, 1, 2, 3] and found.indices.tolist() == [7, 8, 9, 10]


def test_the_smallest_scale_and_ratio_are_kept():
    random, strength = np.random.default_rng(0), transforms.Strength(0.6, 0.9)
    place = transforms.training("base", 32, MEAN, STD, strength).place
    boxes = np.array([place(300, 300, random).box for _ in range(300)])
    areas, ratios = boxes[:, 2] * boxes[:, 3] / 300**2, boxes[:, 3] / boxes[:, 2]
    assert 0.59 < areas.min() < 0.65 and 0.89 < ratios.min() < 0.93
    assert 1.07 < ratios.max() < 1 / 0.89


@pytest.mark.parametrize("name", ["base", "adv"])
@pytest.mark.parametrize(
    "strength", [transforms.Strength(color_jitter=0.4), transforms.Strength(rand_augment=9)]
)
def test_stronger_augmentation_depends_on_the_given_numbers_alone(name, strength):
    image = picture(120, 100)
    crops, plain = (
        transforms.training(name, 32, MEAN, STD, each) for each in (strength, transforms.PAPER)
    )
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    torch.rand(1)
    found = [crops.crop(source(image), np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(1), expected[1:])  # torch's own stream goes on as it was
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert found[0].shape == (32, 32, 3) and found[0].dtype == torch.uint8
    without = plain.crop(source(image), np.random.default_rng(0))
    is_changed = strength.rand_augment > 0 or name == "base"
    assert torch.equal(found[0], without) != is_changed
