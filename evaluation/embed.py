"""All embeddings of a split, in its order."""
from collections.abc import Iterable

import torch
from torch import nn
from tqdm import tqdm

from utilities.types import Batch


@torch.inference_mode()
def embed(network: nn.Module, batches: Iterable[Batch], *, count: int, evaltypes: list[str], device: torch.device,
          autocast: torch.autocast, channels_last: bool = False, title: str = "") -> dict[str, torch.Tensor]:
    """evaltype -> [N, D] float32 on `device`, row i for sample i whatever the order of the batches.

    Args:
        count: N. evaltypes: of `embeds` and `avg_features`.
    Raises:
        RuntimeError: a sample that no batch held.
    """
    network.eval()
    rows: dict[str, torch.Tensor] = {}
    seen = torch.zeros(count, dtype=torch.bool, device=device)
    for batch in tqdm(batches, desc=f"Embedding {title}".strip(), leave=False):
        images, _, indices = batch.to(device, channels_last)
        with autocast:
            output = network(images)
        parts = {"embeds": output.embeddings, "avg_features": output.features}
        for evaltype in evaltypes:
            part = parts[evaltype].float()
            rows.setdefault(evaltype, part.new_empty(count, part.shape[1])).index_copy_(0, indices, part)
        seen[indices] = True
    if not seen.all():
        raise RuntimeError(f"{int((~seen).sum())} of {count} samples were never embedded")
    return rows
