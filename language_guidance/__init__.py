"""Language guidance: class texts or pseudolabels -> text embeddings -> the distillation loss.

`build(...)` is the door.
"""

from language_guidance.build import (
    Classifier,
    Guidance,
    GuidanceSettings,
    build,
    class_vectors,
    digests_of_texts,
)
from language_guidance.guide import (
    ContrastiveGuide,
    Guide,
    LanguageGuide,
    SquaredGuide,
    distillation_loss,
)
from language_guidance.overview import Agreement, agreement, class_similarities, nearest_classes
from language_guidance.text_bank import TextBank

__all__ = [
    "Agreement",
    "Classifier",
    "ContrastiveGuide",
    "Guidance",
    "GuidanceSettings",
    "Guide",
    "LanguageGuide",
    "SquaredGuide",
    "TextBank",
    "agreement",
    "build",
    "class_similarities",
    "class_vectors",
    "digests_of_texts",
    "distillation_loss",
    "nearest_classes",
]
