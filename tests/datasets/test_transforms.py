"""Augmentations and the evaluation transform."""
import numpy as np
import pytest
import torch
from PIL import Image

from datasets import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([128 + 100 * np.sin(x / 9), 128 + 100 * np.cos(y / 7), (x + y) % 256], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("image_size, short, big", [(224, 256, 256), (96, 110, 110), (64, 73, 73)])
def test_sizes(image_size, short, big):
    assert transforms.short_side(image_size) == short
    assert transforms.crop_size("big", image_size) == big
    assert {transforms.crop_size(name, image_size) for name in ("base", "adv", "red")} == {image_size}


@pytest.mark.parametrize("name", ["base", "adv", "big", "red"])
@pytest.mark.parametrize("shape", [(150, 100), (40, 60), (96, 96)])
def test_training_and_evaluation_agree_on_the_size(name, shape):
    torch.manual_seed(0)
    size = transforms.crop_size(name, 96)
    for build in (transforms.training, transforms.evaluation):
        found = build(name, 96, MEAN, STD)(picture(*shape))
        assert found.shape == (3, size, size) and found.dtype == torch.float32


@pytest.mark.parametrize("width, height", [(150, 130), (130, 151), (80, 80)])
@pytest.mark.parametrize("name", ["base", "big"])
def test_evaluation_by_hand(width, height, name):
    image, size = picture(width, height), transforms.crop_size(name, 96)
    scaled = (110, int(110 * height / width)) if width <= height else (int(110 * width / height), 110)
    resized = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    pixels = np.asarray(resized.crop((left, top, left + size, top + size))) / 255
    expected = torch.from_numpy((pixels - MEAN) / STD).permute(2, 0, 1).float()
    torch.testing.assert_close(transforms.evaluation(name, 96, MEAN, STD)(image), expected, atol=1e-5, rtol=0)


def test_evaluation_is_not_random():
    image, transform = picture(90, 70), transforms.evaluation("adv", 32, MEAN, STD)
    assert torch.equal(transform(image), transform(image))


@pytest.mark.parametrize("name", ["base", "adv", "big", "red"])
def test_training_is_random_and_flips(name):
    torch.manual_seed(0)
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 120).astype(np.uint8), (120, 1))).convert("RGB")
    transform = transforms.training(name, 32, MEAN, STD)
    slopes = [(found[0, :, -1] - found[0, :, 0]).mean().item() for found in (transform(ramp) for _ in range(30))]
    assert min(slopes) < 0 < max(slopes) and len(set(slopes)) > 2


def test_red_only_crops_the_scaled_image():
    """`red` keeps the scale: every crop is a window of the resized image, or of its mirror image."""
    torch.manual_seed(0)
    image = picture(140, 120)
    resized = np.asarray(image.resize((int(37 * 140 / 120), 37), Image.Resampling.BILINEAR))
    found = transforms.training("red", 32, (0, 0, 0), (1, 1, 1))(image).mul(255).round().permute(1, 2, 0).numpy()
    windows = [side[top:top + 32, left:left + 32] for side in (resized, resized[:, ::-1])
               for top in range(resized.shape[0] - 31) for left in range(resized.shape[1] - 31)]
    assert min(np.abs(window - found).max() for window in windows) <= 1


def test_adv_sometimes_is_grey_and_base_never():
    torch.manual_seed(0)
    image = Image.new("RGB", (60, 60), (200, 60, 20))
    def grey(name):
        transform = transforms.training(name, 32, (0, 0, 0), (1, 1, 1))
        return sum(bool((found.amax(0) - found.amin(0)).max() < 0.02) for found in (transform(image) for _ in range(60)))
    assert 3 <= grey("adv") <= 25 and grey("base") == 0
