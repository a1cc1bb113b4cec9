"""Weights of a file in which low-rank adapters stand beside the layers: added up, by name."""

from collections.abc import Mapping

import torch

MARK = "lora_"  # within the names of adapters
BASE, COLUMNS, ROWS = "base_layer.", "lora_A.default.weight", "lora_B.default.weight"


def merged(weights: dict[str, torch.Tensor], alpha: float | None) -> dict[str, torch.Tensor]:
    """The weights of the same network without adapters: W + alpha / rank B A.

    Raises ValueError for adapters of a file that does not say their alpha.
    """
    layers = [name.removesuffix(COLUMNS) for name in weights if name.endswith(COLUMNS)]
    if not layers:
        return weights
    if alpha is None:
        raise ValueError("there are adapters in it, and it does not say their --lora_alpha")
    added = {f"{layer}weight": _product(weights, layer, alpha) for layer in layers}
    plain = {name.replace(BASE, ""): tensor for name, tensor in weights.items() if MARK not in name}
    return {
        name: tensor + added[name] if name in added else tensor for name, tensor in plain.items()
    }


def alpha_of(content: object) -> float | None:
    """That of the run that a checkpoint is of; None of any other file."""
    settings = content.get("settings") if isinstance(content, Mapping) else None
    return settings.get("lora_alpha") if isinstance(settings, Mapping) else None


def _product(weights: dict[str, torch.Tensor], layer: str, alpha: float) -> torch.Tensor:
    columns, rows = weights[layer + COLUMNS], weights[layer + ROWS]
    return alpha / len(columns) * (rows @ columns)
