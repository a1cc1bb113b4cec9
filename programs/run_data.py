"""The data of a run, read again as its network sees it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets import Splits
from programs.trained import Trained
from utilities.errors import UserError
from utilities.paths import expanded


def splits(settings: Mapping[str, Any], network: Trained, source_path: str | None) -> Splits:
    """Those of the settings. Raises UserError for data that is not there.

    Args:
        source_path: where the data lies, if not where the run read it.
    """
    name, place = settings["dataset"], source_path or settings["source_path"]
    if name == "shapes":
        _require_drawn(Path(expanded(place)) / name)
    found = datasets.select(
        name,
        place,
        allow_partial=settings["allow_partial"],
        class_texts=settings["class_text"],
    )
    oriented = network.oriented()
    return found.changed(lambda split: datasets.shown(split, oriented=oriented))


def _require_drawn(shapes: Path) -> None:
    """Whoever trains draws the shapes; who only looks at a run makes no folder."""
    if not shapes.is_dir():
        raise UserError(
            f"--source_path/--dataset: there is no folder {shapes}; `python main.py --dataset "
            "shapes --source_path DIR` draws the shapes there."
        )
