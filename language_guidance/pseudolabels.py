"""The classes that a pretrained classifier sees in the training images (PLG)."""

import logging
from collections.abc import Iterable

import torch
from torch import nn

from utilities import processes
from utilities.progress import progress
from utilities.types import Batch, PixelBatch

LOG = logging.getLogger(__name__)
# To be raised with any change of how images become logits: what `classify` does, or how a split
# reads images for a transform that is not its own (in full, whatever --decoding says).
LOGITS_VERSION = 1


def class_names(subset: str = "imagenet-1k") -> list[str]:
    """The ImageNet classes of one of timm's subsets in its order, each by its first synonym.

    Several may have one name: 2 names of the 1000 classes stand for two each.
    """
    # Imported here, because it takes seconds and a run without pseudolabels does not need it.
    from timm.data import ImageNetInfo

    descriptions = ImageNetInfo(subset).label_descriptions()
    return [description.split(", ")[0] for description in descriptions]


@torch.inference_mode()
def classify(
    classifier: nn.Module,
    batches: Iterable[Batch | PixelBatch],
    *,
    count: int,
    device: torch.device,
) -> torch.Tensor:
    """Outputs [N, V] of all images in one pass, on the CPU; of a classifier its logits.

    Several processes divide the batches, and each gets all outputs.
    """
    classifier.eval().to(device)
    logits = torch.empty(0)
    LOG.info("A classifier looks at %d training images for their pseudolabels.", count)
    for batch in progress(batches, "Pseudolabels of the training images"):
        images, _, indices = batch.to(device)
        rows = classifier(images).float().cpu()
        if not len(logits):
            logits = rows.new_zeros(count, rows.shape[1])
        logits[indices.cpu()] = rows
    (width,) = processes.largest([logits.shape[-1]])
    logits = logits if len(logits) else torch.zeros(count, width)  # no batch came here
    processes.add_up([logits])
    return logits


def class_means(logits: torch.Tensor, labels: torch.Tensor, mean: str = "logits") -> torch.Tensor:
    """[C, V] logits of each label 0..C-1 from those of its images, [N, V].

    Args:
        mean: over what: `logits` as in the paper, or `probabilities`, where an image of which the
            classifier is sure counts no more than one that fits several classes.
    """
    values = logits.softmax(1) if mean == "probabilities" else logits
    classes = int(labels.max()) + 1
    sums = values.new_zeros(classes, values.shape[1]).index_add_(0, labels, values)
    means = sums / labels.bincount(minlength=classes)[:, None]
    return means.log() if mean == "probabilities" else means


def top_classes(
    logits: torch.Tensor, labels: torch.Tensor, topk: int, mean: str = "logits"
) -> torch.Tensor:
    """[C, topk] places of classes of each label 0..C-1, best first, by `class_means`."""
    return class_means(logits, labels, mean).topk(topk, dim=1).indices


def top_samples(logits: torch.Tensor, topk: int) -> torch.Tensor:
    """[N, topk] places of classes of each image, best first."""
    return logits.topk(topk, dim=1).indices


def rank_shares(logits: torch.Tensor, ranked: torch.Tensor) -> torch.Tensor:
    """[R, topk] probabilities of the classes `ranked` [R, topk] among each other."""
    return logits.gather(1, ranked).softmax(1)
