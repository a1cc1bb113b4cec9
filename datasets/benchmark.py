"""What is known of a published benchmark, and how a folder differs from it."""

from typing import NamedTuple

from datasets.listing import Listing, counts


class Benchmark(NamedTuple):
    counts: dict[str, tuple[int, int]]  # part -> classes, images
    source: str  # where its files come from, as the end of a sentence
    files: dict[str, str | None]  # published file -> MD5, None where none is known
    url: str | None = None  # that of a file that can be fetched without asking anybody


def differences(facts: Benchmark, listing: Listing) -> list[str]:
    """What is not as published, part by part; nothing if all is."""
    present = counts(listing)
    return [
        f"{part} has {_amount(*present.get(part, (0, 0)))} instead of {_amount(*expected)}"
        for part, expected in facts.counts.items()
        if present.get(part) != expected
    ]


def _amount(classes: int, images: int) -> str:
    return f"{images:,} images of {classes:,} classes"
