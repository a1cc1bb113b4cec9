"""What is known of a published benchmark, and whether a folder holds all of it."""
import logging
from typing import NamedTuple

from datasets.listing import Listing, counts
from utilities.errors import UserError

LOG = logging.getLogger(__name__)


class Benchmark(NamedTuple):
    counts: dict[str, tuple[int, int]]  # part -> classes, images
    source: str                         # where its files come from, as the end of a sentence
    url: str | None = None              # a file that can be fetched without asking anybody
    md5: dict[str, str] = {}            # published file -> checksum


def require_whole(name: str, facts: Benchmark, listing: Listing, *, allow_partial: bool) -> None:
    """Raises UserError that names what differs from the published counts; with `allow_partial` a notice."""
    found = counts(listing)
    differences = [f"{part} has {_amount(*found.get(part, (0, 0)))} instead of {_amount(*expected)}"
                   for part, expected in facts.counts.items() if found.get(part) != expected]
    if not differences:
        return
    message = f"{name} is not the published benchmark: {'; '.join(differences)}"
    if not allow_partial:
        raise UserError(f"--dataset {message}. `python -m datasets.prepare {name} --help` says how to complete it; "
                        "--allow_partial takes it as it is, with results that do not compare.")
    LOG.warning("%s. Results do not compare with published ones.", message)


def _amount(classes: int, images: int) -> str:
    return f"{images:,} images of {classes:,} classes"
