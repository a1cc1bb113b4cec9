"""Whether the space has learnt how classes relate, which is what language guidance is for."""

import torch
from torch.nn.functional import normalize

from metrics.retrieval import EmbeddedSplit

CLASSES = 2000  # of more, so many at even steps: their pairs are two million


def semantic_consistency(split: EmbeddedSplit) -> float:
    """Spearman's rank correlation of class similarities in the images and in language, over all pairs of classes.

    Image side: cosine similarity of the mean embeddings of two classes. Language side: that of
        their texts. Ties get their
    mean rank. A class with a single image is its own mean. 0 for fewer than three classes and where
    a side is constant.
    """
    chosen = (
        torch.linspace(0, len(split.present) - 1, min(len(split.present), CLASSES)).round().long()
    )
    first, second = torch.triu_indices(len(chosen), len(chosen), offset=1)
    if len(first) < 2:
        return 0.0
    means, texts = (
        normalize(split.centroids, dim=1),
        split.text_vectors.double().to(split.centroids.device)[split.present],
    )
    image, text = ((rows[chosen] @ rows[chosen].T)[first, second] for rows in (means, texts))
    return _correlation(_ranks(image), _ranks(text))


def _ranks(values: torch.Tensor) -> torch.Tensor:
    from scipy.stats import rankdata  # here, because it takes two seconds to load

    ranks = torch.from_numpy(rankdata(values.cpu().numpy()))
    return ranks - ranks.mean()


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    scale = first.norm() * second.norm()
    return (first @ second / scale).item() if scale > 0 else 0.0
