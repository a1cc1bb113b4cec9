"""Broken images are found before training, not in the middle of the night."""

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from datasets import measurable
from datasets.decoding import UNREADABLE, open_image
from datasets.images import ImageSplit, Splits
from utilities import processes
from utilities.errors import UserError
from utilities.progress import progress

LOG = logging.getLogger(__name__)
# The last bytes of a whole file; one that ends otherwise is decoded to see whether it is broken or
# only padded.
ENDINGS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}
THREADS = 4


def checked(splits: Splits, *, decode: bool, skip: bool) -> tuple[Splits, dict[str, str]]:
    """The splits without broken images, and those: path -> what is wrong with it.

    Args:
        decode: decode every image, which finds damage inside files too; else only those whose last
            bytes are not those of a whole file.
        skip: leave broken images out, which needs `decode`: what is found later could not be left
            out of the evaluation.
    Raises:
        UserError: a broken image without `skip`, or a class of which no image is left.
    """
    broken = processes.from_main(_broken, splits.files(), decode or skip)
    if not broken:
        return splits, broken
    first, reason = next(iter(broken.items()))
    others = f" and {len(broken) - 1} more images" if len(broken) > 1 else ""
    if not skip:
        raise UserError(
            f"--dataset: the image {first} cannot be read ({reason}){others}; "
            "replace or remove it, or leave such images out with --on_bad_image skip."
        )
    report(broken)
    return _measurable(splits.changed(lambda split: _without(split, broken))), broken


def readable(split: ImageSplit, flag: str) -> ImageSplit:
    """The split without the images that cannot be decoded, which are named in the log.

    Raises UserError, naming `flag`, where none is left.
    """
    broken = broken_images(split.files, decode=True)
    if len(broken) == len(split):
        raise UserError(
            f"{flag}: none of the {len(split)} images can be read; the first is {split.files[0]}."
        )
    report(broken)
    return split.only(np.array([path not in broken for path in split.files]))


def _broken(paths: list[str], decode: bool) -> dict[str, str]:
    return broken_images(paths, decode=decode)


def broken_images(paths: Iterable[str], *, decode: bool) -> dict[str, str]:
    """Path -> what is wrong with it."""
    paths = list(paths)
    with ThreadPoolExecutor(THREADS) as pool:
        # Decoders let other threads run; for the ends of files threads cost more than they save.
        reasons = pool.map(_why_broken, paths) if decode else map(_why_suspicious, paths)
        bar = progress(
            zip(paths, reasons),
            "Checking images",
            total=len(paths),
            unit="image",
            delay=2,
        )
        return {path: reason for path, reason in bar if reason}


def report(broken: dict[str, str]) -> None:
    """How many images were left out, and which; nothing where none was."""
    if broken:
        images = [f"  {path} ({reason})" for path, reason in broken.items()]
        LOG.info("%s", "\n".join([f"Broken images, left out: {len(broken)}", *images]))


def _measurable(splits: Splits) -> Splits:
    """The splits. Raises UserError where nothing can be measured on them any more."""
    flag = "with --on_bad_image skip"
    if splits.validation:
        measurable.usable(flag, "validation", splits.validation)
    measurable.usable(flag, "test", splits.testing)
    return splits


def _without(split: ImageSplit, broken: dict[str, str]) -> ImageSplit:
    whole = np.array([path not in broken for path in split.files])
    empty = np.bincount(split.labels[whole], minlength=len(split.class_texts)) == 0
    if empty.any():
        class_text = split.class_texts[int(empty.argmax())]
        raise UserError(
            f"--on_bad_image skip: every image of the class {class_text!r} is broken; "
            "remove its folder."
        )
    return split.only(whole)


def _why_suspicious(path: str) -> str | None:
    """None for a JPEG or PNG that ends as a whole one does, else `_why_broken`."""
    try:
        start, end = _ends(path)
    except OSError as error:
        return str(error)
    if start in ENDINGS and end.endswith(ENDINGS[start]):
        return None
    return _why_broken(path)


def _ends(path: str) -> tuple[bytes, bytes]:
    """The first two and the last eight bytes of a file."""
    # Unbuffered: half the time, and there may be a hundred thousand.
    file = os.open(path, os.O_RDONLY)
    try:
        return os.pread(file, 2, 0), os.pread(file, 8, max(0, os.fstat(file).st_size - 8))
    finally:
        os.close(file)


def _why_broken(path: str) -> str | None:
    try:
        source = open_image(path)
        source.pixels(1, source.height)
    except UNREADABLE as error:
        return str(error)
    return None
