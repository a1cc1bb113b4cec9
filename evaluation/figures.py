"""Figures of a split as the network sees it.

What it retrieves, how its classes lie, and how language relates them. They show samples, so that
they take seconds whatever the size of the split.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn.functional import normalize

import metrics
from evaluation.neighbours import Gallery, nearest
from evaluation.retrieval import Protocol, per_query
from metrics import COSINE
from utilities.errors import UserError, reason
from utilities.pictures import Ruler, lettered, new_figure, save
from utilities.rows import Picture, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG = logging.getLogger(__name__)
PRECISION = metrics.parse("c_mAP@R")  # by which queries are chosen
QUERIES = 1000  # whose average precision is compared
GROUP, NEAREST = 3, 8  # queries of each kind, and neighbours of each
CLASSES = 30  # with their names: more cannot be read
POINTS, STEPS = 900, 500  # of the projection: t-SNE takes seconds for them
THUMBNAIL = 128  # pixels
CAPTION, NAME = 60, 32  # characters of a name under a thumbnail, beside points and matrices
QUERY, RIGHT, WRONG, UNKNOWN = "black", "tab:green", "tab:red", "lightgrey"  # frames
LEFT_MARGIN, PICTURE, GAP = 0.6, 1.2, 0.1  # inches of a panel
CAPTION_SIZE, LINE = 7, 0.12  # points, and inches from line to line


class Thumbnail(NamedTuple):
    image: Image.Image
    name: str  # of its class, or of its file
    frame: str
    similarity: float | None = None  # to the query

    def captioned(self, name: str) -> str:
        """A name, the thumbnail's own or a shorter one, behind the similarity."""
        return name if self.similarity is None else f"{self.similarity:.2f}  {name}"

    @property
    def caption(self) -> str:
        return self.captioned(self.name)

    def picture(self) -> Picture:
        """As a cell of a table, which says in words whether a neighbour is right."""
        verdict = {RIGHT: "right, ", WRONG: "wrong, "}.get(self.frame, "")
        small = ImageOps.contain(self.image, (THUMBNAIL, THUMBNAIL))
        return Picture(lambda: small, verdict + self.caption)


class Panel(NamedTuple):
    """A row of pictures: a query and its neighbours, the nearest first."""

    title: str
    query: Thumbnail
    neighbours: list[Thumbnail]

    def row(self) -> Row:
        """Of a table, with a column for each rank."""
        cells: Row = {
            "kind": self.title.replace("\n", ", "),
            "class": self.query.name,
            "query": self.query.picture(),
        }
        ranks = range(1, NEAREST + 1)
        return (
            cells
            | dict.fromkeys(map(str, ranks))
            | {str(rank): neighbour.picture() for rank, neighbour in zip(ranks, self.neighbours)}
        )


class Drawn(NamedTuple):
    """What was drawn of a split: files by name, and the retrievals that one of them shows."""

    files: dict[str, Path]
    panels: list[Panel]


def draw(
    folder: Path,
    embeddings: torch.Tensor,
    protocol: Protocol,
    class_texts: list[str],
    read: Callable[[int], Image.Image],
    *,
    text_vectors: torch.Tensor | None,
    memory: int,
) -> Drawn:
    """All figures of a split, as PNG files in `folder`.

    One that cannot be drawn is told and left out: it costs a trained run nothing else.

    Args:
        embeddings: [N, D]. protocol: labels, and who searches where. class_texts: C names. read:
            gives the image of a row.
        text_vectors: [S, E] unit vectors of the texts of `shown_classes`, or None: then the classes
            are not compared with language.
        memory: bytes that the search may use beside the embeddings.
    """
    folder.mkdir(exist_ok=True)
    embeddings = normalize(embeddings.float(), dim=1)
    protocol = protocol.to(embeddings.device)
    classes = shown_classes(protocol.labels)
    names = [class_texts[label] for label in classes.tolist()]
    panels: list[Panel] = []

    def draw_retrieval(file: Path) -> Path | None:
        panels.extend(extreme_queries(embeddings, protocol, class_texts, read, memory))
        return draw_panels(file, panels) if panels else None

    def draw_classes(file: Path) -> Path | None:
        if text_vectors is None:
            return None
        by_images = class_similarities(embeddings, protocol.labels, classes)
        by_texts = (text_vectors @ text_vectors.T).cpu().numpy()
        title = f"image embeddings, mean of each class{_correlation(by_images, by_texts)}"
        return draw_similarities(file, {title: by_images, "language": by_texts}, names)

    drawings: dict[str, Callable[[Path], Path | None]] = {
        "retrieval": draw_retrieval,
        "projection": lambda file: draw_projection(
            file, embeddings, protocol.labels, classes, names
        ),
        "class_similarity": draw_classes,
    }
    drawn = {name: attempted(draw, folder / f"{name}.png") for name, draw in drawings.items()}
    return Drawn({name: file for name, file in drawn.items() if file}, panels)


def attempted(draw: Callable[[Path], Path | None], file: Path) -> Path | None:
    """What `draw` gives; None where there is nothing to draw, or it fails, which is told.

    A figure of before goes then: a run that goes on without guidance has none of language.
    """
    drawn = None
    try:
        drawn = draw(file)
    except Exception as error:  # of images that have gone, a full disk, libraries of drawing
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        why = kind + reason(error)
        LOG.warning("The figure %s is not drawn (%s).", file.name, why)
    if drawn is None:
        file.unlink(missing_ok=True)
    return drawn


def shown_classes(labels: torch.Tensor) -> torch.Tensor:
    """[S] long: the classes in figures, at even steps among those that have images."""
    return _at_even_steps(labels.unique(), CLASSES)


def extreme_queries(
    embeddings: torch.Tensor,
    protocol: Protocol,
    class_texts: list[str],
    read: Callable[[int], Image.Image],
    memory: int,
) -> list[Panel]:
    """Queries of the best, median and worst average precision, each of another class.

    The precision is mAP@R by cosine. There are none if every class has one image.
    """
    everyone = torch.arange(len(embeddings), device=embeddings.device)
    gallery_rows = everyone if protocol.gallery is None else protocol.gallery
    queries = _at_even_steps(everyone if protocol.queries is None else protocol.queries, QUERIES)
    sampled = protocol._replace(queries=queries)
    precisions = per_query(embeddings, sampled, [PRECISION], memory=memory)[PRECISION.name]
    is_defined = ~precisions.isnan()
    queries, precisions = queries[is_defined], precisions[is_defined]
    places = torch.full_like(everyone, -1)
    places[gallery_rows] = torch.arange(len(gallery_rows), device=places.device)
    gallery = Gallery(embeddings[gallery_rows], COSINE, depth=NEAREST)

    panels = []
    for kind, ranked in _kinds(precisions).items():
        for chosen in _first_of_classes(ranked, protocol.labels[queries]):
            row = int(queries[chosen])
            squared, found_at = nearest(gallery, embeddings[row][None], places[row][None], NEAREST)
            similarities = [1 - distance / 2 for distance in squared[0].tolist()]
            neighbours = dict(zip(gallery_rows[found_at[0]].tolist(), similarities))
            title = f"{kind}\nAP {float(precisions[chosen]):.2f}"
            panels.append(_panel(title, row, neighbours, protocol.labels, class_texts, read))
    return panels


def class_similarities(
    embeddings: torch.Tensor, labels: torch.Tensor, classes: torch.Tensor
) -> np.ndarray:
    """[S, S] cosine similarities of the classes' mean embeddings."""
    class_means = torch.stack([embeddings[labels == label].mean(0) for label in classes])
    directions = normalize(class_means, dim=1)
    return (directions @ directions.T).cpu().numpy()


def draw_panels(file: Path, panels: list[Panel]) -> Path:
    """Pictures with their captions, framed: queries black, right neighbours green, wrong ones red.

    Returns the file.
    """
    thumbnails = [thumbnail for panel in panels for thumbnail in (panel.query, *panel.neighbours)]
    with lettered((thumbnail.name for thumbnail in thumbnails), CAPTION) as shown:
        ruler = Ruler(CAPTION_SIZE)
        captions = {
            thumbnail.caption: ruler.lines(thumbnail.captioned(shown[thumbnail.name]), PICTURE)
            for thumbnail in thumbnails
        }
        below = LINE * max(map(len, captions.values())) + GAP
        figure, axes = _sheet(panels, below)
        for number, panel in enumerate(panels):
            top = GAP / 2 + (PICTURE + below) * number
            middle = top + PICTURE / 2
            axes.text(LEFT_MARGIN - GAP, middle, panel.title, ha="right", va="center", fontsize=9)
            for rank, thumbnail in enumerate([panel.query, *panel.neighbours]):
                left = LEFT_MARGIN + (PICTURE + GAP) * rank
                _draw_thumbnail(axes, thumbnail, captions[thumbnail.caption], left, top)
        return save(figure, file)


def draw_projection(
    file: Path,
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    classes: torch.Tensor,
    names: list[str],
) -> Path:
    """t-SNE of images of some classes, each class in its colour with its name near its median.

    Returns the file.
    """
    from matplotlib import colormaps

    rows = _of_each_class(labels, classes, POINTS // len(classes))
    points = _in_two_dimensions(embeddings[rows].cpu().numpy())
    class_of_point = torch.searchsorted(classes, labels[rows]).cpu().numpy()
    colours = colormaps["turbo"](np.linspace(0.03, 0.97, len(names)))
    medians = np.stack(
        [np.median(points[class_of_point == place], axis=0) for place in range(len(names))]
    )
    extent = np.ptp(points, axis=0).clip(1e-6)
    title = f"t-SNE of {len(points):,} images of {len(names)} of {len(labels.unique()):,} classes"
    with lettered(names, NAME) as shown:
        figure = new_figure(9, 8)
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.94), xticks=[], yticks=[])
        axes.scatter(
            points[:, 0], points[:, 1], c=colours[class_of_point], s=9, alpha=0.65, linewidths=0
        )
        shown_names = [shown[name] for name in names]
        letters = np.array([len(name) for name in shown_names])
        places = _apart(medians / extent, letters) * extent
        for name, colour, place in zip(shown_names, colours, places):
            _write_name(axes, name, place, colour)
        axes.set_title(title, fontsize=11)
        return save(figure, file)


def draw_similarities(file: Path, matrices: dict[str, np.ndarray], names: list[str]) -> Path:
    """Similarities [S, S] of classes by the titles of what they come from, side by side.

    What is related by the last stands next to each other. Returns the file.
    """
    order = related_first(list(matrices.values())[-1])
    square = np.ix_(order, order)
    scale = max(1, len(names) / CLASSES / 1.3)  # names keep their size
    with lettered(names, NAME) as shown:
        ordered_names = [shown[names[place]] for place in order]
        figure = new_figure(6.5 * scale * len(matrices), 6.6 * scale)
        margins = {"left": 0.1, "right": 0.96, "top": 0.94, "bottom": 0.19, "wspace": 0.2}
        places = figure.subplots(1, len(matrices), sharey=True, squeeze=False, gridspec_kw=margins)
        for axes, (title, values) in zip(places[0], matrices.items()):
            _draw_matrix(figure, axes, values[square], ordered_names, title)
        return save(figure, file)


def _kinds(precisions: torch.Tensor) -> dict[str, torch.Tensor]:
    """Kind -> all queries by their precision [Q], those that show the kind best first."""
    order = precisions.argsort(descending=True, stable=True)
    ranks = torch.arange(len(order), device=order.device)
    from_middle = (ranks - len(order) // 2).abs().argsort(stable=True)
    return {"best": order, "median": order[from_middle], "worst": order.flip(0)}


def _panel(
    title: str,
    query: int,
    similarities: dict[int, float],
    labels: torch.Tensor,
    class_texts: list[str],
    read: Callable[[int], Image.Image],
) -> Panel:
    """Of a query and its neighbours, the nearest first: row -> cosine similarity."""
    own_label = int(labels[query])
    neighbours = []
    for row, similarity in similarities.items():
        label = int(labels[row])
        frame = RIGHT if label == own_label else WRONG
        neighbours.append(Thumbnail(read(row), class_texts[label], frame, similarity))
    return Panel(title, Thumbnail(read(query), class_texts[own_label], QUERY), neighbours)


def _sheet(panels: list[Panel], below: float) -> "tuple[Figure, Axes]":
    """A figure for rows of thumbnails with so much room below each, and axes in inches.

    One for all of them, from the upper left corner: axes of each thumbnail take seconds to make.
    """
    columns = 1 + max(len(panel.neighbours) for panel in panels)
    width = LEFT_MARGIN + (PICTURE + GAP) * columns
    height = (PICTURE + below) * len(panels)
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def _draw_thumbnail(
    axes: "Axes", thumbnail: Thumbnail, caption: list[str], left: float, top: float
) -> None:
    from matplotlib.patches import Rectangle

    square = ImageOps.pad(thumbnail.image, (THUMBNAIL, THUMBNAIL), color="white")
    right, bottom = left + PICTURE, top + PICTURE
    axes.imshow(np.asarray(square), extent=(left, right, bottom, top), aspect="auto")
    axes.add_patch(
        Rectangle(
            (left, top), PICTURE, PICTURE, fill=False, edgecolor=thumbnail.frame, linewidth=2.5
        )
    )
    axes.text(
        left + PICTURE / 2,
        bottom + GAP / 2,
        "\n".join(caption),
        ha="center",
        va="top",
        fontsize=CAPTION_SIZE,
        linespacing=1.1,
    )


def _write_name(axes: "Axes", name: str, place: np.ndarray, colour: np.ndarray) -> None:
    """A class name in a darker shade of its colour, with a white rim."""
    from matplotlib import patheffects

    axes.annotate(
        name,
        (place[0], place[1]),
        ha="center",
        va="center",
        fontsize=9,
        weight="bold",
        color=0.7 * colour[:3],
        path_effects=[patheffects.withStroke(linewidth=3, foreground="white")],
    )


def _draw_matrix(
    figure: "Figure", axes: "Axes", values: np.ndarray, names: list[str], title: str
) -> None:
    low, high = 0.0, 1.0
    if len(names) > 1:  # the diagonal would take all contrast
        low, high = np.percentile(values[np.triu_indices(len(names), 1)], (1, 99))
    image = axes.imshow(values, vmin=low, vmax=high, cmap="magma")
    axes.set_title(title, fontsize=11)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    scale = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02, extend="both")
    scale.set_label("cosine similarity (each matrix has its own scale)", fontsize=8)


def _correlation(by_images: np.ndarray, by_texts: np.ndarray) -> str:
    """How the two rank the pairs of classes, as the end of a title; nothing for one pair."""
    from scipy.stats import spearmanr  # here, because it takes two seconds to load

    if len(by_texts) <= 2:
        return ""
    pairs = np.triu_indices(len(by_texts), 1)
    correlation = spearmanr(by_images[pairs], by_texts[pairs]).statistic
    return f", rank correlation {correlation:.2f}"


def _at_even_steps(values: torch.Tensor, count: int) -> torch.Tensor:
    steps = min(count, len(values))
    places = torch.linspace(0, len(values) - 1, steps, dtype=torch.float64, device=values.device)
    return values[places.round().long()]


def _of_each_class(labels: torch.Tensor, classes: torch.Tensor, count: int) -> torch.Tensor:
    """Rows of some classes, at most `count` of each, in the order of the classes."""
    rows_by_class = [(labels == label).nonzero().squeeze(1) for label in classes]
    return torch.cat([_at_even_steps(rows, count) for rows in rows_by_class])


def _first_of_classes(ranked: torch.Tensor, labels: torch.Tensor) -> list[int]:
    """The first GROUP places of `ranked`, no two of a class."""
    chosen: dict[int, int] = {}
    for place, label in zip(ranked.tolist(), labels[ranked].tolist()):
        chosen.setdefault(label, place)
        if len(chosen) == GROUP:
            break
    return list(chosen.values())


def _in_two_dimensions(rows: np.ndarray) -> np.ndarray:
    """[P, 2] t-SNE of rows [P, D]."""
    from sklearn.manifold import TSNE

    # A collapsed space has no principal components to begin with.
    is_flat = np.count_nonzero(rows.std(0) > 1e-6) < 2
    projection = TSNE(
        init="random" if is_flat else "pca",
        perplexity=min(30, (len(rows) - 1) / 3),
        max_iter=STEPS,
        random_state=0,
    )
    return projection.fit_transform(rows)


def _apart(places: np.ndarray, letters: np.ndarray) -> np.ndarray:
    """Places [S, 2] of names, each moved up or down from those that it would cover.

    They are in shares of the figure.
    """
    places = places.copy()
    numbers = np.arange(len(places))
    is_itself = np.eye(len(places), dtype=bool)
    earlier_or_later = np.sign(numbers[:, None] - numbers)
    for _ in range(200):
        across = places[:, None, 0] - places[None, :, 0]
        along = places[:, None, 1] - places[None, :, 1]
        is_near_across = np.abs(across) < 0.0058 * (letters[:, None] + letters)
        covers = is_near_across & (np.abs(along) < 0.021) & ~is_itself
        if not covers.any():
            break
        up = np.where(along != 0, np.sign(along), earlier_or_later)
        places[:, 1] += 0.003 * (covers * up).sum(1)
    return places


def related_first(similarities: np.ndarray) -> np.ndarray:
    """[S] an order of classes that puts similar ones next to each other.

    It is that of the leaves of their hierarchical clustering.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(similarities) < 3:
        return np.arange(len(similarities))
    distances = (1 - (similarities + similarities.T) / 2).clip(0)
    np.fill_diagonal(distances, 0)
    condensed = squareform(distances, checks=False)
    return leaves_list(linkage(condensed, "average", optimal_ordering=True))
