"""A batch that passes the network in chunks, for batches whose activations do not fit in memory.

Its losses are those of the whole batch. A first pass keeps the outputs and no graph, the losses
give the gradient of the outputs, and a second pass over the chunks carries that on to the weights.

Source: Gao, Zhang, Han, Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", RepL4NLP 2021; for metric learning: Patel, Tolias, Matas, "Recall@k Surrogate Loss with
Large Batches and Similarity Mixup", CVPR 2022.
"""

from collections.abc import Iterable

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from utilities import seeding
from utilities.runtime import Runtime
from utilities.types import ModelOutput, Network


class Chunks:
    """The images of a batch, `size` of them at a time.

    What the network draws at random (dropout, stochastic depth) is the same in both passes. A
    BatchNorm that is not frozen normalises each chunk by itself, and follows each of them once.

    Args:
        images: [B, 3, H, W]. reads: the fields of a ModelOutput that the losses use; the others
            are left empty.
    """

    def __init__(
        self,
        network: Network,
        images: torch.Tensor,
        size: int,
        *,
        reads: Iterable[str],
        runtime: Runtime,
    ):
        self.network, self.runtime = network, runtime
        self.chunks, self.reads = images.split(size), tuple(reads)
        self.streams: list[tuple[torch.Tensor, ...]] = []
        self.output = self._first_pass()

    def _first_pass(self) -> ModelOutput:
        """The outputs of the whole batch, as leaves that get a gradient."""
        parts: dict[str, list[torch.Tensor]] = {field: [] for field in self.reads}
        followed = statistics(self.network)
        before = [buffer.clone() for buffer in followed]
        for images in self.chunks:
            self.streams.append(seeding.streams(images.device))
            with torch.no_grad(), self.runtime.autocast():
                output = self.network(images)
            for field in self.reads:
                parts[field].append(getattr(output, field))
        for buffer, value in zip(followed, before):
            buffer.copy_(value)
        unread = self.chunks[0].new_empty(0)
        leaves = {field: torch.cat(part).requires_grad_() for field, part in parts.items()}
        return ModelOutput(*(leaves.get(field, unread) for field in ModelOutput._fields))

    def backward(self) -> None:
        """Carry the gradient of `output` on to the weights; random streams stay where they are."""
        device = self.chunks[0].device
        after = seeding.streams(device)
        gradients = {field: getattr(self.output, field).grad for field in self.reads}
        size = len(self.chunks[0])
        for number, (images, streams) in enumerate(zip(self.chunks, self.streams)):
            seeding.go_to(streams, device)
            with self.runtime.autocast():
                output = self.network(images)
            rows = slice(number * size, number * size + len(images))
            reached = [
                (getattr(output, field), gradient[rows])
                for field, gradient in gradients.items()
                if gradient is not None and getattr(output, field).requires_grad
            ]
            if reached:
                outputs, output_gradients = zip(*reached)
                torch.autograd.backward(outputs, output_gradients)
        seeding.go_to(after, device)


def statistics(network: Network) -> list[torch.Tensor]:
    """The running statistics of the BatchNorms that are not frozen."""
    assert isinstance(network, torch.nn.Module)
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm) and part.training]
    return [buffer for norm in norms for buffer in norm.buffers()]
