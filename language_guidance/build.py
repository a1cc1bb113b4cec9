"""From a training split to its language guide: all is encoded once, before training."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from language_guidance import language_models, pseudolabels
from language_guidance.cache import digest, remember
from language_guidance.guide import LanguageGuide
from language_guidance.text_bank import TextBank
from utilities.types import Batch, PixelBatch


class GuidanceSettings(NamedTuple):
    """The `--language_*` flags by name."""

    model: str = "clip"
    weights: str | None = None
    primer: str = "a photo of a {}"
    delay: int = 0
    distill_dir: str = "backward"
    shift: float = 1.0
    temp: float = 1.0
    pseudoclass: bool = False
    pseudoclass_topk: int = 5
    pseudoclass_level: str = "class"


class Classifier(NamedTuple):
    """The pretrained classifier of PLG and the training images, loaded only for new logits."""

    identity: tuple[object, ...]  # plain values that its logits depend on, a weights file as Path
    files: list[str]  # N training images
    boxes: np.ndarray | None  # [N, 4], the part of each image that it sees, or None for all of it
    load: Callable[[], nn.Module]
    batches: Callable[[nn.Module], Iterable[Batch | PixelBatch]]  # under its own transform


class Guidance(NamedTuple):
    """What guides a run."""

    guide: LanguageGuide
    # Of each class: its captions, or the pseudolabels for PLG, in the order of their ranks, or of
    # how many of its images read them where each image has its own.
    texts: list[list[str]]
    times: list[list[int]] | None = None  # how many images of the class read each text, likewise


class _Encoder(NamedTuple):
    """A language model behind a primer, whose vectors are kept on disk."""

    model: language_models.LanguageModel
    primer: str
    cache: Path
    device: torch.device

    def vectors(self, texts: list[str]) -> torch.Tensor:
        """[T, E] float32, on the CPU."""
        key = digest(language_models.ENCODING_VERSION, self.model.identity, texts, self.primer)
        return remember(
            self.cache,
            "text",
            key,
            lambda: language_models.encode(self.model, texts, self.primer, self.device),
            shape=(len(texts), None),
        )


def build(
    settings: GuidanceSettings,
    captions: list[tuple[str, ...]],
    labels: torch.Tensor,
    *,
    cache: Path,
    device: torch.device,
    classifier: Classifier | None = None,
) -> Guidance:
    """The guide of a training split, and the texts that it reads of each class.

    Args:
        captions: what guidance reads of each of C classes, usually one text; the vectors of several
            are normalised and averaged.
        labels: [N] long. cache: folder of encoded texts and of logits.
        classifier: needed with `settings.pseudoclass`.
    Raises:
        UserError: a model that can be neither found nor downloaded.
    """
    encoder = _encoder(settings, cache, device)
    times = None
    if settings.pseudoclass:
        if classifier is None:
            raise ValueError("Pseudolabels need a classifier.")
        bank, texts, times = _pseudolabel_bank(settings, encoder, classifier, labels)
    else:
        bank, texts = _caption_bank(encoder, captions), [list(group) for group in captions]
    guide = LanguageGuide(
        bank,
        direction=settings.distill_dir,
        shift=settings.shift,
        temperature=settings.temp,
        delay=settings.delay,
    )
    return Guidance(guide.to(device), texts, times)


def class_vectors(
    settings: GuidanceSettings,
    captions: list[tuple[str, ...]],
    *,
    cache: Path,
    device: torch.device,
) -> torch.Tensor:
    """[C, E] unit vectors of classes by their captions, for metrics and figures.

    Raises UserError as `build`.
    """
    bank = _caption_bank(_encoder(settings, cache, device), captions)
    return normalize(bank.vectors, dim=1)[bank.assignment[:, 0]]


def _encoder(settings: GuidanceSettings, cache: Path, device: torch.device) -> _Encoder:
    model = language_models.select(settings.model, settings.weights)
    return _Encoder(model, settings.primer, cache, device)


def _caption_bank(encoder: _Encoder, captions: list[tuple[str, ...]]) -> TextBank:
    """One rank: the mean of the unit vectors of a class's captions.

    Classes that read alike share a row: the 11,318 training classes of Stanford Online Products
    have 12 texts.
    """
    groups = list(dict.fromkeys(captions))
    vectors = _group_means(encoder, groups)
    row_of = {group: row for row, group in enumerate(groups)}
    return TextBank(vectors, torch.tensor([row_of[group] for group in captions])[:, None])


def _group_means(encoder: _Encoder, groups: list[tuple[str, ...]]) -> torch.Tensor:
    """[G, E]: the mean of the unit vectors of each group of texts."""
    texts = list(dict.fromkeys(text for group in groups for text in group))
    row_of = {text: row for row, text in enumerate(texts)}
    units = normalize(encoder.vectors(texts), dim=1)
    rows = torch.tensor([row_of[text] for group in groups for text in group])
    sizes = torch.tensor([len(group) for group in groups])
    owners = torch.arange(len(groups)).repeat_interleave(sizes)
    sums = units.new_zeros(len(groups), units.shape[1]).index_add_(0, owners, units[rows])
    return sums / sizes[:, None]


def _pseudolabel_bank(
    settings: GuidanceSettings, encoder: _Encoder, classifier: Classifier, labels: torch.Tensor
) -> tuple[TextBank, list[list[str]], list[list[int]] | None]:
    """The ImageNet classes that the images show, by class or by image; and those of each class.

    By image also how many images of a class read each of its texts.
    """
    names = pseudolabels.class_names()
    vocabulary = sorted(set(names))
    # Before the classification, which may take an hour: a language model that cannot be had
    # should fail first.
    vectors = encoder.vectors(vocabulary)
    row_of = {name: row for row, name in enumerate(vocabulary)}
    text_rows = torch.tensor([row_of[name] for name in names])  # [1000] of ImageNet classes
    logits = _logits(classifier, (len(labels), len(names)), encoder.cache, encoder.device)
    if settings.pseudoclass_level == "class":
        by_class = text_rows[pseudolabels.top_classes(logits, labels, settings.pseudoclass_topk)]
        texts = [[vocabulary[row] for row in ranked] for ranked in by_class.tolist()]
        return TextBank(vectors, by_class), texts, None
    by_image = text_rows[pseudolabels.top_samples(logits, settings.pseudoclass_topk)]
    rows, times = _commonest(by_image, labels, len(vocabulary))
    texts = [[vocabulary[row] for row in of_class] for of_class in rows]
    return TextBank(vectors, by_image, by_image=True), texts, times


def _commonest(
    by_image: torch.Tensor, labels: torch.Tensor, texts: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Of each class the texts of its images, the commonest first, and how many images have each.

    Args:
        by_image: [N, k] rows of texts. labels: [N]. texts: number of all.
    """
    classes = int(labels.max()) + 1
    own = by_image.sort(dim=1).values
    is_other = torch.ones_like(own, dtype=torch.bool)  # two ImageNet classes may have one name
    is_other[:, 1:] = own[:, 1:] != own[:, :-1]
    cells = (labels[:, None] * texts + own)[is_other]
    counts = cells.bincount(minlength=classes * texts).view(classes, texts)
    ordered = counts.sort(dim=1, descending=True, stable=True)
    present = (counts > 0).sum(1).tolist()
    rows = [row[:count] for row, count in zip(ordered.indices.tolist(), present)]
    return rows, [row[:count] for row, count in zip(ordered.values.tolist(), present)]


def _logits(
    classifier: Classifier, shape: tuple[int, int], cache: Path, device: torch.device
) -> torch.Tensor:
    """[N, 1000] of the training images."""

    def compute() -> torch.Tensor:
        network = classifier.load()
        batches = classifier.batches(network)
        return pseudolabels.classify(network, batches, count=shape[0], device=device)

    key = digest(
        pseudolabels.LOGITS_VERSION,
        [_stamp(file) for file in classifier.files],
        None if classifier.boxes is None else classifier.boxes.tolist(),
        *classifier.identity,
    )
    return remember(cache, "logits", key, compute, shape=shape)


def _stamp(file: str) -> tuple[str, int, int]:
    """What changes with the content of a file: its size and its time of change."""
    status = Path(file).stat()
    return file, status.st_size, status.st_mtime_ns
