"""All embeddings of a split, in its order."""
from collections.abc import Iterable

import torch
from torch import nn
from tqdm import tqdm

from utilities.types import Batch


@torch.inference_mode()
def embed(network: nn.Module, batches: Iterable[Batch], *, count: int, evaltypes: list[str], device: torch.device, autocast: torch.autocast,
          keep_on: torch.device | None = None, channels_last: bool = False, title: str = "") -> dict[str, torch.Tensor]:
    """evaltype -> [N, D] float32, row i for sample i whatever the order of the batches.

    Args:
        count: N. evaltypes: of `embeds` and `avg_features`.
        keep_on: device of the result, by default that of the network; the CPU gets it as pinned memory from a GPU.
    Raises:
        RuntimeError: a sample that no batch held.
    """
    network.eval()
    keep_on = keep_on or device
    rows: dict[str, torch.Tensor] = {}
    seen = torch.zeros(count, dtype=torch.bool, device=keep_on)
    for batch in tqdm(batches, desc=f"Embedding {title}".strip(), leave=False):
        images, _, indices = batch.to(device, channels_last)
        with autocast:
            output = network(images)
        parts, places = {"embeds": output.embeddings, "avg_features": output.features}, indices.to(keep_on)
        for evaltype in evaltypes:
            part = parts[evaltype].float().to(keep_on)
            if evaltype not in rows:
                rows[evaltype] = torch.empty(count, part.shape[1], device=keep_on, pin_memory=keep_on.type != device.type)
            rows[evaltype].index_copy_(0, places, part)
        seen[places] = True
    if not seen.all():
        raise RuntimeError(f"{int((~seen).sum())} of {count} samples were never embedded")
    return rows
