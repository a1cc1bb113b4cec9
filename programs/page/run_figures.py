"""The pictures that a run drew of itself, small enough for a page."""

import base64
import io
import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from programs.page.panels import Picture

WIDTH, QUALITY = 1400, 80  # pixels at most, and of WebP
# Name of the file -> title, and what it shows.
FIGURES = {
    "retrieval": (
        "Retrieval",
        "Rows of pictures: queries of the best, median and worst average precision, each beside "
        "its nearest neighbours; frames are green for neighbours of its class and red for others.",
    ),
    "class_similarity": (
        "Similarity of classes",
        "Two square matrices: cosine similarities of classes by the means of their images, and of "
        "their texts in language.",
    ),
    "projection": (
        "Projection",
        "Points in a plane: images of some classes by t-SNE, those of a class in a colour, with "
        "the name of the class near their median.",
    ),
}


class Figure(NamedTuple):
    title: str
    alternative: str
    picture: Picture


def read(folder: Path, names: list[str]) -> list[Figure]:
    """Those of FIGURES with such names that lie in a run folder and can be read."""
    found = []
    for name in names:
        if picture := _picture(folder / "Figures" / f"{name}.png"):
            found.append(Figure(*FIGURES[name], picture))
    return found


def _picture(file: Path) -> Picture | None:
    small = io.BytesIO()
    try:
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("ignore")  # of images that can be read all the same
            drawn = image.convert("RGB")
            drawn.thumbnail((WIDTH, 4 * WIDTH))
            drawn.save(small, "WEBP", quality=QUALITY)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    data = base64.b64encode(small.getvalue()).decode()
    return Picture(f"data:image/webp;base64,{data}", drawn.width, drawn.height)
