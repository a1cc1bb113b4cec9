"""What a network retrieves, embedded again from its checkpoint: panels, classes, their pictures."""

import base64
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch.nn.functional import normalize

import datasets
import language_guidance
import metrics
import parameters
from datasets import ImageSplit, Splits
from evaluation import Protocol, figures
from evaluation.neighbours import Gallery
from evaluation.refinement import nearest_of_all
from evaluation.retrieval import per_query
from language_guidance import GuidanceSettings
from metrics import COSINE
from programs import images, run_data, trained
from programs.page.chart import at_even_steps
from programs.page.heat_map import Similarities
from programs.page.panels import Asked, Neighbour, Panel, Picture
from programs.page.text import visible
from programs.results.runs import Run
from programs.trained import Trained
from utilities.errors import UserError, in_escapes
from utilities.paths import expanded
from utilities.runtime import CPU, memory_budget

PRECISION = metrics.parse("c_mAP@R")  # by which queries are ordered
QUERIES = 6000  # whose average precision is compared
NEAREST = 8  # neighbours of each
EACH = 10  # panels of each kind at most, each of another class
WITHOUT_TEXTS = "Classes are not compared with language"
SIDE, QUALITY = 112, 72  # pixels of a picture at most, and of WebP


class Seen(NamedTuple):
    """
    Attributes:
        trained: classes of the split that the run was trained on too, with other images.
        of_classes: name of a training class -> a picture. missing: sentences on what is not here.
    """

    panels: list[Panel]
    classes: int
    trained: int
    similarities: Similarities | None
    of_classes: dict[str, Picture]
    missing: list[str]


def look(run: Run, checkpoint: Path, asked: Asked, classes: Iterable[str]) -> Seen:
    """Embed the test split of a run again, and show what it retrieves.

    Args:
        classes: names of training classes, as class_texts.csv has them, of which a picture is
            wanted.
    Raises:
        UserError: the checkpoint, the data or an image cannot be read.
    """
    settings = parameters.whole(run.settings)
    network = trained.load(checkpoint, asked.device, gpu=asked.gpu, precision=asked.precision)
    splits, missing = _splits(settings, network, asked.source_path)
    testing = images.whole(splits.testing, "--source_path", asked.on_bad_image)
    other_data = _other_data(run, testing)
    embeddings = _embedded(network, testing, settings["evaltypes"][0], asked)
    protocol = Protocol.of(testing, [])
    texts = None
    if settings["language_distill_w"] and not missing:
        texts, missing = _text_vectors(settings, testing, protocol)
    return Seen(
        _panels(embeddings, protocol, testing, asked.panels),
        len(protocol.labels.unique()),
        _trained(settings, asked),
        _similarities(embeddings, protocol.labels, testing.class_texts, texts),
        _of_classes(splits.training, set(classes)),
        [*other_data, *missing],
    )


def choose(precisions: np.ndarray, labels: np.ndarray, most: int) -> list[tuple[str, int]]:
    """Kind and place of the queries to show: the best, median and worst, and one of each class.

    The first three kinds have as many, each of another class; a query of the middle stands for
    each class that they leave out, as far as `most` allows.
    """
    order = np.argsort(-precisions, kind="stable")
    from_middle = order[np.argsort(np.abs(np.arange(len(order)) - len(order) // 2), kind="stable")]
    ranked = {"best": order, "median": from_middle, "worst": order[::-1]}
    each = min(EACH, max(1, most // 6))
    chosen = [
        (kind, place)
        for kind, places in ranked.items()
        for place in _of_different_classes(places, labels, each)
    ]
    shown = {labels[place] for _, place in chosen}
    others = [label for label in np.unique(labels) if label not in shown]
    for label in at_even_steps(others, max(0, most - len(chosen))):
        of_class = order[labels[order] == label]
        chosen.append(("class", int(of_class[len(of_class) // 2])))
    return chosen[:most]


def encoded(image: Image.Image) -> Picture:
    """A small copy, as an address that holds it whole."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    return Picture(f"data:image/webp;base64,{data}", small.width, small.height)


def _splits(
    settings: dict[str, Any], network: Trained, source_path: str | None
) -> tuple[Splits, list[str]]:
    """Those of a run, and why they are without the texts of its classes, if they cannot be had."""
    if not settings["language_distill_w"]:
        settings = settings | {"class_text": None}  # which nothing here reads
    try:
        return run_data.splits(settings, network, source_path), []
    except UserError as error:
        if not settings["class_text"]:
            raise
        without = run_data.splits(settings | {"class_text": None}, network, source_path)
        return without, [f"{WITHOUT_TEXTS}: {error}"]


def _other_data(run: Run, testing: ImageSplit) -> list[str]:
    """That the data which is there is not that of the run, as far as its records count it."""
    tested, here = run.counts.get("Test", {}), testing.counts()
    if all(tested.get(name, count) == count for name, count in here.items()):
        return []
    counts = ", ".join(f"{count:,} {name}" for name, count in here.items())
    then = ", ".join(f"{tested[name]:,}" for name in here if name in tested)
    return [
        f"The data that is there is not that of the run: its test split has {counts} (then {then})."
    ]


def _trained(settings: Mapping[str, Any], asked: Asked) -> int:
    """How many test classes have training images; only own data divides classes so."""
    name = settings["dataset"]
    if name not in datasets.OWN_DATA:
        return 0
    place = Path(expanded(asked.source_path or settings["source_path"]))
    return len(datasets.classes_in_both(datasets.read(name, place)))


def _embedded(network: Trained, split: ImageSplit, evaltype: str, asked: Asked) -> torch.Tensor:
    """[N, D] unit vectors."""
    blocks = network.blocks(split, evaltype, batch_size=asked.batch_size, workers=asked.workers)
    return normalize(torch.from_numpy(np.concatenate(list(blocks))), dim=1)


def _panels(
    embeddings: torch.Tensor, protocol: Protocol, split: ImageSplit, most: int
) -> list[Panel]:
    """Queries and their neighbours; none where no class has a second image."""
    queries, precisions = _precisions(embeddings, protocol)
    if not len(queries):
        return []
    labels = protocol.labels.numpy()
    chosen = choose(precisions.numpy(), labels[queries.numpy()], most)
    rows = queries[[place for _, place in chosen]]
    found = _neighbours(embeddings, protocol, rows)
    album = _Album(split)
    panels = []
    for (kind, place), row, neighbours in zip(chosen, rows.tolist(), found):
        shown = [
            Neighbour(
                album.picture(other), album.name(other), labels[other] == labels[row], similarity
            )
            for other, similarity in neighbours
        ]
        panels.append(
            Panel(
                kind,
                int(labels[row]),
                album.name(row),
                album.file(row),
                float(precisions[place]),
                album.picture(row),
                shown,
            )
        )
    return panels


def _precisions(embeddings: torch.Tensor, protocol: Protocol) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [Q] of queries that have any relevant image, and their average precision [Q]."""
    everyone = torch.arange(len(embeddings))
    queries = everyone if protocol.queries is None else protocol.queries
    steps = torch.linspace(0, len(queries) - 1, min(QUERIES, len(queries)), dtype=torch.float64)
    queries = queries[steps.round().long()]
    memory = memory_budget("auto", CPU)
    sampled = protocol._replace(queries=queries)
    precisions = per_query(embeddings, sampled, [PRECISION], memory=memory)[PRECISION.name]
    is_defined = ~precisions.isnan()
    return queries[is_defined], precisions[is_defined]


def _neighbours(
    embeddings: torch.Tensor, protocol: Protocol, rows: torch.Tensor
) -> list[list[tuple[int, float]]]:
    """Of each row its nearest in the gallery: their rows and cosine similarities."""
    everyone = torch.arange(len(embeddings))
    gallery_rows = everyone if protocol.gallery is None else protocol.gallery
    places = torch.full_like(everyone, -1)
    places[gallery_rows] = torch.arange(len(gallery_rows))
    gallery = Gallery(embeddings[gallery_rows], COSINE, depth=NEAREST)
    squared, found = nearest_of_all(gallery, embeddings[rows], places[rows], NEAREST)
    return [
        list(zip(gallery_rows[of_query[of_query >= 0]].tolist(), (1 - distances / 2).tolist()))
        for of_query, distances in zip(found, squared)
    ]


class _Album:
    """Pictures of a split's images, each made once."""

    def __init__(self, split: ImageSplit):
        self.split = split
        self.known: dict[int, Picture] = {}

    def picture(self, row: int) -> Picture:
        if row not in self.known:
            self.known[row] = encoded(self.split.image(row))
        return self.known[row]

    def name(self, row: int) -> str:
        """Of its class."""
        return self.split.class_texts[self.split.labels[row]]

    def file(self, row: int) -> str:
        """The ends of its path, which do not say whose machine it lay on."""
        return str(Path(*Path(self.split.files[row]).parts[-2:]))


def _of_different_classes(places: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    """The first places, no two of a class."""
    chosen: dict[int, int] = {}
    for place in places.tolist():
        chosen.setdefault(labels[place], place)
        if len(chosen) == count:
            break
    return list(chosen.values())


def _text_vectors(
    settings: Mapping[str, Any], split: ImageSplit, protocol: Protocol
) -> tuple[torch.Tensor | None, list[str]]:
    """[S, E] unit vectors of the classes in figures, or why there are none."""
    names = GuidanceSettings._fields
    guidance = GuidanceSettings(**{name: settings[f"language_{name}"] for name in names})
    classes = figures.shown_classes(protocol.labels).tolist()
    # Language models take no bytes that are no text, which names of folders may hold.
    captions = [tuple(map(visible, split.captions[label])) for label in classes]
    cache = Path(expanded(settings["cache_path"]))
    try:
        vectors = language_guidance.class_vectors(guidance, captions, cache=cache, device=CPU)
    except UserError as error:
        return None, [f"{WITHOUT_TEXTS}: {error}"]
    return vectors, []


def _similarities(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    class_texts: list[str],
    text_vectors: torch.Tensor | None,
) -> Similarities | None:
    """Of the classes in figures, related ones next to each other; None for a single class."""
    classes = figures.shown_classes(labels)
    if len(classes) < 2:
        return None
    by_images = figures.class_similarities(embeddings, labels, classes)
    by_language = None if text_vectors is None else (text_vectors @ text_vectors.T).numpy()
    order = figures.related_first(by_images if by_language is None else by_language)
    square = np.ix_(order, order)
    return Similarities(
        [class_texts[label] for label in classes[order.tolist()].tolist()],
        by_images[square],
        None if by_language is None else by_language[square],
        None if by_language is None else _correlation(by_images, by_language),
    )


def _correlation(by_images: np.ndarray, by_language: np.ndarray) -> float | None:
    """How alike the two rank the pairs of classes; None for one pair, or where all are alike."""
    if len(by_images) < 3:
        return None
    pairs = np.triu_indices(len(by_images), 1)
    if min(np.ptp(by_images[pairs]), np.ptp(by_language[pairs])) == 0:
        return None
    return float(spearmanr(by_images[pairs], by_language[pairs]).statistic)


def _of_classes(split: ImageSplit, wanted: set[str]) -> dict[str, Picture]:
    """The first image of each class that is wanted, by its name as class_texts.csv writes it."""
    labels, rows = np.unique(split.labels, return_index=True)
    named = {
        in_escapes(split.class_texts[label]): row
        for label, row in zip(labels.tolist(), rows.tolist())
    }
    return {name: encoded(split.image(named[name])) for name in wanted & named.keys()}
