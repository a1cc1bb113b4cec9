"""The data of a run, read again as its network sees it."""

from collections.abc import Mapping
from typing import Any

import datasets
import parameters
from datasets import Splits
from programs.trained import Trained


def with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run from before a flag, with what the flag does by itself."""
    return {flag.name: flag.initial() for flag in parameters.FLAGS} | dict(settings)


def splits(settings: Mapping[str, Any], network: Trained, source_path: str | None) -> Splits:
    """Those of the settings. Raises UserError for data that is not there.

    Args:
        source_path: where the data lies, if not where the run read it.
    """
    found = datasets.select(
        settings["dataset"],
        source_path or settings["source_path"],
        allow_partial=settings["allow_partial"],
        class_texts=settings["class_text"],
    )
    oriented = network.oriented()
    return found.changed(lambda split: datasets.shown(split, oriented=oriented))
