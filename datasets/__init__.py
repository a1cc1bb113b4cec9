"""Folders of images -> class-disjoint splits. `select(name, ...)` is the door.

Any `<source_path>/<name>/images/<class folder>/*` works; a registered name adds what is known about that benchmark.
"""
from pathlib import Path
from typing import NamedTuple

from datasets import cub200, folder, shapes
from datasets.images import ImageSplit
from utilities.errors import UserError
from utilities.report import first_line

# What happens before the folder is scanned, and what is checked of the classes found there.
PREPARE = {"shapes": shapes.ensure_rendered}
CHECK = {"cub200": cub200.check}


def describe() -> dict[str, str]:
    """What each dataset is, in a line."""
    known = {"cub200": cub200, "shapes": shapes}
    return {name: first_line(module) for name, module in known.items()} | {"<any name>": "Your own: <source_path>/<name>/images/<class folder>/*, the first half of the classes trains."}


class Splits(NamedTuple):
    """Disjoint classes in `training` and `testing`; `validation` is cut off the training classes or images on request."""
    training: ImageSplit
    validation: ImageSplit | None
    testing: ImageSplit


def select(name: str, source_path: str, *, validation: bool = False, training_share: float = 1.0, by_samples: bool = False) -> Splits:
    """The splits of dataset `name`: the first half of its classes trains, the second half tests.

    Args:
        validation: cut a validation split off the training classes, `training_share` of which stay.
        by_samples: cut within each class instead, so that both parts see all training classes.
    Raises:
        UserError: missing or empty folder, fewer than two classes on a side, broken images.
    """
    root = Path(source_path).expanduser() / name
    if name in PREPARE:
        try:
            PREPARE[name](root)
        except OSError as error:
            raise UserError(f"--source_path {source_path}: the {name} dataset cannot be rendered there ({error.strerror or error}).") from error
    classes = folder.scan(root)
    if name in CHECK:
        CHECK[name](classes)
    half = len(classes) // 2
    training, testing = classes[:half], classes[half:]
    held_out = None
    if validation:
        cut = folder.cut_samples if by_samples else folder.cut_classes
        training, held_out = cut(training, training_share)
    return Splits(ImageSplit.of_classes(training), ImageSplit.of_classes(held_out) if held_out else None, ImageSplit.of_classes(testing))
