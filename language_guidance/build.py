"""From a training split to its language guide: everything is encoded once, before training."""
import logging
from collections.abc import Callable, Sized
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from language_guidance import language_models, pseudolabels
from language_guidance.cache import digest, remember
from language_guidance.guide import LanguageGuide, text_similarities

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
    identity: tuple                          # plain values that its logits depend on, a weights file as Path
    load: Callable[[], nn.Module]
    batches: Callable[[nn.Module], Sized]    # Batches of the training images under its own transform


def build(settings: GuidanceSettings, class_texts: list[str], files: list[str], labels: torch.Tensor, *, cache: Path,
          device: torch.device, classifier: Classifier | None = None) -> tuple[LanguageGuide, list[list[str]]]:
    """The guide, and the texts of each class (one for expert names, the ranked pseudolabels for PLG).

    Args:
        class_texts: C expert names. files: N training images. labels: [N] long. cache: folder of encoded texts.
        classifier: needed with `settings.pseudoclass`.
    Raises:
        UserError: a model that can be neither found nor downloaded.
    """
    # First, because a language model that cannot be had should fail before an hour of classification.
    model = language_models.select(settings.model, settings.weights)
    options = {"direction": settings.distill_dir, "shift": settings.shift, "temperature": settings.temp, "delay": settings.delay}
    if not settings.pseudoclass:
        vectors = _encode(model, class_texts, settings.primer, cache, device)
        return LanguageGuide(vectors[:, None], **options).to(device), [[text] for text in class_texts]

    names = pseudolabels.class_names()
    vocabulary = sorted(set(names))
    vectors = _encode(model, vocabulary, settings.primer, cache, device)
    position = {name: index for index, name in enumerate(vocabulary)}
    text_of = torch.tensor([position[name] for name in names])  # [1000] ImageNet class -> row of vectors
    logits = _logits(classifier, files, len(labels), cache, device)
    by_class = text_of[pseudolabels.top_classes(logits, labels, settings.pseudoclass_topk)]
    texts = [[vocabulary[index] for index in row] for row in by_class.tolist()]
    if settings.pseudoclass_level == "class":
        return LanguageGuide(vectors[by_class], **options).to(device), texts
    by_sample = text_of[pseudolabels.top_samples(logits, settings.pseudoclass_topk)]
    return LanguageGuide(vectors[:, None], by_sample, **options).to(device), texts


def class_similarities(settings: GuidanceSettings, class_texts: list[str], *, cache: Path, device: torch.device) -> torch.Tensor:
    """[C, C] similarities of classes by their expert names, for metrics. Raises UserError as `build`."""
    model = language_models.select(settings.model, settings.weights)
    return text_similarities(_encode(model, class_texts, settings.primer, cache, device)[:, None])


def _encode(model: language_models.LanguageModel, texts: list[str], primer: str, cache: Path, device: torch.device) -> torch.Tensor:
    return remember(cache, "text", digest(model.identity, texts, primer),
                    lambda: language_models.encode(model, texts, primer, device))


def _logits(classifier: Classifier, files: list[str], count: int, cache: Path, device: torch.device) -> torch.Tensor:
    stamps = [(file, Path(file).stat().st_size, Path(file).stat().st_mtime_ns) for file in files]

    def compute() -> torch.Tensor:
        network = classifier.load()
        return pseudolabels.classify(network, classifier.batches(network), count=count, device=device)
    return remember(cache, "logits", digest(stamps, *classifier.identity), compute)
