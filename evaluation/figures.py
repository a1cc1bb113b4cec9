"""Figures of a split as the network sees it: what it retrieves, how its classes lie, and how language relates them.

They show samples, so that they take seconds whatever the size of the split.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn.functional import normalize

import metrics
from evaluation.neighbours import Gallery, nearest
from evaluation.retrieval import Protocol, per_query
from metrics import COSINE

QUERIES = 1000  # whose average precision is compared
GROUP, NEAREST = 3, 8  # queries of each kind, and neighbours of each
CLASSES = 30  # with their names: more cannot be read
POINTS, STEPS = 900, 500  # of the projection: t-SNE takes seconds for them
THUMBNAIL = 128  # pixels
CAPTION, NAME = 20, 24  # characters under a thumbnail, of a class
QUERY, RIGHT, WRONG, UNKNOWN = "black", "tab:green", "tab:red", "lightgrey"  # frames


class Thumbnail(NamedTuple):
    image: Image.Image
    caption: str
    frame: str


class Panel(NamedTuple):
    """A row of pictures: a query and its neighbours, the nearest first."""

    title: str
    query: Thumbnail
    neighbours: list[Thumbnail]


def draw(
    folder: Path,
    embeddings: torch.Tensor,
    protocol: Protocol,
    class_texts: list[str],
    read: Callable[[int], Image.Image],
    *,
    text_vectors: torch.Tensor | None,
    memory: int,
) -> dict[str, Path]:
    """All figures of a split, as PNG files in `folder`; name -> file.

    Args:
        embeddings: [N, D]. protocol: labels, and who searches where. class_texts: C names. read:
            gives the image of a row.
        text_vectors: [S, E] unit vectors of the texts of `shown_classes`, or None: then the classes
            are not compared with language.
        memory: bytes that the search may use beside the embeddings.
    """
    folder.mkdir(exist_ok=True)
    embeddings = normalize(embeddings.float(), dim=1)
    protocol = Protocol(
        *(part if part is None else part.to(embeddings.device) for part in protocol)
    )
    classes = shown_classes(protocol.labels)
    names = [class_texts[label] for label in classes.tolist()]
    files = {}
    if panels := extreme_queries(embeddings, protocol, class_texts, read, memory):
        files["retrieval"] = draw_panels(folder / "retrieval.png", panels)
    files["projection"] = draw_projection(
        folder / "projection.png", embeddings, protocol.labels, classes, names
    )
    if text_vectors is not None:
        images = class_similarities(embeddings, protocol.labels, classes)
        files["class_similarity"] = draw_similarities(
            folder / "class_similarity.png",
            images,
            (text_vectors @ text_vectors.T).cpu().numpy(),
            names,
        )
    return files


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
    """Queries of the best, median and worst average precision (mAP@R, by cosine), each of another class; none if every class has one image."""
    everyone = torch.arange(len(embeddings), device=embeddings.device)
    queries = _at_even_steps(everyone if protocol.queries is None else protocol.queries, QUERIES)
    rows = everyone if protocol.gallery is None else protocol.gallery
    places = torch.full_like(everyone, -1).index_put_(
        (rows,), torch.arange(len(rows), device=rows.device)
    )
    precisions = per_query(
        embeddings, protocol._replace(queries=queries), [metrics.parse("c_mAP@R")], memory=memory
    )["c_mAP@R"]
    queries, precisions = queries[~precisions.isnan()], precisions[~precisions.isnan()]
    gallery = Gallery(embeddings[rows], COSINE, depth=NEAREST)

    def panel(kind: str, query: int, precision: float) -> Panel:
        squared, found = nearest(gallery, embeddings[query][None], places[query][None], NEAREST)
        label = int(protocol.labels[query])
        neighbours = [
            Thumbnail(
                read(row),
                f"{1 - distance / 2:.2f}  {class_texts[other]}",
                RIGHT if other == label else WRONG,
            )
            for row, other, distance in zip(
                rows[found[0]].tolist(),
                protocol.labels[rows[found[0]]].tolist(),
                squared[0].tolist(),
            )
        ]
        return Panel(
            f"{kind}\nAP {precision:.2f}",
            Thumbnail(read(query), class_texts[label], QUERY),
            neighbours,
        )

    order = precisions.argsort(descending=True, stable=True)
    from_middle = (
        (torch.arange(len(order), device=order.device) - len(order) // 2).abs().argsort(stable=True)
    )
    kinds = {"best": order, "median": order[from_middle], "worst": order.flip(0)}
    return [
        panel(kind, int(queries[place]), float(precisions[place]))
        for kind, ranked in kinds.items()
        for place in _first_of_classes(ranked, protocol.labels[queries])
    ]


def class_similarities(
    embeddings: torch.Tensor, labels: torch.Tensor, classes: torch.Tensor
) -> np.ndarray:
    """[S, S] cosine similarities of the classes' mean embeddings."""
    means = normalize(
        torch.stack([embeddings[labels == label].mean(0) for label in classes]), dim=1
    )
    return (means @ means.T).cpu().numpy()


def draw_panels(file: Path, panels: list[Panel]) -> Path:
    """Pictures with their captions, framed: queries black, right neighbours green, wrong ones red. Returns the file."""
    columns = 1 + max(len(panel.neighbours) for panel in panels)
    figure = _figure(1.25 * columns + 0.6, 1.5 * len(panels))
    axes = figure.subplots(
        len(panels),
        columns,
        squeeze=False,
        gridspec_kw={
            "left": 0.6 / (1.25 * columns + 0.6),
            "right": 0.995,
            "top": 0.995,
            "bottom": 0.18 / len(panels),
            "wspace": 0.06,
            "hspace": 0.24,
        },
    )
    for line, panel in zip(axes, panels):
        line[0].set_ylabel(panel.title, rotation=0, ha="right", va="center", fontsize=9)
        for place, thumbnail in zip(line, [panel.query, *panel.neighbours]):
            place.imshow(
                np.asarray(ImageOps.pad(thumbnail.image, (THUMBNAIL, THUMBNAIL), color="white"))
            )
            place.set_xlabel(_short(thumbnail.caption, CAPTION), fontsize=7, labelpad=2)
            place.spines[:].set(color=thumbnail.frame, linewidth=2.5)
        for place in line:
            place.set(xticks=[], yticks=[])
        for unused in line[1 + len(panel.neighbours) :]:
            unused.set_axis_off()
    return _save(figure, file)


def draw_projection(
    file: Path,
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    classes: torch.Tensor,
    names: list[str],
) -> Path:
    """t-SNE of images of some classes, each class in its colour with its name near its median. Returns the file."""
    from matplotlib import colormaps, patheffects

    shown = _of_each_class(labels, classes, POINTS // len(classes))
    points, owners = (
        _in_two_dimensions(embeddings[shown].cpu().numpy()),
        torch.searchsorted(classes, labels[shown]).cpu().numpy(),
    )
    colours = colormaps["turbo"](np.linspace(0.03, 0.97, len(names)))
    figure = _figure(9, 8)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.94), xticks=[], yticks=[])
    axes.scatter(*points.T, c=colours[owners], s=9, alpha=0.65, linewidths=0)
    shown_names = [_short(name) for name in names]
    medians = np.stack([np.median(points[owners == owner], axis=0) for owner in range(len(names))])
    extent = np.ptp(points, axis=0).clip(1e-6)
    for name, colour, place in zip(
        shown_names,
        colours,
        _apart(medians / extent, np.array(list(map(len, shown_names)))) * extent,
    ):
        axes.annotate(
            name,
            place,
            ha="center",
            va="center",
            fontsize=9,
            weight="bold",
            color=0.7 * colour[:3],
            path_effects=[patheffects.withStroke(linewidth=3, foreground="white")],
        )
    axes.set_title(
        f"t-SNE of {len(points):,} images of {len(names)} of {len(labels.unique()):,} classes",
        fontsize=11,
    )
    return _save(figure, file)


def draw_similarities(file: Path, images: np.ndarray, texts: np.ndarray, names: list[str]) -> Path:
    """Similarities [S, S] of classes by their images and by their texts side by side, related texts next to each other. Returns the file."""
    from scipy.stats import spearmanr  # here, because it takes two seconds to load

    order = _related_first(texts)
    figure = _figure(13, 6.6)
    above = np.triu_indices(len(order), 1)
    correlation = (
        f", rank correlation {spearmanr(images[above], texts[above]).statistic:.2f}"
        if len(order) > 2
        else ""
    )
    names = [_short(names[place]) for place in order]
    for axes, values, title in zip(
        figure.subplots(
            1,
            2,
            sharey=True,
            gridspec_kw={"left": 0.1, "right": 0.96, "top": 0.94, "bottom": 0.19, "wspace": 0.14},
        ),
        (images, texts),
        ("image embeddings, mean of each class" + correlation, "language"),
    ):
        values = values[np.ix_(order, order)]
        low, high = (
            np.percentile(values[above], (1, 99)) if len(order) > 1 else (0, 1)
        )  # the diagonal would take all contrast
        drawn = axes.imshow(values, vmin=low, vmax=high, cmap="magma")
        axes.set_title(title, fontsize=11)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        figure.colorbar(drawn, ax=axes, fraction=0.045, pad=0.02)
    return _save(figure, file)


def _at_even_steps(values: torch.Tensor, count: int) -> torch.Tensor:
    return values[
        torch.linspace(
            0, len(values) - 1, min(count, len(values)), dtype=torch.float64, device=values.device
        )
        .round()
        .long()
    ]


def _of_each_class(labels: torch.Tensor, classes: torch.Tensor, count: int) -> torch.Tensor:
    """Rows of some classes, at most `count` of each, in the order of the classes."""
    return torch.cat(
        [_at_even_steps((labels == label).nonzero().squeeze(1), count) for label in classes]
    )


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

    is_flat = (
        np.count_nonzero(rows.std(0) > 1e-6) < 2
    )  # a collapsed space has no principal components to begin with
    return TSNE(
        init="random" if is_flat else "pca",
        perplexity=min(30, (len(rows) - 1) / 3),
        max_iter=STEPS,
        random_state=0,
    ).fit_transform(rows)


def _apart(places: np.ndarray, letters: np.ndarray) -> np.ndarray:
    """Places [S, 2] of names, in shares of the figure, each moved up or down from those that it would cover."""
    places = places.copy()
    for _ in range(200):
        across, along = (places[:, None, axis] - places[None, :, axis] for axis in (0, 1))
        covers = (
            (np.abs(across) < 0.0058 * (letters[:, None] + letters))
            & (np.abs(along) < 0.021)
            & ~np.eye(len(places), dtype=bool)
        )
        if not covers.any():
            break
        up = np.where(
            along != 0,
            np.sign(along),
            np.sign(np.arange(len(places))[:, None] - np.arange(len(places))),
        )
        places[:, 1] += 0.003 * (covers * up).sum(1)
    return places


def _related_first(similarities: np.ndarray) -> np.ndarray:
    """[S] an order of classes that puts similar ones next to each other: the leaves of their hierarchical clustering."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(similarities) < 3:
        return np.arange(len(similarities))
    distances = (1 - (similarities + similarities.T) / 2).clip(0)
    np.fill_diagonal(distances, 0)
    return leaves_list(
        linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    )


def _short(text: str, characters: int = NAME) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _figure(width: float, height: float):
    """Of inches; without pyplot, which would keep it and choose a backend for the whole process."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _save(figure, file: Path) -> Path:
    figure.savefig(file, dpi=130)
    return file
