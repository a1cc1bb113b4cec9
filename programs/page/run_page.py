"""The page of one run."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from programs.page import heat_map, run_figures, run_part, writing
from programs.page.heat_map import SimilarityPart
from programs.page.panels import Asked, Panel, Picture
from programs.page.run_figures import Figure
from programs.page.run_part import ClassTexts
from programs.page.text import counted
from programs.results.runs import Run
from programs.results.settings import guidance_in_words
from utilities.errors import UserError, reason
from utilities.run_folder import checkpoint_at

WITHOUT_PANELS = "The figures below are those that the run drew of itself."


class SeenPart(NamedTuple):
    """What a network makes of its test split.

    Attributes:
        of_classes: label and name of each class that has a panel. coverage: a sentence on them.
        unseen: a sentence on what of the split was trained on.
        figures: that the run drew. missing: sentences.
    """

    panels: list[Panel]
    of_classes: list[tuple[int, str]]
    coverage: str
    unseen: str
    similarity: SimilarityPart | None
    figures: list[Figure]
    missing: list[str]


def write(run: Run, file: Path, asked: Asked) -> int:
    """Write the page of a run; returns its bytes.

    What cannot be had is said on the page. Raises UserError where there is no place for it, or the
    records of the run cannot be read.
    """
    part = run_part.read(run)
    texts, texts_note = _texts(run)
    seen, of_classes = _seen(run, asked, [text.name for text in texts.shown] if texts else [])
    return writing.write(
        file,
        "run.html",
        title=f"{part.name}, {part.dataset}",
        part=part,
        seen=seen,
        texts=texts.with_pictures(of_classes) if texts else None,
        texts_note=texts_note,
        texts_have_pictures=bool(of_classes),
    )


def _texts(run: Run) -> tuple[ClassTexts | None, str]:
    """What guidance reads, with a sentence on what that is, or on why there is nothing."""
    if not run.settings.get("language_distill_w"):
        return None, "This run was not guided by language."
    try:
        texts = run_part.class_texts(run.folder)
    except UserError as error:
        return None, str(error)
    note = f"What guides: {guidance_in_words(run.settings)}."
    if texts is None:
        return None, f"{note} The folder has no {run_part.CLASS_TEXTS} with texts of classes."
    is_of_images = run.settings.get("language_pseudoclass_level") == "sample"
    if is_of_images and run.settings.get("language_pseudoclass"):
        note += " The number behind each says how many images of the class read it."
    return texts, note


def _seen(run: Run, asked: Asked, classes: list[str]) -> tuple[SeenPart, dict[str, Picture]]:
    """What the network sees, or what the run drew of it; and pictures of training classes."""
    checkpoint = checkpoint_at(run.facts["checkpoint"] if run.is_evaluation else run.folder)
    if not asked.panels:
        return _as_drawn(run, ["Nothing was embedded for this page (--panels 0)."]), {}
    if not checkpoint.is_file():
        why = f"There is no checkpoint {checkpoint}, so nothing could be embedded for this page."
        return _as_drawn(run, [why]), {}
    try:
        return _as_embedded(run, checkpoint, asked, classes)
    except UserError as error:
        why = f"Images could not be embedded for this page: {error}"
    except Exception as error:  # of settings and images of any age, in libraries: the page is more
        why = f"Images could not be embedded ({type(error).__name__}: {reason(error)})."
    return _as_drawn(run, [why]), {}


def _as_embedded(
    run: Run, checkpoint: Path, asked: Asked, classes: Iterable[str]
) -> tuple[SeenPart, dict[str, Picture]]:
    from programs.page import pictures  # here, because it loads torch

    seen = pictures.look(run, checkpoint, asked, classes)
    names = {panel.label: panel.name for panel in seen.panels}
    figures = ["projection"] if seen.panels else ["retrieval", "projection"]
    if not seen.similarities:
        figures.append("class_similarity")
    missing = [] if seen.panels else ["No class of the test split has two images to retrieve."]
    return SeenPart(
        seen.panels,
        sorted(names.items()),
        _coverage(len(names), seen.classes),
        "" if run.is_evaluation else _unseen(seen.trained, seen.classes),
        heat_map.laid_out(seen.similarities) if seen.similarities else None,
        run_figures.read(run.folder, figures),
        seen.missing + missing,
    ), seen.of_classes


def _coverage(shown: int, classes: int) -> str:
    if shown == classes:
        return f"Each of its {counted(classes, 'class', 'classes')} has a query here."
    return (
        f"{shown:,} of its {counted(classes, 'class', 'classes')} have a query here; "
        "--panels asks for more."
    )


def _unseen(trained: int, classes: int) -> str:
    """An evaluation may be of other data than the training, of which its folder tells nothing."""
    if not trained:
        return "Classes of this split were not trained on."
    which = "All" if trained == classes else f"{trained:,} of the {classes:,}"
    return f"{which} classes of this split were trained on too, with other images."


def _as_drawn(run: Run, missing: list[str]) -> SeenPart:
    """Without anything embedded."""
    figures = run_figures.read(run.folder, list(run_figures.FIGURES))
    missing = [*missing, WITHOUT_PANELS if figures else "The run drew no figures either."]
    return SeenPart([], [], "", "", None, figures, missing)
