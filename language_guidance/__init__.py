"""Language guidance: class texts or pseudolabels -> text embeddings -> the distillation loss. `build(...)` is the door."""

from language_guidance import language_models
from language_guidance.build import Classifier, GuidanceSettings, build, class_vectors
from language_guidance.guide import LanguageGuide, distillation_loss

__all__ = [
    "Classifier",
    "GuidanceSettings",
    "LanguageGuide",
    "build",
    "class_vectors",
    "describe",
    "distillation_loss",
]


def describe() -> dict[str, str]:
    """What each language model is, in a line."""
    return language_models.DESCRIPTIONS
