"""Frozen BatchNorm as part of the convolution before it: the same function in half the memory.

A BatchNorm in evaluation mode is an affine map of each channel, s x + t with s = scale / sqrt(var +
eps) and t = shift - s mean. Behind a convolution it is the convolution with weights s w and bias t
(Jacob et al., "Quantization and Training of Neural Networks", CVPR 2018, Eq. 14), so that what the
convolution gives need not be kept for the backward pass. All weights learn as before, under the
same names. Those of all layers are made at once, as many small operations would keep a GPU waiting.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from torch import nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import Node

Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]


class Applied(NamedTuple):
    """Weights [O, I, h, w] and bias [O] of a convolution with its norm."""

    weight: torch.Tensor
    bias: torch.Tensor


class FoldedConv2d(nn.Conv2d):
    """A convolution and the frozen BatchNorm behind it; it is called within `applied`."""

    applied: Applied

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(maps, *self.applied)


class FoldedConv2dSame(Conv2dSame):
    """The same with TensorFlow's padding."""

    applied: Applied

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        shape: Any = (self.stride, self.padding, self.dilation, self.groups)
        return conv2d_same(maps, *self.applied, *shape)


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


class Pair(NamedTuple):
    """A convolution and the frozen BatchNorm that alone reads it."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d

    def learns(self) -> bool:
        own = (self.conv.weight, self.conv.bias, self.norm.weight, self.norm.bias)
        return any(weights is not None and weights.requires_grad for weights in own)


def fold(network: nn.Module, images: torch.Tensor) -> list[Pair]:
    """Fold every frozen BatchNorm of a network that alone reads what a convolution gives.

    Args:
        network: in the mode in which it will train.
        images: [1, 3, H, W], by which its forward pass is followed.
    Returns:
        What was folded, for `applied`.
    """
    pairs = _pairs(network, images)
    for layer in (layer for pair in pairs for layer in pair):
        _become(layer, FOLDED[type(layer)])
    return pairs


@contextmanager
def applied(pairs: Sequence[Pair]) -> Iterator[None]:
    """The convolutions of the pairs have weights and biases, of their present ones and norms."""
    learned = [pair for pair in pairs if pair.learns()]
    fixed = [pair for pair in pairs if not pair.learns()]
    try:
        for some in filter(None, (learned, fixed)):
            for pair, tensors in zip(some, _applied(some)):
                vars(pair.conv)["applied"] = tensors
        yield
    finally:
        for pair in pairs:
            vars(pair.conv).pop("applied", None)


def _become(layer: nn.Module, kind: type[nn.Module]) -> None:
    layer.__class__ = kind


def _applied(pairs: Sequence[Pair]) -> list[Applied]:
    convs, norms = zip(*pairs)
    variances = [norm.running_var for norm in norms]
    inverses = torch._foreach_rsqrt(torch._foreach_add(variances, [norm.eps for norm in norms]))
    tensors = _Fold.apply(
        *(conv.weight for conv in convs),
        *(norm.weight for norm in norms),
        *(norm.bias for norm in norms),
        *(_mean_before_bias(pair) for pair in pairs),
        *inverses,
    )
    return [Applied(*both) for both in zip(*_parts(tensors, 2))]


def _mean_before_bias(pair: Pair) -> torch.Tensor:
    """[O] of what a convolution gives before it adds its bias."""
    assert pair.norm.running_mean is not None
    if pair.conv.bias is None:
        return pair.norm.running_mean
    return pair.norm.running_mean - pair.conv.bias


class _Fold(torch.autograd.Function):
    """Of L layers: s w and t for weights w, with s = scale / deviation and t = shift - s mean."""

    @staticmethod
    def forward(ctx: Any, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """L weights, scales, shifts, means and inverses of deviations -> L weights and biases."""
        weights, scales, shifts, means, inverses = _parts(tensors, 5)
        factors = torch._foreach_mul(scales, inverses)
        biases = torch._foreach_addcmul(shifts, means, factors, value=-1)
        ctx.save_for_backward(*weights, *means, *inverses, *factors)
        return (*torch._foreach_mul(weights, _of_filters(factors)), *biases)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weights, means, inverses, factors = _parts(ctx.saved_tensors, 4)
        of_weights, of_biases = _parts(grads, 2)
        products = torch._foreach_mul(of_weights, weights)
        of_filters = [product.sum((1, 2, 3)) for product in products]
        of_factors = torch._foreach_addcmul(of_filters, means, of_biases, value=-1)
        return (
            *torch._foreach_mul(of_weights, _of_filters(factors)),
            *torch._foreach_mul(of_factors, inverses),
            *of_biases,
            *torch._foreach_neg(torch._foreach_mul(of_biases, factors)),
            *(None for _ in inverses),
        )


def _parts(tensors: Tensors, count: int) -> list[Tensors]:
    """As many lists of as many tensors each."""
    size = len(tensors) // count
    return [tensors[part * size : (part + 1) * size] for part in range(count)]


def _of_filters(factors: Tensors) -> Any:
    """[O, 1, 1, 1] each. torch's types know factors that are tensors as one alone."""
    return [factor.view(-1, 1, 1, 1) for factor in factors]


def _pairs(network: nn.Module, images: torch.Tensor) -> list[Pair]:
    """Convolutions and the frozen BatchNorms that alone read them, each called once.

    They are found in autograd's graph, which has all readers of a tensor.
    """
    makers: dict[Node | None, nn.Conv2d] = {}
    found: list[tuple[Node | None, Pair]] = []
    calls: Counter[nn.Module] = Counter()

    def after_convolution(conv: nn.Module, _: tuple, maps: torch.Tensor) -> None:
        calls[conv] += 1
        makers[maps.grad_fn] = cast(nn.Conv2d, conv)

    def before_norm(norm: nn.Module, arguments: tuple) -> None:
        calls[norm] += 1
        node = arguments[0].grad_fn
        if node in makers:
            found.append((node, Pair(makers[node], cast(nn.BatchNorm2d, norm))))

    hooks = []
    for module in network.modules():
        if type(module) in (nn.Conv2d, Conv2dSame):
            hooks.append(module.register_forward_hook(after_convolution))
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d) and _is_fixed_affine(module):
            hooks.append(module.register_forward_pre_hook(before_norm))
    try:
        # A run draws as if nothing had been followed: paths are dropped at random.
        with torch.enable_grad(), torch.random.fork_rng(devices=()):
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
