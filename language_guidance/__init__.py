"""Language guidance: class texts or pseudolabels -> text embeddings -> the distillation loss. `build(...)` is the door."""
from language_guidance.build import Classifier, GuidanceSettings, build
from language_guidance.guide import LanguageGuide, distillation_loss

__all__ = ["Classifier", "GuidanceSettings", "LanguageGuide", "build", "distillation_loss"]
