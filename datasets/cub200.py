"""Caltech-UCSD Birds 200-2011 (Wah et al. 2011): `images/NNN.Name/*`, classes 1-100 train and 101-200 test."""
import logging

from datasets.images import ImageClass

LOG = logging.getLogger(__name__)
CLASSES, IMAGES = 200, 11_788


def check(classes: list[ImageClass]) -> None:
    """A notice if this is not the whole benchmark, whose numbers would not compare with the published ones."""
    images = sum(len(image_class.files) for image_class in classes)
    if (len(classes), images) != (CLASSES, IMAGES):
        LOG.warning("cub200 has %d classes and %d images; found %d and %d, so results do not compare with published ones.",
                    CLASSES, IMAGES, len(classes), images)
