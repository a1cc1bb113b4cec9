"""All embeddings of a split, in its order."""

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from tqdm import tqdm

from utilities.types import Batch


@torch.inference_mode()
def outputs(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    evaltypes: list[str],
    device: torch.device,
    autocast: torch.autocast,
    channels_last: bool = False,
    title: str = "",
) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Of each batch the positions [B] of its samples and evaltype -> [B, D] float32, on the network's device.

    Args:
        evaltypes: of `embeds` and `avg_features`.
    """
    network.eval()
    for batch in tqdm(batches, desc=f"Embedding {title}".strip(), leave=False):
        images, _, indices = batch.to(device, channels_last)
        with autocast:
            output = network(images)
        parts = {"embeds": output.embeddings, "avg_features": output.features}
        yield indices, {evaltype: parts[evaltype].float() for evaltype in evaltypes}


@torch.inference_mode()
def embed(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    count: int,
    evaltypes: list[str],
    device: torch.device,
    keep_on: torch.device | None = None,
    **embedding,
) -> dict[str, torch.Tensor]:
    """evaltype -> [N, D] float32, row i for sample i whatever the order of the batches.

    Args:
        count: N. keep_on: device of the result, by default that of the network; the CPU gets it as
            pinned memory from a GPU.
        embedding: further arguments of `outputs`.
    Raises:
        RuntimeError: a sample that no batch held.
    """
    keep_on = keep_on or device
    rows: dict[str, torch.Tensor] = {}
    seen = torch.zeros(count, dtype=torch.bool, device=keep_on)
    for indices, parts in outputs(
        network, batches, evaltypes=evaltypes, device=device, **embedding
    ):
        places = indices.to(keep_on)
        for evaltype, part in parts.items():
            if evaltype not in rows:
                rows[evaltype] = torch.empty(
                    count, part.shape[1], device=keep_on, pin_memory=keep_on.type != device.type
                )
            rows[evaltype].index_copy_(0, places, part.to(keep_on))
        seen[places] = True
    if not seen.all():
        raise RuntimeError(f"{int((~seen).sum())} of {count} samples were never embedded")
    return rows
