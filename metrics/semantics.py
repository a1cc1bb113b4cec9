"""Whether the space has learnt how classes relate, which is what language guidance is for."""

import torch
from torch.nn.functional import normalize

from metrics.retrieval import ROWS_AT_ONCE, EmbeddedSplit
from utilities.functional import told_apart

CLASSES = 2000  # of more, so many at even steps: their pairs are two million
SAME = 1e-6  # texts that are nearer by cosine are alike, up to the rounding of float32
EQUAL = 1e-12  # likewise of means of images, which are float64 and in a young space very near


def semantic_consistency(split: EmbeddedSplit) -> float:
    """Spearman's rank correlation of class similarities in the images and in language.

    It is over all pairs of classes. Image side: cosine similarity of the mean embeddings of two
    classes; a class with a single image is its own mean. Language side: that of their texts. Ties
    get their mean rank, also where rounding has parted them. 0 for fewer than three classes and
    where a side is constant.

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
    ranks_in_images = _ranks(told_apart(similarities_in_images, EQUAL))
    return _correlation(ranks_in_images, _ranks(told_apart(similarities_in_texts, SAME)))


def mistake_severity(split: EmbeddedSplit, space: str) -> float:
    """How far in language the wrong first neighbours lie, beside chance: 1 is chance, 0 is best.

    Mean of d(y, f) / e(y) over the queries whose nearest neighbour is of another class: y and f are
    the two classes, d is 1 - cosine of their texts, and e(y) the mean of d(y, .) over all images of
    the gallery that are of another class, so that a space that errs at random has 1. The only image
    of a class counts, as it is always wrong; queries of a class from which no other differs are
    skipped; 0 where nothing is wrong. It says nothing of how many mistakes there are.

    Source: the severity of mistakes of Bertinetto et al., "Making Better Mistakes", CVPR 2020,
    there the height in a hierarchy of the lowest common ancestor.

    Raises:
        ValueError: a split without text vectors.
    """
    if split.text_vectors is None:
        raise ValueError("mistake_severity needs the text vectors of the classes")
    firsts = split.first_neighbours[space]
    asked, found = firsts.mistakes()
    sizes = firsts.gallery_sizes.double()
    texts = split.text_vectors.double().to(sizes.device)[: len(sizes)]
    all_texts = (sizes[:, None] * texts).sum(0)  # [E], the sum over the images of the gallery
    severities = [torch.empty(0, dtype=torch.float64, device=sizes.device)]
    for query_classes, found_classes in zip(asked.split(ROWS_AT_ONCE), found.split(ROWS_AT_ONCE)):
        own, own_sizes = texts[query_classes], sizes[query_classes]
        of_others = (all_texts - own_sizes[:, None] * own) / (sizes.sum() - own_sizes)[:, None]
        by_chance = 1 - (own * of_others).sum(1)
        severities.append(_beside(1 - (own * texts[found_classes]).sum(1), by_chance))
    return _mean_of_known(torch.cat(severities))


def superclass_mistake_severity(split: EmbeddedSplit, space: str) -> float:
    """As `mistake_severity`, with the super-classes in the place of language.

    d(y, f) is 1 where the two classes are of different super-classes, else 0. The only image of a
    class counts, as it is always wrong.

    Raises:
        ValueError: a split without super-classes.
    """
    if split.superclasses is None:
        raise ValueError("superclass_mistake_severity needs the super-classes of the classes")
    firsts = split.first_neighbours[space]
    asked, found = firsts.mistakes()
    sizes = firsts.gallery_sizes.double()
    groups = split.superclasses[: len(sizes)]
    group_sizes = groups.bincount(weights=sizes)
    outside = (sizes.sum() - group_sizes[groups[asked]]) / (sizes.sum() - sizes[asked])
    return _mean_of_known(_beside((groups[asked] != groups[found]).double(), outside))


def _beside(values: torch.Tensor, by_chance: torch.Tensor) -> torch.Tensor:
    """Their ratio [W], NaN where chance itself, up to rounding, is 0."""
    return torch.where(by_chance > SAME, values / by_chance, torch.nan)


def _mean_of_known(values: torch.Tensor) -> float:
    """Of those [W] that are not NaN, 0 if there are none."""
    known = values[~values.isnan()]
    return known.mean().item() if len(known) else 0.0


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
