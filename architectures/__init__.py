"""Image -> ModelOutput: `select(arch, ...)` builds a timm trunk with an embedding head."""

from architectures.classifier import (
    classifier_identity,
    classifier_subset,
    classifier_transform,
    load_classifier,
)
from architectures.embedding_network import EmbeddingNetwork, parse_arch, require_known, select

__all__ = [
    "EmbeddingNetwork",
    "classifier_identity",
    "classifier_subset",
    "classifier_transform",
    "load_classifier",
    "parse_arch",
    "require_known",
    "select",
]
