"""Low-rank adapters beside the linear layers of a trunk, by the optional package peft.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022: of a layer W only B and
A learn in W + alpha / rank B A, and B begins at 0. Merged, the trunk is as it was, with other
weights.
"""

import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from architectures.merging import MARK
from architectures.trunks import Trunk
from utilities.errors import UserError, reason

FLAG = "--lora_rank"


class LowRank(NamedTuple):
    """Columns of A and B, and the factor of their product times the rank."""

    rank: int
    alpha: float


class Attention(nn.Module):
    """nn.MultiheadAttention of tokens [B, T, C] to themselves, with layers that can be adapted.

    torch's own reads its projections as mere tensors.
    """

    def __init__(self, plain: nn.MultiheadAttention):
        super().__init__()
        assert plain.in_proj_weight is not None
        width = plain.embed_dim
        self.heads = plain.num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=plain.in_proj_bias is not None)
        self.proj = nn.Linear(width, width, bias=plain.out_proj.bias is not None)
        self.qkv.weight, self.proj.weight = plain.in_proj_weight, plain.out_proj.weight
        if plain.in_proj_bias is not None:
            self.qkv.bias, self.proj.bias = plain.in_proj_bias, plain.out_proj.bias

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """The attended tokens [B, T, C], and nothing in the place of weights."""
        parts = self.qkv(query).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        queries, keys, values = parts.unbind(2)
        heads = scaled_dot_product_attention(queries, keys, values, attn_mask)
        return self.proj(heads.transpose(1, 2).flatten(2)), None


def insert(trunk: Trunk, adapters: LowRank, arch: str, image_size: int) -> None:
    """Put adapters beside all linear layers that images pass; nothing else of the trunk learns.

    Raises UserError for a trunk without such layers, or where peft is not installed.
    """
    assert isinstance(trunk, nn.Module)
    _open_attention(trunk, image_size)
    linear = {name: part for name, part in trunk.named_modules() if type(part) is nn.Linear}
    names = _called(linear, trunk, image_size)  # some trunks read a layer's weights instead
    if not names:
        raise UserError(
            f"{FLAG} {adapters.rank}: the trunk of --arch {arch} has no linear layers; take a "
            "transformer, or convnext_tiny or a larger one; or leave it out and the whole trunk "
            "learns."
        )
    peft = _peft()
    pattern = "|".join(map(re.escape, names))
    config = peft.LoraConfig(r=adapters.rank, lora_alpha=adapters.alpha, target_modules=pattern)
    trunk.requires_grad_(False)
    peft.inject_adapter_in_model(config, trunk)


def learned(trunk: Trunk) -> list[nn.Parameter]:
    """The adapters' weights."""
    assert isinstance(trunk, nn.Module)
    return [weights for name, weights in trunk.named_parameters() if is_adapter(name)]


def is_adapter(name: str) -> bool:
    """Whether a weight of an adapted trunk is an adapter's."""
    return MARK in name


def merge(trunk: Trunk) -> None:
    """Add what the adapters have learned to the layers beside them, and take the adapters out."""
    assert isinstance(trunk, nn.Module)
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted: dict[str, Any] = {
        name: part for name, part in trunk.named_modules() if isinstance(part, BaseTunerLayer)
    }
    for name, layer in adapted.items():
        layer.merge()
        trunk.set_submodule(name, layer.get_base_layer())


def _open_attention(trunk: nn.Module, image_size: int) -> None:
    """Replace torch's attention, where it is plain, by one whose layers can be adapted.

    Where other tokens ask than answer, as in pooling by attention, it stays.
    """
    plain = {
        name: layer
        for name, layer in trunk.named_modules()
        if isinstance(layer, nn.MultiheadAttention) and _is_plain(layer)
    }
    for name in _called(plain, trunk, image_size, only=_is_of_one_sequence):
        trunk.set_submodule(name, Attention(plain[name]))


def _is_plain(layer: nn.MultiheadAttention) -> bool:
    has_more = layer.bias_k is not None or layer.add_zero_attn or layer.dropout > 0
    return layer.batch_first and layer._qkv_same_embed_dim and not has_more


def _is_of_one_sequence(arguments: tuple[Any, ...]) -> bool:
    """Whether attention is asked for by the tokens that answer it: query, key, value are one."""
    return len(arguments) >= 3 and arguments[0] is arguments[1] is arguments[2]


def _called(
    parts: Mapping[str, nn.Module],
    trunk: Any,
    image_size: int,
    only: Callable[[tuple[Any, ...]], bool] = lambda _: True,
) -> list[str]:
    """Names of those parts of a trunk that are called for an image, with such arguments alone."""
    if not parts:  # most trunks have no attention of torch: an image need not pass for that
        return []
    called: dict[int, bool] = {}

    def note(part: nn.Module, arguments: tuple[Any, ...]) -> None:
        called[id(part)] = called.get(id(part), True) and only(arguments)

    hooks = [part.register_forward_pre_hook(note) for part in parts.values()]
    is_training, _ = trunk.training, trunk.eval()
    with torch.no_grad():
        image = torch.zeros(1, 3, image_size, image_size)
        trunk.forward_head(trunk.forward_features(image), pre_logits=True)
    trunk.train(is_training)
    for hook in hooks:
        hook.remove()
    return [name for name, part in parts.items() if called.get(id(part))]


def _peft() -> ModuleType:
    """The package; raises UserError where it cannot be had."""
    try:
        import peft
    except ImportError as error:
        raise UserError(
            f"{FLAG} needs the package peft ({reason(error)}): pip install peft, or leave it out."
        ) from error
    return peft
