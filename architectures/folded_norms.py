"""Frozen BatchNorm as part of the convolution before it: the same function in half the memory.

A BatchNorm in evaluation mode is an affine map of each channel, s x + t with s = scale / sqrt(var +
eps) and t = shift - s mean. Behind a convolution it is the convolution with weights s w and bias t
(Jacob et al., "Quantization and Training of Neural Networks", CVPR 2018, Eq. 14), so that what the
convolution gives need not be kept for the backward pass. All weights learn as before, under the
same names.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from torch import nn
from torch.autograd.graph import Node


class FoldedConv2d(nn.Conv2d):
    """A convolution and the frozen BatchNorm behind it, `norm[0]`, which keeps its own place."""

    norm: list[nn.BatchNorm2d]

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        weight, bias = folded(self, self.norm[0])
        return self._conv_forward(maps, weight, bias)


class FoldedConv2dSame(Conv2dSame):
    """The same with TensorFlow's padding."""

    norm: list[nn.BatchNorm2d]

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        weight, bias = folded(self, self.norm[0])
        shape: Any = (self.stride, self.padding, self.dilation, self.groups)
        return conv2d_same(maps, weight, bias, *shape)


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """Holds the weights; the convolution has applied them."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps


class FoldedBatchNormAct2d(BatchNormAct2d):
    """The same with timm's activation behind it."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(maps))


FOLDED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: FoldedConv2d,
    Conv2dSame: FoldedConv2dSame,
    nn.BatchNorm2d: FoldedBatchNorm2d,
    BatchNormAct2d: FoldedBatchNormAct2d,
}


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [O, I, h, w] and bias [O] of both layers as one convolution."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    bias = torch.addcmul(norm.bias, mean, scale, value=-1)
    return conv.weight * scale[:, None, None, None], bias


class Pair(NamedTuple):
    conv: nn.Module
    norm: nn.Module


def fold(network: nn.Module, images: torch.Tensor) -> None:
    """Fold every frozen BatchNorm of a network that alone reads what a convolution gives.

    Args:
        network: in the mode in which it will train.
        images: [1, 3, H, W], by which its forward pass is followed.
    """
    for pair in _pairs(network, images):
        # In a list, so that the norm's weights keep their one name.
        vars(pair.conv)["norm"] = [pair.norm]
        for layer in pair:
            layer.__class__ = FOLDED[type(layer)]


def _pairs(network: nn.Module, images: torch.Tensor) -> list[Pair]:
    """Convolutions and the frozen BatchNorms that alone read them, each called once.

    They are found in autograd's graph, which has all readers of a tensor.
    """
    makers: dict[Node | None, nn.Module] = {}
    found: list[tuple[Node | None, Pair]] = []
    calls: Counter[nn.Module] = Counter()

    def after_convolution(conv: nn.Module, _: tuple, maps: torch.Tensor) -> None:
        calls[conv] += 1
        makers[maps.grad_fn] = conv

    def before_norm(norm: nn.Module, arguments: tuple) -> None:
        calls[norm] += 1
        node = arguments[0].grad_fn
        if node in makers:
            found.append((node, Pair(makers[node], norm)))

    hooks = []
    for module in network.modules():
        if type(module) in (nn.Conv2d, Conv2dSame):
            hooks.append(module.register_forward_hook(after_convolution))
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d) and _is_fixed_affine(module):
            hooks.append(module.register_forward_pre_hook(before_norm))
    try:
        with torch.enable_grad():
            output = network(images.clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    readers = _readers(output)
    return [
        pair for node, pair in found if readers[node] == calls[pair.conv] == calls[pair.norm] == 1
    ]


def _is_fixed_affine(norm: nn.Module) -> bool:
    known = cast(nn.BatchNorm2d, norm)
    return known.affine and known.running_mean is not None and not norm.training


def _readers(output: Iterable[torch.Tensor]) -> Counter[Node | None]:
    """How often each operation's result is read on the way to an output, and as one."""
    waiting = list({tensor.grad_fn for tensor in output if tensor.grad_fn})
    readers: Counter[Node | None] = Counter(waiting)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node:
                readers[node] += 1
                if readers[node] == 1:
                    waiting.append(node)
    return readers
