"""Folders and tables of images -> splits of training and of unseen classes.

`select(name, ...)` is the door. Every dataset is a file with `read(path) -> Listing`; a benchmark's
also has `FACTS`, against which it is counted. Any other name is a folder
`<source_path>/<name>/images/<class folder>/*`.
"""

import difflib
import logging
from collections import Counter
from collections.abc import Set
from dataclasses import replace
from pathlib import Path

from datasets import (
    benchmark,
    boxes,
    cars196,
    class_text,
    cub200,
    folder,
    inshop,
    listing,
    measurable,
    online_products,
    shapes,
    table,
)
from datasets.images import ImageSplit, Splits
from utilities.errors import UserError
from utilities.paths import expanded

__all__ = ["BENCHMARKS", "ImageSplit", "Splits", "read", "select", "shown"]

LOG = logging.getLogger(__name__)
BENCHMARKS = {
    "cub200": cub200,
    "cars196": cars196,
    "online_products": online_products,
    "inshop": inshop,
}
# --source_path is the data itself for these, for all others the folder that holds <name>/.
OWN_DATA = {
    "folder": folder,
    "table": table,
}
USUAL_TRAINING_SHARE = 0.8


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
    data = read(name, Path(expanded(source_path)))
    if name in BENCHMARKS:
        _require_whole(name, data, allow_partial=allow_partial)
    if class_texts:
        data = class_text.with_captions(data, class_texts)
    measurable.require_protocol(name, data)
    if validation:
        share = training_share or USUAL_TRAINING_SHARE
        data = _held_out(data, share, by_samples, validation_classes)
    _tell_shared_classes(data)
    validation_part = listing.split(data, listing.VALIDATION)
    splits = Splits(
        training=measurable.usable(name, "training", listing.split(data, listing.TRAIN)),
        validation=validation_part and measurable.usable(name, "validation", validation_part),
        testing=measurable.usable(name, "test", listing.split(data, listing.TEST)),
    )
    _require_apart(name, splits)
    return splits


def shown(split: ImageSplit, *, oriented: bool) -> ImageSplit:
    """The split with EXIF orientation applied or not, its boxes cut off at their images.

    Raises UserError for a box outside of its image.
    """
    if split.boxes is not None:
        inside = boxes.inside(split.files, split.boxes, oriented=oriented)
        split = replace(split, boxes=inside)
    return split.seen(oriented=oriented)


def read(name: str, source: Path) -> listing.Listing:
    """Everything that the dataset holds. Raises UserError where it is missing."""
    if name in OWN_DATA:
        return OWN_DATA[name].read(source)
    home = source / name
    if name == "shapes":
        _render_shapes(home, source)
    if not home.is_dir():
        raise UserError(_without(name, source))
    return BENCHMARKS[name].read(home) if name in BENCHMARKS else folder.read_classes(home)


def _without(name: str, source: Path) -> str:
    """A sentence for a folder that does not hold the dataset."""
    sentence = f"--source_path/--dataset: there is no folder {source / name}"
    if meant := _place_of(name, source):
        return f"{sentence}; is --source_path {meant} meant?"
    if name in BENCHMARKS:
        return f"{sentence}; `python -m programs.prepare {name} --help` says how to make it."
    beside = sorted(images.parent.name for images in source.glob("*/images"))
    known = [*beside, *BENCHMARKS, *OWN_DATA, "shapes"]
    if close := difflib.get_close_matches(name.lower(), known, n=1):
        return f"{sentence}; did you mean --dataset {close[0]}?"
    return f"{sentence}; expected are images in {source / name / 'images'}/<class folder>/."


def _place_of(name: str, source: Path) -> Path | None:
    """What holds the dataset where `source` is the dataset or a folder in it, or lies above."""
    for within in (source.absolute(), source.absolute().parent):
        if within.name == name and within.is_dir():
            return within.parent
    below = sorted(found.parent for found in source.glob(f"*/{name}") if found.is_dir())
    return below[0] if below else None


def _render_shapes(home: Path, source: Path) -> None:
    try:
        shapes.ensure_rendered(home)
    except OSError as error:
        raise UserError(
            f"--source_path {source}: the shapes dataset cannot be rendered there "
            f"({error.strerror or error})."
        ) from error


def _require_whole(name: str, data: listing.Listing, *, allow_partial: bool) -> None:
    differences = "; ".join(benchmark.differences(BENCHMARKS[name].FACTS, data))
    if differences and not allow_partial:
        raise UserError(
            f"--dataset {name} is not the published benchmark: {differences}. "
            f"`python -m programs.prepare {name} --help` says how to complete it; "
            "--allow_partial takes it as it is, with results that do not compare."
        )
    if differences:
        LOG.warning(
            "%s is not the published benchmark: %s. Results do not compare with published ones.",
            name,
            differences,
        )


def _held_out(
    data: listing.Listing, share: float, by_samples: bool, classes_file: str | None
) -> listing.Listing:
    if (data.parts == listing.VALIDATION).any():
        LOG.info("--use_tv_split: the data has a validation part of its own, which is taken.")
        return data
    if classes_file:
        return listing.hold_out_named(data, classes_file)
    if by_samples:
        return listing.hold_out_samples(data, share)
    return listing.hold_out_classes(data, share)


def classes_in_both(data: listing.Listing) -> set[int]:
    """Labels of the classes that have images in training and in test."""
    training, testing = (
        set(data.labels[data.parts == part].tolist()) for part in (listing.TRAIN, listing.TEST)
    )
    return training & testing


def _tell_shared_classes(data: listing.Listing) -> None:
    if shared := classes_in_both(data):
        LOG.warning(
            "%d classes, such as %s, are in training and in test: "
            "this does not measure retrieval of unseen classes.",
            len(shared),
            data.categories[min(shared)].name,
        )


def _require_apart(name: str, splits: Splits) -> None:
    """Raises UserError for training images, under whatever name, that are evaluated as well.

    A benchmark is as it was published, also where some tool has made one file of equal images.
    """
    training, testing = _by_identity(splits.training), _by_identity(splits.testing)
    _tell_repeated(name, "training", splits.training, len(training))
    _tell_repeated(name, "test", splits.testing, len(testing))
    parts = [(training, testing, "in training and in test", name not in BENCHMARKS)]
    if splits.validation:
        validation = _by_identity(splits.validation)
        _tell_repeated(name, "validation", splits.validation, len(validation))
        parts += [(training, validation, "in training and in validation", name not in BENCHMARKS)]
        parts += [(validation, testing, "in validation and in test", False)]
    for first, second, where, is_wrong in parts:
        if shared := first.keys() & second.keys():
            sentence = f"--dataset {name}: {_shared(shared, first, second)} {where}."
            if is_wrong:
                raise UserError(sentence)
            LOG.warning("%s", sentence)


def _by_identity(split: ImageSplit) -> dict[str, str]:
    return dict(zip(listing.identities(split.files), split.files))


def _tell_repeated(name: str, part: str, split: ImageSplit, different: int) -> None:
    """Tells of images that a part holds again, under whatever name.

    Rows of a table do so by other boxes alone.
    """
    if split.boxes is not None or different == len(split):
        return
    identities = listing.identities(split.files)
    repeated, _ = Counter(identities).most_common(1)[0]
    names = [file for file, identity in zip(split.files, identities) if identity == repeated]
    others = sorted(set(names) - {names[0]})
    LOG.warning(
        "--dataset %s: %s: %s of the %s images of the %s part are in it already. Each counts as an "
        "image of its own, and they find each other whatever is learnt.",
        name,
        f"{names[0]} and {others[0]} are one file" if others else f"{names[0]} is listed twice",
        f"{len(split) - different:,}",
        f"{len(split):,}",
        part,
    )


def _shared(shared: Set[str], first: dict[str, str], second: dict[str, str]) -> str:
    """How many images, with the names of one that has two."""
    named_twice = sorted(each for each in shared if first[each] != second[each])
    one, other = (of[named_twice[0] if named_twice else min(shared)] for of in (first, second))
    example = f"{one} and {other} are one file" if named_twice else one
    amount = "1 image is" if len(shared) == 1 else f"{len(shared):,} images are"
    return f"{example}: {amount}"
