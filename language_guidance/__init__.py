"""Language guidance: class texts or pseudolabels -> text embeddings -> the distillation loss.

`build(...)` is the door.
"""

from language_guidance.build import (
    Classifier,
    Guidance,
    GuidanceSettings,
    build,
    class_vectors,
)
from language_guidance.guide import (
    ContrastiveGuide,
    Guide,
    LanguageGuide,
    SquaredGuide,
    distillation_loss,
)
from language_guidance.text_bank import TextBank

__all__ = [
    "Classifier",
    "ContrastiveGuide",
    "Guidance",
    "GuidanceSettings",
    "Guide",
    "LanguageGuide",
    "SquaredGuide",
    "TextBank",
    "build",
    "class_vectors",
    "distillation_loss",
]
