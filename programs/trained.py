"""A trained network, from a checkpoint alone: what embed, search and export begin with.

From own code:

    from programs.trained import load

    rows = load("Training_Results/shapes/demo_guided_s0").embed("photos")
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import architectures
import parameters
from architectures import EmbeddingNetwork
from datasets import loading, transforms
from datasets.images import ImageSplit
from datasets.transforms import Crops
from evaluation.embedding import outputs
from evaluation.large_search import comparable
from programs.constants import DEVICES, EVALTYPES, PRECISIONS
from programs.embedding_file import Source
from programs.images import GivenImage, given
from utilities import checkpoints
from utilities.choices import one_of
from utilities.errors import UserError
from utilities.flags import abridged
from utilities.run_folder import absent_checkpoint, checkpoint_at
from utilities.runtime import Runtime, select_device, use_own_cores

LOG = logging.getLogger(__name__)
# Beside the weights, what an embedding depends on.
SHAPING = ("arch", "embed_dim", "augmentation", "image_size")
# The same, with what runs did that were made before they could say it.
SHAPING_SINCE = {"exif_orientation": "ignore", "interpolation": "bilinear"}
FLAG = "CHECKPOINT"


@dataclass(frozen=True, eq=False)
class Trained:
    """The network of a run, and how it sees images.

    Attributes:
        network: in evaluation mode, on the runtime's device. transform: how it sees images.
        settings: of the run. identity: a digest that two checkpoints share if they embed alike.
        stage: how far it had been trained, "after 2 epochs".
    """

    network: EmbeddingNetwork
    transform: Crops
    settings: dict
    identity: str
    runtime: Runtime
    stage: str

    def embed(
        self,
        images: GivenImage | Iterable[GivenImage],
        evaltype: str = "embeds",
        *,
        batch_size: int = 112,
        workers: int = 0,
    ) -> np.ndarray:
        """Embeddings [N, D] float32 of images, row i of the i-th.

        The rows of `embeds` have length 1 where the network's architecture normalises.

        Args:
            images: a file, a folder (all images below it, sorted by path), a Pillow image, or any
                number of these. `~` is the home folder.
            evaltype: embeds, or avg_features, the pooled features below.
            workers: processes that read images; 0 reads in this one.
        Raises:
            UserError: a path without image, an image that cannot be read, or one whose
                embedding is not finite.
        """
        split = given(images)
        nothing = np.empty((0, self.dimension(evaltype)), dtype=np.float32)
        blocks = self.blocks(split, evaltype, batch_size=batch_size, workers=workers)
        return np.concatenate([nothing, *blocks])

    def blocks(
        self, split: ImageSplit, evaltype: str = "embeds", *, batch_size: int, workers: int
    ) -> Iterator[np.ndarray]:
        """The rows [B, D] float32 of each batch of a split's images, in their order.

        Raises UserError for an image that cannot be read, and for numbers that are not finite.
        """
        batches = loading.evaluation_batches(
            split.seen(oriented=self.oriented()).with_transform(self.transform),
            batch_size=batch_size,
            workers=workers,
            pin=self.runtime.pins_batches,
        )
        title = f"{len(split):,} images"
        for places, rows in outputs(
            self.network, batches, evaltypes=[evaltype], runtime=self.runtime, title=title
        ):
            block = rows[evaltype].cpu().numpy()
            self.require_finite(block, [split.files[place] for place in places.tolist()])
            yield block

    def require_finite(self, rows: np.ndarray, files: list[str]) -> None:
        """Raises UserError, naming the first image, for rows [B, D] that mean nothing."""
        is_comparable = comparable(rows)
        if is_comparable.all():
            return
        cause = "the training has diverged; take an earlier checkpoint"
        if self.runtime.precision != "fp32":
            cause = (
                "the number format overflows, or the training has diverged; try --precision fp32"
            )
        file = files[int(is_comparable.argmin())]
        raise UserError(
            f"{FLAG}: the embedding of the image {file} is not finite in "
            f"--precision {self.runtime.precision}, or too large for distances: {cause}."
        )

    def oriented(self) -> bool:
        """Whether EXIF orientation is applied."""
        return self.settings["exif_orientation"] == "apply"

    def require_finite_weights(self) -> None:
        """Raises UserError for weights that give no embedding."""
        for name, weights in self.network.state_dict().items():
            if not weights.isfinite().all():
                raise UserError(
                    f"{FLAG}: its weights {name} are not finite: the training has diverged; take "
                    "an earlier checkpoint."
                )

    def dimension(self, evaltype: str) -> int:
        """D of an evaltype. Raises ValueError for one that there is not."""
        is_embedding = one_of("evaltype", evaltype, EVALTYPES) == "embeds"
        return self.network.head.out_features if is_embedding else self.network.feature_dim

    def source(self, split: ImageSplit, evaltype: str = "embeds") -> Source:
        """What a file of the split's embeddings says of them."""
        return Source(
            [os.path.abspath(file) for file in split.files],
            split.labels.astype(np.int64),
            split.class_texts,
            self.identity,
            evaltype,
        )


def load(
    run: str | os.PathLike, device: str = "auto", *, gpu: int = 0, precision: str = "fp32"
) -> Trained:
    """The network of a checkpoint, or of a run folder's last one; of `--ema` the averaged one.

    Args:
        device: auto, the GPU if there is one, or cpu or cuda. gpu: its index.
        precision: number format of the network: fp32, bf16 or fp16.
    Raises:
        UserError: a missing file, one that is no checkpoint, or an absent GPU.
        ValueError: another device or precision.
    """
    if device not in DEVICES:
        raise ValueError(f"device must be {', '.join(DEVICES)}, not {device!r} (gpu is its index)")
    one_of("precision", precision, PRECISIONS)
    path = checkpoint_at(os.fspath(run))
    if not path.is_file():
        raise UserError(f"{FLAG} {run}: {absent_checkpoint(run)}")
    use_own_cores()
    runtime = Runtime(select_device(device, [gpu]), precision)
    checkpoint = checkpoints.load(path, FLAG)
    if checkpoint.within:
        LOG.info("%s is of a run that was left within an epoch, %s.", path, checkpoint.stage())
    settings = SHAPING_SINCE | checkpoint.settings
    if missing := [name for name in SHAPING if name not in settings]:
        raise UserError(
            f"{FLAG} {path} does not say its {', '.join(missing)}; it is of another version of "
            "this program."
        )
    _require_possible(path, settings)
    augmentation, image_size = settings["augmentation"], settings["image_size"]
    network = _network(path, settings)
    checkpoints.restore({checkpoint.evaluated: network}, checkpoint, FLAG)
    network.merge_adapters()
    transform = transforms.evaluation(
        augmentation, image_size, network.mean, network.std, settings["interpolation"]
    )
    network.to(runtime.device).eval()
    identity = _identity(checkpoint, settings)
    return Trained(network, transform, settings, identity, runtime, checkpoint.stage())


def _network(path: Path, settings: dict[str, Any]) -> EmbeddingNetwork:
    """That of the settings, with random weights.

    Raises UserError for a trunk that there is not, whose folder may have been left behind.
    """
    try:
        return architectures.select(
            settings["arch"],
            embed_dim=settings["embed_dim"],
            pretrained=False,
            weights_file=None,
            image_size=transforms.crop_size(settings["augmentation"], settings["image_size"]),
            adapters=_adapters(settings),
        )
    except UserError as error:
        raise UserError(f"{FLAG} {path} cannot be used without its trunk: {error}") from error


def _require_possible(path: Path, settings: dict[str, Any]) -> None:
    """Raises UserError for a checkpoint whose settings no run can have had."""
    for name in (*SHAPING, *SHAPING_SINCE):
        flag, value = parameters.BY_NAME[name], settings[name]
        try:
            problems = flag.problems(flag.read(value))
        except (TypeError, ValueError, OverflowError):
            problems = [f"{abridged(value, of=repr)} is not {flag.expected}"]
        if problems:
            raise UserError(
                f"{FLAG} {path} is damaged or of another program; among its settings, --{name}: "
                f"{problems[0].rstrip('.')}."
            )


def _adapters(settings: dict) -> architectures.LowRank | None:
    rank = settings.get("lora_rank", 0)  # which older runs do not say
    return architectures.LowRank(rank, settings["lora_alpha"]) if rank else None


def _identity(checkpoint: checkpoints.Checkpoint, settings: dict) -> str:
    """Options that are off are no part of it: that of a run made before them stays the same."""
    shaping = [settings[name] for name in (*SHAPING, "exif_orientation")]
    if adapters := _adapters(settings):
        shaping.append(adapters)
    if settings["interpolation"] != SHAPING_SINCE["interpolation"]:
        shaping.append(settings["interpolation"])
    digest = hashlib.sha256(json.dumps(shaping).encode())
    for name, tensor in sorted(checkpoint.tensors[checkpoint.evaluated].items()):
        digest.update(name.encode())
        digest.update(tensor.flatten().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
