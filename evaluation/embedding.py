"""All embeddings of a split, in its order."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from utilities import processes
from utilities.progress import progress
from utilities.runtime import Runtime
from utilities.types import Batch, PixelBatch

Batches = Iterable[Batch | PixelBatch]


@torch.inference_mode()
def outputs(
    network: nn.Module,
    batches: Batches,
    *,
    evaltypes: list[str],
    runtime: Runtime,
    title: str = "",
) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Of each batch the positions [B] of its samples, and evaltype -> [B, D] float32.

    Both lie on the network's device.

    Args:
        evaltypes: of `embeds` and `avg_features`.
    """
    network.eval()
    for batch in progress(batches, f"Embedding {title}".strip()):
        images, _, indices = runtime.place(batch)
        with runtime.autocast():
            output = network(images)
        by_evaltype = {"embeds": output.embeddings, "avg_features": output.features}
        yield indices, {evaltype: by_evaltype[evaltype].float() for evaltype in evaltypes}


@torch.inference_mode()
def embed(
    network: nn.Module,
    batches: Batches,
    *,
    count: int,
    evaltypes: list[str],
    runtime: Runtime,
    keep_on: torch.device | None = None,
    title: str = "",
) -> dict[str, torch.Tensor]:
    """evaltype -> [N, D] float32, row i for sample i whatever the order of the batches.

    Several processes divide the batches, and each gets all rows.

    Args:
        count: N. keep_on: device of the result, by default that of the network; the CPU gets it as
            pinned memory from a GPU.
    Raises:
        RuntimeError: a sample that no batch held.
    """
    keep_on = keep_on or runtime.device
    is_moved = keep_on.type != runtime.device.type
    embeddings: dict[str, torch.Tensor] = {}

    def empty(width: int) -> torch.Tensor:
        """Zeros, to which the rows of other processes are added."""
        return torch.zeros(count, width, device=keep_on, pin_memory=is_moved)

    is_embedded = torch.zeros(count, dtype=torch.bool, device=keep_on)
    for indices, rows_by_evaltype in outputs(
        network, batches, evaltypes=evaltypes, runtime=runtime, title=title
    ):
        places = indices.to(keep_on)
        for evaltype, rows in rows_by_evaltype.items():
            if evaltype not in embeddings:
                embeddings[evaltype] = empty(rows.shape[1])
            embeddings[evaltype].index_copy_(0, places, rows.to(keep_on))
        is_embedded[places] = True
    if runtime.world_size > 1:
        embeddings = _of_all(embeddings, evaltypes, empty)
        processes.add_up([*embeddings.values(), is_embedded := is_embedded.int()])
    if not is_embedded.all():
        missing = int((is_embedded == 0).sum())
        raise RuntimeError(f"{missing} of {count} samples were never embedded")
    return embeddings


def _of_all(
    embeddings: dict[str, torch.Tensor],
    evaltypes: list[str],
    empty: Callable[[int], torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Also for a process to which no batch came."""
    known = [embeddings[name].shape[1] if name in embeddings else 0 for name in evaltypes]
    widths = processes.largest(known)
    return {name: embeddings.get(name, empty(width)) for name, width in zip(evaltypes, widths)}
