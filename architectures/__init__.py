"""Image -> ModelOutput: `select(arch, ...)` builds a trunk with an embedding head."""

from architectures.classifier import (
    classifier_identity,
    classifier_subset,
    classifier_transform,
    load_classifier,
)
from architectures.embedding_network import (
    EmbeddingNetwork,
    may_be_moved,
    parse_arch,
    require_known,
    select,
)
from architectures.low_rank import LowRank

__all__ = [
    "EmbeddingNetwork",
    "LowRank",
    "classifier_identity",
    "classifier_subset",
    "classifier_transform",
    "load_classifier",
    "may_be_moved",
    "parse_arch",
    "require_known",
    "select",
]
