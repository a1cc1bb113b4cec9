"""The ImageNet classes that a pretrained classifier sees in the training images (PLG)."""

import logging
from collections.abc import Iterable

import torch
from torch import nn

from utilities.progress import progress
from utilities.types import Batch, PixelBatch

LOG = logging.getLogger(__name__)
# To be raised with any change of how images become logits: what `classify` does, or how a split
# reads images for a transform that is not its own (in full, whatever --decoding says).
LOGITS_VERSION = 1


def class_names() -> list[str]:
    """The 1000 ImageNet classes in timm's order, each by its first synonym.

    Two names stand for two classes each.
    """
    # Imported here, because it takes seconds and a run without pseudolabels does not need it.
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_description(index).split(", ")[0] for index in range(info.num_classes())]


@torch.inference_mode()
def classify(
    classifier: nn.Module,
    batches: Iterable[Batch | PixelBatch],
    *,
    count: int,
    device: torch.device,
) -> torch.Tensor:
    """Logits [N, 1000] of all images in one pass, on the CPU."""
    classifier.eval().to(device)
    logits = torch.empty(0)
    LOG.info("A classifier looks at %d training images for their pseudolabels.", count)
    for batch in progress(batches, "Pseudolabels of the training images"):
        images, _, indices = batch.to(device)
        rows = classifier(images).float().cpu()
        if not len(logits):
            logits = rows.new_empty(count, rows.shape[1])
        logits[indices.cpu()] = rows
    return logits


def top_classes(logits: torch.Tensor, labels: torch.Tensor, topk: int) -> torch.Tensor:
    """[C, topk] ImageNet indices of each label 0..C-1, best first.

    They have the largest mean logits of its images.
    """
    classes = int(labels.max()) + 1
    sums = logits.new_zeros(classes, logits.shape[1]).index_add_(0, labels, logits)
    means = sums / labels.bincount(minlength=classes)[:, None]
    return means.topk(topk, dim=1).indices


def top_samples(logits: torch.Tensor, topk: int) -> torch.Tensor:
    """[N, topk] ImageNet indices of each image, best first."""
    return logits.topk(topk, dim=1).indices
