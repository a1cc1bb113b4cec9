"""A CLIP model as a classifier over any words: its image tower beside the texts of its other one.

Of an image and a text the logit is the cosine of their vectors times the model's scale, which is
100 for most trained ones (Radford et al. 2021, section 3.1).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import nn
from torch.nn.functional import normalize

from language_guidance import language_models
from utilities import open_clip_models, text_file
from utilities.errors import UserError
from utilities.open_clip_models import OpenClip
from utilities.paths import expanded

KIND = "clip"
FLAGS = {"flag": "--language_pseudoclass_arch", "file_flag": "--language_pseudoclass_weights"}
# To be raised with any change of the vectors that `ImageTower` gives.
TOWER_VERSION = 1


class ImageTower(nn.Module):
    """Images [B, 3, H, W] -> unit vectors [B, E] times the scale of the model's logits.

    Attributes:
        preprocessing: an image as the tower was trained to see it, [3, H, W].
    """

    def __init__(self, model: Any, preprocessing: Callable[[Image.Image], torch.Tensor]):
        super().__init__()
        self.model, self.preprocessing = model, preprocessing

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        units = normalize(self.model.encode_image(images).float(), dim=1)
        return self.model.logit_scale.exp() * units


class ZeroShot(NamedTuple):
    """An open_clip model and the words that it is to tell apart."""

    source: OpenClip
    words: list[str]

    @property
    def identity(self) -> str:
        """What its vectors of images depend on."""
        return f"{KIND} tower {TOWER_VERSION} {self.source.identity}"

    @property
    def texts(self) -> language_models.LanguageModel:
        """Its side of texts."""
        return language_models.text_tower(self.source)

    def load(self) -> ImageTower:
        """Raises UserError where its weights cannot be had."""
        model = open_clip_models.load(self.source, torch.device("cpu"))
        return ImageTower(model, open_clip_models.preprocessing(model))


def select(arch: str, weights: str | None, vocabulary: str) -> ZeroShot:
    """The classifier of `--language_pseudoclass_arch clip:<model>/<tag or file>`.

    Args:
        weights: a file or folder instead. vocabulary: file of words or phrases, one a line.
    Raises:
        UserError: a model that there is not, or a file without words.
    """
    _, _, name = arch.partition(":")
    source = open_clip_models.of_one_place(name, weights, **FLAGS)
    return ZeroShot(source, read_vocabulary(vocabulary))


def preprocessing(network: nn.Module) -> Callable[[Image.Image], torch.Tensor]:
    """An image as an `ImageTower` was trained to see it, [3, H, W]."""
    if not isinstance(network, ImageTower):
        raise TypeError(f"expected an ImageTower, got {type(network).__name__}")
    return network.preprocessing


def read_vocabulary(file: str) -> list[str]:
    """The different lines of a file that are not empty, in its order."""
    path = Path(expanded(file))
    try:
        lines = text_file.lines_of(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--language_pseudoclass_vocabulary {file} cannot be read "
            f"({getattr(error, 'strerror', None) or error}); expected is a word or phrase a line."
        ) from error
    words = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(words) < 2:
        raise UserError(
            f"--language_pseudoclass_vocabulary {file} has {'one word' if words else 'no words'}; "
            "expected is a word or phrase a line, at least two."
        )
    return words
