"""Folders and tables of images -> splits of training and of unseen classes. `select(name, ...)` is the door.

Every dataset is a file with `read(path) -> Listing`; a benchmark's also has `FACTS`, against which
it is counted. Any other name is a folder `<source_path>/<name>/images/<class folder>/*`.
"""

import difflib
import logging
from pathlib import Path
from typing import NamedTuple

from datasets import (
    benchmark,
    cars196,
    class_text,
    cub200,
    folder,
    inshop,
    listing,
    online_products,
    shapes,
    table,
)
from datasets.images import ImageSplit
from utilities.errors import UserError
from utilities.report import first_line

LOG = logging.getLogger(__name__)
BENCHMARKS = {
    "cub200": cub200,
    "cars196": cars196,
    "online_products": online_products,
    "inshop": inshop,
}
# --source_path is the data itself for these, for all others the folder that holds <name>/.
OWN_DATA = {"folder": folder, "table": table}
USUAL_TRAINING_SHARE = 0.8


__all__ = ["ImageSplit", "Splits", "describe", "read", "select"]


class Splits(NamedTuple):
    """`validation` is there on request, or where the data divides off one."""

    training: ImageSplit
    validation: ImageSplit | None
    testing: ImageSplit


def describe() -> dict[str, str]:
    """What each dataset is, in a line."""
    return {
        name: first_line(module)
        for name, module in (BENCHMARKS | {"shapes": shapes} | OWN_DATA).items()
    } | {
        "<any name>": "Your own: <source_path>/<name>/images/<class folder>/*, the first half of the classes trains."
    }


def select(
    name: str,
    source_path: str,
    *,
    validation: bool = False,
    training_share: float = 0,
    by_samples: bool = False,
    validation_classes: str | None = None,
    class_texts: str | None = None,
    allow_partial: bool = False,
) -> Splits:
    """The splits of dataset `name`.

    Args:
        validation: cut a validation split off the training classes, `training_share` of which stay
            (0: 0.8).
        by_samples: cut within each class instead, so that both parts see all training classes.
        validation_classes: file that names the validation classes instead.
        class_texts: file with the texts that guidance reads.
        allow_partial: take a benchmark that is not complete.
    Raises:
        UserError: missing data, wrong counts, fewer than two classes on a side.
    """
    found = read(name, Path(source_path).expanduser())
    if name in BENCHMARKS:
        _require_whole(name, found, allow_partial=allow_partial)
    if class_texts:
        found = class_text.with_captions(found, class_texts)
    if validation:
        found = _held_out(
            found, training_share or USUAL_TRAINING_SHARE, by_samples, validation_classes
        )
    _tell_shared_classes(found)
    splits = Splits(
        *(listing.split(found, part) for part in (listing.TRAIN, listing.VALIDATION, listing.TEST))
    )
    for part, images in (("training", splits.training), ("test", splits.testing)):
        if not images or len(images.class_texts) < 2:
            raise UserError(
                f"--dataset {name}: the {part} part has {len(images.class_texts) if images else 0} classes; at least 2 are needed."
            )
    if shared := len(set(splits.training.files) & set(splits.testing.files)):
        raise UserError(f"--dataset {name}: {shared:,} images are in training and in test.")
    return splits


def read(name: str, source: Path) -> listing.Listing:
    """Everything that the dataset holds. Raises UserError where it is missing."""
    if name in OWN_DATA:
        return OWN_DATA[name].read(source)
    if name in BENCHMARKS:
        if not (source / name).is_dir():
            raise UserError(
                f"--source_path/--dataset: there is no folder {source / name}; `python -m datasets.prepare {name} --help` says how to make it."
            )
        return BENCHMARKS[name].read(source / name)
    if name == "shapes":
        try:
            shapes.ensure_rendered(source / name)
        except OSError as error:
            raise UserError(
                f"--source_path {source}: the {name} dataset cannot be rendered there ({error.strerror or error})."
            ) from error
    if not (source / name).is_dir() and (
        close := difflib.get_close_matches(name.lower(), [*BENCHMARKS, *OWN_DATA, "shapes"], n=1)
    ):
        raise UserError(
            f"--source_path/--dataset: there is no folder {source / name}; did you mean --dataset {close[0]}?"
        )
    return folder.read_classes(source / name)


def _require_whole(name: str, found: listing.Listing, *, allow_partial: bool) -> None:
    differences = "; ".join(benchmark.differences(BENCHMARKS[name].FACTS, found))
    if differences and not allow_partial:
        raise UserError(
            f"--dataset {name} is not the published benchmark: {differences}. `python -m datasets.prepare {name} --help` says how to complete it; "
            "--allow_partial takes it as it is, with results that do not compare."
        )
    if differences:
        LOG.warning(
            "%s is not the published benchmark: %s. Results do not compare with published ones.",
            name,
            differences,
        )


def _held_out(
    found: listing.Listing, share: float, by_samples: bool, names: str | None
) -> listing.Listing:
    if (found.parts == listing.VALIDATION).any():
        LOG.info("--use_tv_split: the data has a validation part of its own, which is taken.")
        return found
    if names:
        return listing.hold_out_named(found, names)
    return (listing.hold_out_samples if by_samples else listing.hold_out_classes)(found, share)


def _tell_shared_classes(found: listing.Listing) -> None:
    shared = set(found.labels[found.parts == listing.TRAIN].tolist()) & set(
        found.labels[found.parts == listing.TEST].tolist()
    )
    if shared:
        LOG.warning(
            "%d classes, such as %s, are in training and in test: this does not measure retrieval of unseen classes.",
            len(shared),
            found.categories[min(shared)].name,
        )
