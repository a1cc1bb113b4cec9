"""The gradient of a BatchNorm on the CPU where a map has one image, one row or one column.

Such a map fits several memory layouts, and torch (2.15) takes its gradient by the layout of
another than the gradient has: the values are mixed up without a word. Attention over the cells of a
map gives such gradients.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn


def see_to(norms: Iterable[nn.Module]) -> None:
    """Gradients reach these BatchNorms in the layout of what they gave."""
    for norm in norms:
        norm.register_forward_hook(_see_to_gradient)


def _see_to_gradient(_: nn.Module, __: tuple, maps: torch.Tensor) -> None:
    if maps.requires_grad and maps.ndim == 4 and 1 in (len(maps), *maps.shape[2:]):
        maps.register_hook(partial(_laid_out, maps.stride()))


def _laid_out(strides: tuple[int, ...], gradient: torch.Tensor) -> torch.Tensor:
    return gradient.new_empty_strided(gradient.shape, strides).copy_(gradient)
