"""From a training split to its language guide: everything is encoded once, before training."""

import logging
from collections.abc import Callable, Sized
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import normalize

from language_guidance import language_models, pseudolabels
from language_guidance.cache import digest, remember
from language_guidance.guide import LanguageGuide

LOG = logging.getLogger(__name__)


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
    """The pretrained classifier of PLG, loaded only if its logits are not in the cache."""

    identity: tuple  # plain values that its logits depend on, a weights file as Path
    load: Callable[[], nn.Module]
    batches: Callable[[nn.Module], Sized]  # Batches of the training images under its own transform


def build(
    settings: GuidanceSettings,
    captions: list[tuple[str, ...]],
    files: list[str],
    labels: torch.Tensor,
    *,
    cache: Path,
    device: torch.device,
    classifier: Classifier | None = None,
) -> tuple[LanguageGuide, list[list[str]]]:
    """The guide, and the texts of each class (its captions, or the ranked pseudolabels for PLG).

    Args:
        captions: what guidance reads of each of C classes, usually one text; the vectors of several
            are normalised and averaged.
        files: N training images. labels: [N] long. cache: folder of encoded texts.
        classifier: needed with `settings.pseudoclass`.
    Raises:
        UserError: a model that can be neither found nor downloaded.
    """
    # First, because a language model that cannot be had should fail before an hour of
    # classification.
    model = language_models.select(settings.model, settings.weights)
    options = {
        "direction": settings.distill_dir,
        "shift": settings.shift,
        "temperature": settings.temp,
        "delay": settings.delay,
    }
    if not settings.pseudoclass:
        alike = list(
            dict.fromkeys(captions)
        )  # classes that read the same share a row: the 11,318 training classes of SOP have 12 texts
        row = {texts: number for number, texts in enumerate(alike)}
        vectors = _mean_vectors(model, alike, settings.primer, cache, device)[:, None]  # [U, 1, E]
        assignment = (
            torch.tensor([row[texts] for texts in captions])[labels][:, None]
            if len(alike) < len(captions)
            else None
        )
        return LanguageGuide(vectors, assignment, **options).to(device), [
            list(texts) for texts in captions
        ]

    names = pseudolabels.class_names()
    vocabulary = sorted(set(names))
    vectors = _encode(model, vocabulary, settings.primer, cache, device)
    position = {name: index for index, name in enumerate(vocabulary)}
    text_of = torch.tensor(
        [position[name] for name in names]
    )  # [1000] ImageNet class -> row of vectors
    logits = _logits(classifier, files, len(labels), cache, device)
    by_class = text_of[pseudolabels.top_classes(logits, labels, settings.pseudoclass_topk)]
    texts = [[vocabulary[index] for index in row] for row in by_class.tolist()]
    if settings.pseudoclass_level == "class":
        return LanguageGuide(vectors[by_class], **options).to(device), texts
    by_sample = text_of[pseudolabels.top_samples(logits, settings.pseudoclass_topk)]
    return LanguageGuide(vectors[:, None], by_sample, **options).to(device), texts


def class_vectors(
    settings: GuidanceSettings,
    captions: list[tuple[str, ...]],
    *,
    cache: Path,
    device: torch.device,
) -> torch.Tensor:
    """[C, E] unit vectors of classes by their captions, for metrics and figures. Raises UserError as `build`."""
    model = language_models.select(settings.model, settings.weights)
    return normalize(_mean_vectors(model, captions, settings.primer, cache, device), dim=1)


def _mean_vectors(
    model: language_models.LanguageModel,
    captions: list[tuple[str, ...]],
    primer: str,
    cache: Path,
    device: torch.device,
) -> torch.Tensor:
    """[U, E]: of each group of captions the mean of its unit vectors."""
    vectors = normalize(
        _encode(model, [text for texts in captions for text in texts], primer, cache, device), dim=1
    )
    sizes = torch.tensor([len(texts) for texts in captions])
    owner = torch.arange(len(captions)).repeat_interleave(sizes)
    return (
        vectors.new_zeros(len(captions), vectors.shape[1]).index_add_(0, owner, vectors)
        / sizes[:, None]
    )


def _encode(
    model: language_models.LanguageModel,
    texts: list[str],
    primer: str,
    cache: Path,
    device: torch.device,
) -> torch.Tensor:
    return remember(
        cache,
        "text",
        digest(model.identity, texts, primer),
        lambda: language_models.encode(model, texts, primer, device),
    )


def _logits(
    classifier: Classifier, files: list[str], count: int, cache: Path, device: torch.device
) -> torch.Tensor:
    stamps = [(file, Path(file).stat().st_size, Path(file).stat().st_mtime_ns) for file in files]

    def compute() -> torch.Tensor:
        network = classifier.load()
        return pseudolabels.classify(
            network, classifier.batches(network), count=count, device=device
        )

    return remember(cache, "logits", digest(stamps, *classifier.identity), compute)
