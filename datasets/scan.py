"""The folder scan that all datasets share: what is an image, and what is left out and told."""

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from PIL import Image, features

from utilities.errors import named

LOG = logging.getLogger(__name__)
NUMBERED = re.compile(r"(\d+)\.(.+)")
# Formats of pictures; of each, the endings count that Pillow can open where this runs.
FORMATS = re.compile(
    "AVIF|BMP|DDS|DIB|GIF|ICNS|ICO|JPEG|JPEG2000|PCX|PNG|PPM|PSD|QOI|SGI|TGA|TIFF|WEBP|XBM|XPM"
)
OPTIONAL = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}  # parts of Pillow
USUAL = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
# Endings in use that Pillow does not list: browsers, cameras, and names written out.
MORE_ENDINGS = {
    "JPEG": (".jif", ".jfi", ".pjpeg", ".pjp", ".mpo", ".jpg_large"),
    "JPEG2000": (".jpeg2000", ".jpg2"),
    "TIFF": (".btf", ".tf8", ".bigtiff"),
}
# Endings of pictures that are told where they cannot be opened.
PICTURES = re.compile(
    r"\.(ai|arw|avifs?|bpg|cr2|cr3|dcm|dicom|dng|emf|eps|exr|fits?|flif|hdr|hei[cf]s?|hif|j2[ck]"
    r"|jp2|jpeg2000|jp[cfx]|jxl|jxr|nef|nrrd|orf|pcd|pef|psb|raf|raw|rw2|srw|svgz?"
    r"|wdp|webp|wmf|xcf)"
)
# Endings of files that lie beside images and are not looked into.
NO_PICTURES = re.compile(
    r"\.(csv|db|gz|h5|hdf|html|ini|json|log|mat|md|npy|npz|parquet|pkl|pth?|py|tar|tsv|txt|xml"
    r"|ya?ml|zip)"
)
# How the content of pictures begins, for files whose name does not say what they are.
SIGNATURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|BM....\0\0\0\0|P[1-6]\s"
    rb"|\0\0\0\x0cjP  |....ftyp(avi|hei|hev|mif|msf)",
    re.DOTALL,
)
SYSTEM_FOLDERS = frozenset(
    ("__MACOSX", "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "lost+found")
) | {"System Volume Information"}


def _endings() -> tuple[str, ...]:
    """Endings of pictures that can be opened, in lower case."""
    Image.init()
    absent = {name for name, part in OPTIONAL.items() if not features.check(part)}
    formats = set(filter(FORMATS.fullmatch, Image.OPEN)) - absent
    endings = [ending for ending, name in Image.registered_extensions().items() if name in formats]
    for name in formats:
        endings += MORE_ENDINGS.get(name, ())
    return tuple(sorted(endings))


EXTENSIONS = _endings()


class Tree(NamedTuple):
    """
    Attributes:
        images: folder -> sorted paths of the images directly in it, for folders that have any.
        left_out: why -> paths that are in no list, relative to the root.
    """

    images: dict[str, list[str]]
    left_out: dict[str, list[str]]


def is_stray(name: str) -> bool:
    """Hidden files and folders, and those that systems leave on disks and in archives."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def is_image(name: str) -> bool:
    return not is_stray(name) and name.lower().endswith(EXTENSIONS)


def class_folders(images: Path) -> dict[str, list[str]]:
    """Name -> images of each folder in `images` that has any, in the order of the classes."""
    folders, left_out = _below(images)
    if deeper := [path for name, files in folders.items() if "/" in name for path in files]:
        left_out["images in folders below the class folders"] = _relative(deeper, images)
    tell(images, left_out)
    _tell_endings(images, folders)
    return {name: folders[name] for name in ordered(name for name in folders if "/" not in name)}


def image_folders(root: Path) -> dict[str, list[str]]:
    """Relative path -> images of each folder below `root`, at any depth, that has any."""
    folders, left_out = _below(root)
    tell(root, left_out)
    _tell_endings(root, folders)
    return folders


def tree(root: str | Path) -> dict[str, list[str]]:
    """Folder -> images of `root` and all folders below it that have any, sorted.

    Links are followed, but no folder is entered twice. What is left out is told.
    """
    images, left_out = walk(str(root))
    tell(root, left_out)
    _tell_endings(root, images)
    return images


def walk(root: str) -> Tree:
    """All images of `root` and below, and what is not among them though it may hold some."""
    walker = _Walker(root)
    walker.run()
    return Tree(dict(sorted(walker.images.items())), walker.left_out)


def tell(root: str | Path, left_out: dict[str, list[str]]) -> None:
    """One sentence on what is left out, with counts and examples; nothing where all is in."""
    if left_out:
        reasons = [
            f"{len(paths):,} {why} ({named(sorted(paths), 1)})" for why, paths in left_out.items()
        ]
        LOG.warning("Left out below %s: %s.", printable(str(root)), "; ".join(reasons))


def _tell_endings(root: str | Path, images: dict[str, list[str]]) -> None:
    """How many images have which ending, where some have a rare one."""
    paths = chain(*images.values())
    counts = Counter(os.path.splitext(path)[1].lower() for path in paths)
    if not counts.keys() <= set(USUAL):
        amounts = [f"{count:,} *{ending}" for ending, count in counts.most_common()]
        LOG.info("Images below %s: %s.", printable(str(root)), ", ".join(amounts))


def printable(path: str) -> str:
    """A path with escapes for what is no text."""
    return os.fsencode(path).decode(errors="backslashreplace")


class _Walker:
    """One walk through a tree. Real folders are entered before links to them."""

    def __init__(self, root: str):
        self.root = root
        self.images: dict[str, list[str]] = {}
        self.left_out: dict[str, list[str]] = defaultdict(list)
        self.waiting, self.linked = [root], list[str]()
        self.entered: set[str] = set()  # by their real paths
        self.folders: list[str] = []

    def run(self) -> None:
        while self.waiting or self.linked:
            self._enter((self.waiting or self.linked).pop())
        self._note_empty()

    def _enter(self, folder: str) -> None:
        place = os.path.realpath(folder)
        if place in self.entered:
            self._note("links to folders that are read already", folder)
            return
        self.entered.add(place)
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError:
            self._note("folders that cannot be read", folder)
            return
        self.folders.append(folder)
        for entry in entries:
            self._take(folder, entry)

    def _take(self, folder: str, entry: os.DirEntry[str]) -> None:
        if is_stray(entry.name):
            self._note_hidden(entry)
        elif _leads_to(entry, folder=True):
            (self.linked if entry.is_symlink() else self.waiting).append(entry.path)
        elif not _leads_to(entry, folder=False):
            why = "links to what is not there" if entry.is_symlink() else "devices, pipes or such"
            self._note(why, entry.path)
        elif entry.name.lower().endswith(EXTENSIONS):
            self.images.setdefault(folder, []).append(entry.path)
        else:
            self._note_unknown(entry)

    def _note(self, why: str, path: str) -> None:
        self.left_out[why] += _relative([path], self.root)

    def _note_hidden(self, entry: os.DirEntry[str]) -> None:
        """Images that are hidden; what macOS puts beside each file, ._NAME, is none."""
        paths = [entry.path] if not entry.name.startswith("._") else []
        if _leads_to(entry, folder=True):
            paths = [f"{top}/{name}" for top, _, names in os.walk(entry.path) for name in names]
        for path in paths:
            if path.lower().endswith(EXTENSIONS) and "/._" not in path:
                self._note("images that are hidden or in hidden or system folders", path)

    def _note_unknown(self, entry: os.DirEntry[str]) -> None:
        ending = os.path.splitext(entry.name)[1].lower()
        if PICTURES.fullmatch(ending):
            self._note(f"files *{ending}, which cannot be opened here", entry.path)
        elif not NO_PICTURES.fullmatch(ending) and _begins_as_picture(entry.path):
            self._note("images whose names do not end as those of images do", entry.path)

    def _note_empty(self) -> None:
        """The folders without any image in and below them that are in no other such folder."""
        needed = {self.root}
        for folder in self.images:
            while folder not in needed:
                needed.add(folder)
                folder = os.path.dirname(folder)
        for folder in sorted(self.folders):
            if folder not in needed and os.path.dirname(folder) in needed:
                self._note("folders without images", folder)


def _leads_to(entry: os.DirEntry[str], *, folder: bool) -> bool:
    try:
        return entry.is_dir() if folder else entry.is_file()
    except OSError:  # a link that leads in a circle, or where nobody may look
        return False


def _begins_as_picture(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:
            return bool(SIGNATURES.match(file.read(16)))
    except OSError:
        return False


def _below(root: Path) -> Tree:
    """As `walk`, by folders relative to `root`; images directly in it are left out."""
    images, left_out = walk(str(root))
    if directly := images.pop(str(root), []):
        left_out["images in no class folder"] = _relative(directly, root)
    return Tree({os.path.relpath(folder, root): images[folder] for folder in images}, left_out)


def _relative(paths: list[str], root: str | Path) -> list[str]:
    return [printable(os.path.relpath(path, root)) for path in paths]


def relative_images(root: Path) -> set[str]:
    """Paths, relative to `root`, of all images below it."""
    return {
        f"{folder}/{os.path.basename(image)}"
        for folder, images in image_folders(root).items()
        for image in images
    }


def tell_missing(listed: list[str], existing: set[str], images: Path) -> None:
    """Names the listed paths that are not among the existing ones, all relative to `images`."""
    if missing := [path for path in listed if path not in existing]:
        LOG.warning(
            "%s of the %s listed images are not in %s: %s.",
            f"{len(missing):,}",
            f"{len(listed):,}",
            images,
            named(missing),
        )


def ordered(paths: Iterable[str]) -> list[str]:
    """Folders by number if all are called "12.Something", within the folders above them.

    Else by the codes of their letters, upper case first.
    """
    paths = sorted(paths)
    if not all_numbered(path.rpartition("/")[2] for path in paths):
        return paths
    return sorted(paths, key=_by_number)


def all_numbered(names: Iterable[str]) -> bool:
    return all(NUMBERED.fullmatch(name) for name in names)


def readable(name: str, numbered: bool) -> str:
    """A folder name as text: with spaces for underscores.

    Without the "12." in front, where that is a number.
    """
    text = name.partition(".")[2] if numbered else name
    return " ".join(text.replace("_", " ").split())


def _by_number(path: str) -> tuple[str, int]:
    above, _, name = path.rpartition("/")
    return above, int(name.split(".")[0])
