"""Benchmarks as they are passed around -> the layout that is read here.

`prepare(name, ...)` is the door, `python -m programs.prepare` its command. Everything is made
beside its place and moved there when it is whole: what a broken-off attempt has left is removed by
the next one. The sources are only read; images are hard links to them where the disk is the same,
and otherwise copies.
"""

import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

import datasets
from datasets import benchmark, decoding, scan
from datasets.decoding import UNREADABLE, read_rgb
from datasets.prepare import layouts, unpack
from utilities import cores
from utilities.errors import UserError
from utilities.paths import absent
from utilities.progress import progress

LOG = logging.getLogger(__name__)
JPEG_QUALITY = 95


def prepare(
    name: str,
    sources: list[Path],
    target: Path,
    *,
    short_side: int = 0,
    allow_partial: bool = False,
) -> Path:
    """Make `<target>/<name>` of archives, folders and single files.

    They may be in any layout of `layouts.LAYOUTS`.

    Args:
        short_side: reduce larger images to this many pixels on their short side, which encodes them
            anew; 0 leaves all as they are.
        allow_partial: accept counts and checksums other than the published ones.
    Raises:
        UserError: a missing or damaged source, an unknown layout, wrong counts, a full disk.
    """
    home = target / name
    if unfit := [source for source in sources if not source.is_file() and not source.is_dir()]:
        raise UserError(f"--from {unfit[0]}: {absent(unfit[0], 'file or folder')}")
    if home.exists():
        hint = f"{home} exists; move it away to make it anew"
        _require_whole(name, target, allow_partial=allow_partial, hint=hint)
        LOG.info("%s is there already; nothing to do.", home)
        if short_side:
            LOG.info("Its images stay as they are, whatever --short_side says; %s.", hint)
        return home
    sources = [source.absolute() for source in sources]
    files, archives = _given(name, sources, check=not allow_partial)
    target.mkdir(parents=True, exist_ok=True)
    unpack.require_space(target, sum(unpack.unpacked_size(archive) for archive in archives))
    workshop = target / f".{name}.partial"
    shutil.rmtree(workshop, ignore_errors=True)
    try:
        for number, archive in enumerate(archives):
            files += unpack.unpack(archive, workshop / "unpacked" / str(number))
        _build(_plan(name, files), workshop / name, short_side)
        _require_whole(name, workshop, allow_partial=allow_partial, hint="nothing was made")
        os.replace(workshop / name, home)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    LOG.info("%s is ready: --dataset %s --source_path %s", home, name, target)
    return home


def _given(name: str, sources: list[Path], *, check: bool) -> tuple[list[str], list[Path]]:
    """All files of the sources, and the archives among them.

    Archives are those given, and in folders the published ones. They and the single files are
    checked on request.
    """
    checksums = datasets.BENCHMARKS[name].FACTS.files
    files = [file for source in sources for file in unpack.files_of(source)]
    archives = [
        path
        for path in map(Path, files)
        if unpack.is_archive(path) and (path in sources or path.name in checksums)
    ]
    single = [source for source in sources if source.is_file() and source not in archives]
    for path in archives + single:
        if check and (checksum := checksums.get(path.name)):
            unpack.require_checksum(path, checksum)
    return files, archives


def _plan(name: str, files: list[str]) -> layouts.Plan:
    layout = layouts.detect(name, files)
    LOG.info("Layout: %s.", layout.title)
    plan = layout.plan(files)
    if not any(path.startswith("images/") for path in plan):
        raise UserError(f"--from: this looks like {layout.title}, but without the images.")
    return plan


def _require_whole(name: str, parent: Path, *, allow_partial: bool, hint: str) -> None:
    """Reads `<parent>/<name>` as training would.

    Raises UserError with the hint where it is no such dataset or not all of it.
    """
    try:
        listing = datasets.read(name, parent)
    except UserError as error:
        raise UserError(f"{error} ({hint})") from error
    differences = "; ".join(benchmark.differences(datasets.BENCHMARKS[name].FACTS, listing))
    if differences and not allow_partial:
        raise UserError(
            f"{name} is not whole: {differences}; {hint}, or take it as it is with --allow_partial."
        )
    if differences:
        LOG.warning("%s is not whole: %s.", name, differences)


def _build(plan: layouts.Plan, folder: Path, short_side: int) -> None:
    """Every file of the plan at its place below the folder."""
    for parent in {os.path.dirname(path) for path in plan}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    disk = os.stat(folder).st_dev
    if short_side or any(os.stat(file).st_dev != disk for file in plan.values()):
        unpack.require_space(folder, sum(os.path.getsize(file) for file in plan.values()))
    place = partial(_reduce, short_side=short_side) if short_side else _link
    targets = [f"{folder}/{path}" for path in plan]
    title = f"Making {folder.name}"
    with ThreadPoolExecutor(cores.usable()) as pool:  # decoders let other threads run
        placed = pool.map(place, plan.values(), targets)
        for _ in progress(placed, title, total=len(plan), unit="file", delay=2):
            pass


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


def _reduce(source: str, target: str, short_side: int) -> None:
    """A smaller copy of a larger image; all other files are linked."""
    if not scan.is_image(os.path.basename(source)):
        return _link(source, target)
    try:
        with decoding.unreadable_if_damaged(), Image.open(source) as image:
            width, height = image.size
            orientation = decoding.tagged_orientation(image)
        if min(width, height) <= short_side:
            return _link(source, target)
        scale = short_side / min(width, height)
        size = round(scale * width), round(scale * height)
        # As the pixels lie, with the tag that says how they are shown.
        smaller = read_rgb(source, oriented=False).resize(size, Image.Resampling.BICUBIC)
        smaller.save(target, quality=JPEG_QUALITY, exif=decoding.orientation_tag(orientation))
    except UNREADABLE as error:
        raise UserError(f"--from: the image {source} cannot be reduced ({error}).") from error
