"""Training augmentations and the evaluation transform of the paper, on torchvision's v2 transforms."""
from collections.abc import Callable

import torch
from torchvision.transforms import v2


def short_side(image_size: int) -> int:
    """The short side before the crop: 256 for crops of 224, in proportion for others."""
    return round(image_size * 256 / 224)


def crop_size(augmentation: str, image_size: int) -> int:
    """`big` crops nothing away from the resized image."""
    return short_side(image_size) if augmentation == "big" else image_size


def training(augmentation: str, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Callable:
    """PIL image -> [3, N, N] with the named augmentation."""
    size = crop_size(augmentation, image_size)
    steps = {
        "base": [v2.RandomResizedCrop(size)],
        "big": [v2.RandomResizedCrop(size)],
        "adv": [v2.RandomResizedCrop(size), v2.RandomGrayscale(0.2), v2.ColorJitter(0.2, 0.2, 0.2, 0.2)],
        "red": [v2.Resize(short_side(image_size)), v2.RandomCrop(size)],
    }[augmentation]
    return v2.Compose([*steps, v2.RandomHorizontalFlip(), *_to_normalised_tensor(mean, std)])


def evaluation(augmentation: str, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Callable:
    """PIL image -> [3, N, N]: short side to N * 256/224, centre crop."""
    return v2.Compose([v2.Resize(short_side(image_size)), v2.CenterCrop(crop_size(augmentation, image_size)),
                       *_to_normalised_tensor(mean, std)])


def _to_normalised_tensor(mean, std) -> list:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
