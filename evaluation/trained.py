"""A trained network and the images that it sees, from a checkpoint alone: what embed, search and export begin with."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from datasets import integrity, loading, scan, transforms
from datasets.images import ImageSplit
from evaluation.embedding import outputs
from evaluation.embedding_file import Source
from utilities import checkpoints
from utilities.errors import UserError
from utilities.runtime import Runtime

# Beside the weights, what an embedding depends on.
SHAPING = ("arch", "embed_dim", "augmentation", "image_size")
NO_CLASS = -1


class Trained(NamedTuple):
    """
    Attributes:
        network: in evaluation mode, on the device. transform: how it sees images.
        settings: of the run. identity: a digest that two checkpoints share if they embed alike.
    """

    network: nn.Module
    transform: transforms.Crops
    settings: dict
    identity: str
    device: torch.device


def load(path: Path, device: torch.device) -> Trained:
    """The network of a checkpoint. Raises UserError for a file that is none."""
    import architectures  # here, because timm takes seconds, which --help need not wait for

    checkpoint = checkpoints.load(path, "CHECKPOINT")
    settings = checkpoint.settings
    if missing := [name for name in SHAPING if name not in settings]:
        raise UserError(
            f"CHECKPOINT {path} does not say its {', '.join(missing)}; it is of another version of this program."
        )
    network = architectures.select(
        settings["arch"],
        embed_dim=settings["embed_dim"],
        pretrained=False,
        weights_file=None,
        image_size=transforms.crop_size(settings["augmentation"], settings["image_size"]),
    )
    checkpoints.restore({"state_dict": network}, checkpoint, "CHECKPOINT")
    transform = transforms.evaluation(
        settings["augmentation"], settings["image_size"], network.mean, network.std
    )
    return Trained(network.to(device).eval(), transform, settings, _identity(checkpoint), device)


def embed(
    trained: Trained,
    split: ImageSplit,
    *,
    evaltype: str = "embeds",
    batch_size: int,
    workers: int,
    precision: str = "fp32",
) -> Iterator[np.ndarray]:
    """The rows [B, D] float32 of each batch of a split's images, in their order. Raises UserError for an image that cannot be read."""
    batches = loading.evaluation_batches(
        split.with_transform(trained.transform), batch_size=batch_size, workers=workers
    )
    for _, rows in outputs(
        trained.network,
        batches,
        evaltypes=[evaltype],
        runtime=Runtime(trained.device, precision),
        title=f"{len(split):,} images",
    ):
        yield rows[evaltype].cpu().numpy()


def source(trained: Trained, split: ImageSplit, evaltype: str = "embeds") -> Source:
    """What a file of the split's embeddings says of them."""
    return Source(
        [os.path.abspath(file) for file in split.files],
        split.labels.astype(np.int64),
        split.class_texts,
        trained.identity,
        evaltype,
    )


def dimension(trained: Trained, evaltype: str) -> int:
    """D of an evaltype."""
    return {
        "embeds": trained.network.head.out_features,
        "avg_features": trained.network.feature_dim,
    }[evaltype]


def images_below(root: str, flag: str) -> ImageSplit:
    """All images of a folder tree, sorted by path. Raises UserError where there are none.

    A class is a folder with images, named by its path below the deepest folder that holds all;
    images directly in `root` have none (NO_CLASS).
    """
    root = os.path.abspath(os.path.expanduser(root))
    folders = scan.tree(root)
    if not folders:
        raise UserError(
            f"{flag} {root}: there is no image in this folder (or no such folder); known are files called *{', *'.join(scan.EXTENSIONS)}."
        )
    classes = [folder for folder in folders if folder != root]
    above = os.path.commonpath([os.path.dirname(folder) for folder in classes]) if classes else root
    labels = {folder: label for label, folder in enumerate(classes)} | {root: NO_CLASS}
    return ImageSplit(
        [file for files in folders.values() for file in files],
        np.repeat(
            [labels[folder] for folder in folders], [len(files) for files in folders.values()]
        ),
        [os.path.relpath(folder, above) for folder in classes],
    )


def whole(split: ImageSplit, flag: str, on_bad_image: str) -> ImageSplit:
    """The images that `--on_bad_image` lets through. Raises UserError, naming the flag that they come from, where none is left."""
    return integrity.readable(split, flag) if on_bad_image == "skip" else split


def files_at(paths: list[str], flag: str) -> list[str]:
    """The images that are named, and all below those that are folders. Raises UserError for a missing one."""
    files: list[str] = []
    for path in map(os.path.expanduser, paths):
        if not os.path.exists(path):
            raise UserError(f"{flag} {path}: there is no such image.")
        files += images_below(path, flag).files if os.path.isdir(path) else [path]
    return files


def unlabelled(files: list[str]) -> ImageSplit:
    """Images of no class."""
    return ImageSplit(files, np.full(len(files), NO_CLASS), [])


def _identity(checkpoint: checkpoints.Checkpoint) -> str:
    digest = hashlib.sha256(json.dumps([checkpoint.settings[name] for name in SHAPING]).encode())
    for name, tensor in sorted(checkpoint.tensors["state_dict"].items()):
        digest.update(name.encode())
        digest.update(tensor.flatten().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
