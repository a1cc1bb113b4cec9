"""Whether metrics mean anything on a split: refused where they cannot, told where they can less."""

import logging

import numpy as np

from datasets.images import ImageSplit
from datasets.listing import TEST, VALIDATION, Listing
from utilities.errors import UserError

LOG = logging.getLogger(__name__)


def require_protocol(name: str, data: Listing) -> None:
    """Raises UserError for queries without a gallery and for a gallery without queries."""
    if data.is_query is None or data.is_gallery is None:
        return
    for part, title in ((VALIDATION, "validation"), (TEST, "test")):
        rows = data.parts == part
        queries, gallery = int(data.is_query[rows].sum()), int(data.is_gallery[rows].sum())
        if bool(queries) != bool(gallery):
            raise UserError(
                f"--dataset {name}: the {title} part has {queries:,} queries and {gallery:,} "
                "images in the gallery; both need some."
            )
        if rows.any() and not queries:
            LOG.warning(
                "--dataset %s: no image of the %s part is a query, so that all search among all "
                "others.",
                name,
                title,
            )


def usable(name: str, part: str, split: ImageSplit | None) -> ImageSplit:
    """The split of a part. Raises UserError where it has fewer than two classes."""
    classes = len(split.class_texts) if split else 0
    if split is None or classes < 2:
        raise UserError(
            f"--dataset {name}: the {part} part has {classes} classes; at least 2 are needed."
        )
    if part != "training":
        _require_searched(name, part, split)
    elif (np.bincount(split.labels) < 2).all():
        LOG.warning("--dataset %s: every training image is the only one of its class.", name)
    if split.superclasses is not None and len(np.unique(split.superclasses)) < 2:
        LOG.info(
            "--dataset %s: all classes of the %s part have the same super-class, for which "
            "every neighbour is right.",
            name,
            part,
        )
    return split


def _require_searched(name: str, part: str, split: ImageSplit) -> None:
    """Tells of queries to which nothing is relevant. Raises UserError where none are left."""
    is_query, is_gallery = split.is_query, split.is_gallery
    if is_query is None or is_gallery is None:
        is_query = is_gallery = np.ones(len(split), dtype=bool)
    sizes = np.bincount(split.labels[is_gallery], minlength=len(split.class_texts))
    # A query that is in the gallery is not relevant to itself.
    relevant = sizes[split.labels] - is_gallery
    alone = int((relevant[is_query] == 0).sum())
    queries = int(is_query.sum())
    where = f"--dataset {name}: the {part} part"
    if not queries or not is_gallery.any():
        raise UserError(f"{where} has no query, or nothing in its gallery.")
    if (sizes > 0).sum() < 2:
        LOG.warning("%s has a gallery of one class, so that nothing can be confused.", where)
    if alone == queries:
        LOG.warning(
            "%s has no two images of a class that could find each other: recall and precision are "
            "0 there whatever is learnt.",
            where,
        )
    elif alone:
        LOG.info("%s has %s queries whose class has no image to find.", where, f"{alone:,}")
    if unused := int((~is_query & ~is_gallery).sum()):
        LOG.warning("%s has %s images that neither search nor are found.", where, f"{unused:,}")
