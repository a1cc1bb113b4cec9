"""Whether the space has learnt how classes relate, which is what language guidance is for."""

import torch
from torch.nn.functional import normalize

from metrics.retrieval import EmbeddedSplit

CLASSES = 2000  # of more, so many at even steps: their pairs are two million


def semantic_consistency(split: EmbeddedSplit) -> float:
    """Spearman's rank correlation of class similarities in the images and in language.

    It is over all pairs of classes. Image side: cosine similarity of the mean embeddings of two
    classes; a class with a single image is its own mean. Language side: that of their texts. Ties
    get their mean rank. 0 for fewer than three classes and where a side is constant.

    Raises:
        ValueError: a split without text vectors.
    """
    if split.text_vectors is None:
        raise ValueError("semantic_consistency needs the text vectors of the classes")
    present_count = len(split.present)
    chosen = torch.linspace(0, present_count - 1, min(present_count, CLASSES)).round().long()
    first, second = torch.triu_indices(len(chosen), len(chosen), offset=1)
    if len(first) < 2:
        return 0.0
    class_means = normalize(split.centroids, dim=1)
    class_texts = split.text_vectors.double().to(class_means.device)[split.present]
    similarities_in_images = _similarities(class_means[chosen])[first, second]
    similarities_in_texts = _similarities(class_texts[chosen])[first, second]
    return _correlation(_ranks(similarities_in_images), _ranks(similarities_in_texts))


def _similarities(vectors: torch.Tensor) -> torch.Tensor:
    """[C, E] unit vectors -> [C, C] cosine similarities."""
    return vectors @ vectors.T


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """[P] -> [P] float64 on the CPU: ranks less their mean."""
    from scipy.stats import rankdata  # here, because it takes two seconds to load

    ranks = torch.from_numpy(rankdata(values.cpu().numpy()))
    return ranks - ranks.mean()


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Of two centred vectors [P], 0 where one is constant."""
    scale = first.norm() * second.norm()
    return (first @ second / scale).item() if scale > 0 else 0.0
