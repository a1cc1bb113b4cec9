"""Truncated images are found before training, not in the middle of the night."""
import os
from collections.abc import Iterable

from tqdm import tqdm

from datasets.images import UNREADABLE, read_rgb
from utilities.errors import UserError

# The last bytes of a whole file; one that ends otherwise is decoded to see whether it is broken or only padded.
ENDINGS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}


def require_intact(paths: Iterable[str]) -> None:
    """Raises UserError naming the first broken images; reads only the ends of JPEG and PNG files that look whole."""
    paths = list(paths)
    bar = tqdm(paths, desc="Checking images", unit="image", leave=False, delay=2)
    broken = [(path, reason) for path in bar if (reason := _why_broken(path))]
    if broken:
        path, reason = broken[0]
        others = f" and {len(broken) - 1} more images" if len(broken) > 1 else ""
        raise UserError(f"--dataset: the image {path} cannot be read ({reason}){others}; replace or remove it.")


def _why_broken(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            start = file.read(2)
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8))
            if start in ENDINGS and file.read().endswith(ENDINGS[start]):
                return None
        read_rgb(path)
    except UNREADABLE as error:
        return str(error)
    return None
