"""Images of a split, read one by one as RGB whatever their format."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from datasets.decoding import UNREADABLE, Source, open_image, read_rgb


class BrokenImage(NamedTuple):
    """Takes the place of a batch in which an image could not be read (an exception in a worker would bring a traceback)."""

    path: str
    reason: str


class ImageSplit(torch.utils.data.Dataset):
    """Images of some classes, each class with at least one.

    Attributes:
        files: N paths. labels: [N] int64, 0..C-1. class_texts: C texts. captions: what guidance
            reads of each class, by default its text.
        superclasses: [C] int64, the coarser class of each class, or None where the dataset has
            none.
        is_query, is_gallery: bool [N], the parts of a retrieval protocol; None: every image
            searches among all others.
        boxes: [N, 4] int64 (left, top, right, bottom) in pixels, the part of each image that
            counts, or None for all of it.
        transform: `transforms.Crops`, or any function of a Pillow image. open_image: path ->
            `Source` for the former.
    """

    def __init__(
        self,
        files: list[str],
        labels: np.ndarray,
        class_texts: list[str],
        *,
        captions: list[tuple[str, ...]] | None = None,
        superclasses: np.ndarray | None = None,
        is_query: np.ndarray | None = None,
        is_gallery: np.ndarray | None = None,
        boxes: np.ndarray | None = None,
        transform: Callable | None = None,
    ):
        self.files, self.labels, self.class_texts, self.superclasses = (
            files,
            labels,
            class_texts,
            superclasses,
        )
        self.captions = captions or [(text,) for text in class_texts]
        self.is_query, self.is_gallery, self.boxes, self.transform = (
            is_query,
            is_gallery,
            boxes,
            transform,
        )
        self.open_image: Callable[[str], Source] = open_image

    def with_transform(self, transform: Callable) -> "ImageSplit":
        """The same images seen through another transform."""
        return self._changed(transform=transform)

    def opened_by(self, open_image: Callable[[str], Source]) -> "ImageSplit":
        """The same images, read by another function: from a cache, say."""
        return self._changed(open_image=open_image)

    def only(self, kept: np.ndarray) -> "ImageSplit":
        """The images for which bool [N] is true, with the labels they have."""
        rows = {
            name: None if values is None else values[kept]
            for name in ("labels", "is_query", "is_gallery", "boxes")
            for values in [getattr(self, name)]
        }
        return self._changed(files=[file for file, keep in zip(self.files, kept) if keep], **rows)

    def _changed(self, **attributes) -> "ImageSplit":
        view = object.__new__(ImageSplit)
        view.__dict__.update(self.__dict__, **attributes)
        return view

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int] | BrokenImage:
        try:
            image = read_rgb(self.files[index])
        except UNREADABLE as error:
            return BrokenImage(self.files[index], str(error))
        if self.boxes is not None:
            image = image.crop(tuple(self.boxes[index].tolist()))
        return self.transform(image), int(self.labels[index]), index
