"""Inception with batch normalisation, the trunk of ProxyNCA and ProxyAnchor among others.

Ioffe and Szegedy, "Batch Normalization", ICML 2015, figure 5, in the form in which Caffe's weights
of it were published for torch (`bn_inception-52deb4733.pth`): block 4c gives 608 channels, where
the figure says 576, and convolutions have biases. The modules have that file's names.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d

from architectures.mean_pooled import MeanPooled

ADDRESS = "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth"
WIDTH = 1024
# Caffe saw blue, green and red in 0..255, around these means.
CAFFE_MEANS = (104.0, 117.0, 128.0)


class Block(NamedTuple):
    """Output channels of a block's four branches, side by side.

    Attributes:
        single: of a 1 x 1 convolution; 0: none, and the block halves the map.
        triple: of a 1 x 1 and a 3 x 3 convolution. double: of a 1 x 1 and two 3 x 3 convolutions.
        projection: of a 1 x 1 convolution behind the pooling; 0: none.
        averages: the pooling is a mean, else a maximum.
    """

    single: int
    triple: tuple[int, int]
    double: tuple[int, int]
    projection: int
    averages: bool

    @property
    def stride(self) -> int:
        return 1 if self.single else 2

    def width(self, inputs: int) -> int:
        """Channels of the output."""
        return self.single + self.triple[1] + self.double[1] + (self.projection or inputs)


BLOCKS = {
    "3a": Block(64, (64, 64), (64, 96), 32, True),
    "3b": Block(64, (64, 96), (64, 96), 64, True),
    "3c": Block(0, (128, 160), (64, 96), 0, False),
    "4a": Block(224, (64, 96), (96, 128), 128, True),
    "4b": Block(192, (96, 128), (96, 128), 128, True),
    "4c": Block(160, (128, 160), (128, 160), 128, True),
    "4d": Block(96, (128, 192), (160, 192), 128, True),
    "4e": Block(0, (128, 192), (192, 256), 0, False),
    "5a": Block(352, (192, 320), (160, 224), 128, True),
    "5b": Block(352, (192, 320), (192, 224), 128, False),
}


class BNInception(MeanPooled):
    """Images [B, 3, H, W] -> a map [B, 1024, H / 32, W / 32], rounded up.

    Images are red, green, blue, normalised by `pretrained_cfg`, which is Caffe's preprocessing
    but for the order of the channels: the module turns that itself.
    """

    num_features = WIDTH
    flat_stages = ("conv1", "conv2", *(f"inception_{name}" for name in BLOCKS))
    pretrained_cfg: ClassVar[dict[str, Any]] = {
        "input_size": (3, 224, 224),
        "interpolation": "bilinear",
        "mean": tuple(mean / 255 for mean in reversed(CAFFE_MEANS)),
        "std": (1 / 255,) * 3,
    }

    def __init__(self) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", 3, 64, kernel=7, stride=2)
        self._add("conv2_3x3_reduce", 64, 64)
        self._add("conv2_3x3", 64, 192, kernel=3)
        width = 192
        for name, block in BLOCKS.items():
            self._add_block(f"inception_{name}", width, block)
            width = block.width(width)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, 1024, h, w]."""
        x = self._unit("conv1_7x7_s2", images.flip(1))
        x = max_pool2d(x, 3, 2, ceil_mode=True)
        x = self._unit("conv2_3x3", self._unit("conv2_3x3_reduce", x))
        x = max_pool2d(x, 3, 2, ceil_mode=True)
        for name, block in BLOCKS.items():
            x = torch.cat(list(self._branches(f"inception_{name}", x, block)), 1)
        return x

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Which parameters are of which depth, as timm's models say it."""
        if coarse:
            return {"stem": r"^conv\d", "blocks": r"^inception_(\d)"}
        numbers = [(rf"^inception_{name}_", (number,)) for number, name in enumerate(BLOCKS)]
        return {"stem": r"^conv\d", "blocks": numbers}

    def _add(self, name: str, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        """A convolution and its BatchNorm."""
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
        self.add_module(name, convolution)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))

    def _add_block(self, name: str, inputs: int, block: Block) -> None:
        if block.single:
            self._add(f"{name}_1x1", inputs, block.single)
        reduced, outputs = block.triple
        self._add(f"{name}_3x3_reduce", inputs, reduced)
        self._add(f"{name}_3x3", reduced, outputs, kernel=3, stride=block.stride)
        reduced, outputs = block.double
        self._add(f"{name}_double_3x3_reduce", inputs, reduced)
        self._add(f"{name}_double_3x3_1", reduced, outputs, kernel=3)
        self._add(f"{name}_double_3x3_2", outputs, outputs, kernel=3, stride=block.stride)
        if block.projection:
            self._add(f"{name}_pool_proj", inputs, block.projection)

    def _unit(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Convolution, BatchNorm, ReLU."""
        return torch.relu(self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x)))

    def _branches(self, name: str, x: torch.Tensor, block: Block) -> Iterator[torch.Tensor]:
        if block.single:
            yield self._unit(f"{name}_1x1", x)
        yield self._unit(f"{name}_3x3", self._unit(f"{name}_3x3_reduce", x))
        first = self._unit(f"{name}_double_3x3_1", self._unit(f"{name}_double_3x3_reduce", x))
        yield self._unit(f"{name}_double_3x3_2", first)
        pooled = _pooled(x, block)
        yield self._unit(f"{name}_pool_proj", pooled) if block.projection else pooled


def _pooled(x: torch.Tensor, block: Block) -> torch.Tensor:
    """3 x 3 windows as Caffe lays them.

    Where the block halves the map they lie without padding, and beyond the end rather than short
    of it. That is one row less than its convolutions give of an odd map, which the published
    network cannot see; there the windows begin outside, too.
    """
    if block.averages:
        return avg_pool2d(x, 3, 1, padding=1)
    if block.stride == 1:
        return max_pool2d(x, 3, 1, padding=1)
    return max_pool2d(x, 3, 2, padding=(x.shape[-2] % 2, x.shape[-1] % 2), ceil_mode=True)
