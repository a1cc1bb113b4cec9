"""Images of a split, read one by one as RGB whatever their format."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from datasets.decoding import UNREADABLE, Source, open_image, read_rgb
from datasets.transforms import Crops


class BrokenImage(NamedTuple):
    """Takes the place of a batch in which an image could not be read.

    An exception in a worker would bring a traceback.
    """

    path: str
    reason: str


@dataclass(eq=False, repr=False)
class ImageSplit(torch.utils.data.Dataset):
    """Images of some classes, each class with at least one.

    Attributes:
        files: N paths. labels: [N] int64, 0..C-1. class_texts: C texts. captions: what guidance
            reads of each class, by default its text. class_names: as the dataset writes them, by
            default their texts.
        superclasses: [C] int64, the coarser class of each class, or None where the dataset has
            none.
        is_query, is_gallery: bool [N], the parts of a retrieval protocol; None: every image
            searches among all others.
        boxes: [N, 4] int64 (left, top, right, bottom) in pixels, the part of each image that
            counts, of the image as it is shown, or None for all of it.
        transform: `transforms.Crops`, or any function of a Pillow image. open_image: path ->
            `Source` for the former. oriented: whether EXIF orientation is applied, see `decoding`.
    """

    files: list[str]
    labels: np.ndarray
    class_texts: list[str]
    _: KW_ONLY
    captions: list[tuple[str, ...]] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    superclasses: np.ndarray | None = None
    is_query: np.ndarray | None = None
    is_gallery: np.ndarray | None = None
    boxes: np.ndarray | None = None
    transform: Crops | Callable[[Image.Image], torch.Tensor] | None = None
    open_image: Callable[..., Source] = open_image
    oriented: bool = True

    def __post_init__(self) -> None:
        self.captions = self.captions or [(text,) for text in self.class_texts]
        self.class_names = self.class_names or self.class_texts

    def with_transform(
        self, transform: Crops | Callable[[Image.Image], torch.Tensor]
    ) -> "ImageSplit":
        """The same images seen through another transform."""
        return replace(self, transform=transform)

    def opened_by(self, open_image: Callable[[str], Source]) -> "ImageSplit":
        """The same images, read by another function: from a cache, say."""
        return replace(self, open_image=open_image)

    def seen(self, *, oriented: bool) -> "ImageSplit":
        """The same images with EXIF orientation applied or not; not for images of a cache."""
        open_so = partial(self.open_image, oriented=oriented)
        return replace(self, oriented=oriented, open_image=open_so)

    def only(self, chosen: np.ndarray) -> "ImageSplit":
        """The images for which bool [N] is true, with the labels they have."""
        return replace(
            self,
            files=[file for file, is_chosen in zip(self.files, chosen) if is_chosen],
            labels=self.labels[chosen],
            is_query=None if self.is_query is None else self.is_query[chosen],
            is_gallery=None if self.is_gallery is None else self.is_gallery[chosen],
            boxes=None if self.boxes is None else self.boxes[chosen],
        )

    def describe(self) -> str:
        """Counts of classes and images, and of queries and gallery where it is divided."""
        titles = {"gallery": "in the gallery"}
        counts = self.counts().items()
        return ", ".join(f"{count} {titles.get(name, name)}" for name, count in counts)

    def counts(self) -> dict[str, int]:
        """Of classes and images, and of queries and gallery where it is divided."""
        counts = {"classes": len(self.class_texts), "images": len(self)}
        if self.is_query is not None and self.is_gallery is not None:
            parts = {"queries": self.is_query, "gallery": self.is_gallery}
            counts |= {name: int(part.sum()) for name, part in parts.items()}
        return counts

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int] | BrokenImage:
        # Crops are cut by the loading processes, see `loading`.
        assert self.transform is not None and not isinstance(self.transform, Crops)
        try:
            image = self.image(index)
        except UNREADABLE as error:
            return BrokenImage(self.files[index], str(error))
        return self.transform(image), int(self.labels[index]), index

    def image(self, index: int) -> Image.Image:
        """One image as people see it: the part of it that counts, in RGB; raises UNREADABLE."""
        image = read_rgb(self.files[index], oriented=self.oriented)
        if self.boxes is None:
            return image
        left, top, right, bottom = self.boxes[index].tolist()
        return image.crop((left, top, right, bottom))


class Splits(NamedTuple):
    """`validation` is there on request, or where the data divides off one."""

    training: ImageSplit
    validation: ImageSplit | None
    testing: ImageSplit

    def changed(self, change: Callable[[ImageSplit], ImageSplit]) -> "Splits":
        """The same parts, each changed by a function."""
        validation = change(self.validation) if self.validation else None
        return Splits(change(self.training), validation, change(self.testing))

    def files(self) -> list[str]:
        """Paths of all images."""
        return [path for split in self if split for path in split.files]
