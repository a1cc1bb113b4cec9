"""Metrics of runs by the names under which people ask for them."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from parameters import TEXT_METRICS
from utilities.errors import UserError
from utilities.flags import nearest
from utilities.logger import LOWER_IS_BETTER

USUAL = ("e_recall@1", "mAP_1000", "mAP@R", "nmi")  # shown where nobody asks
MOST_UNASKED = 4  # of runs that have none of these
EMBEDDINGS = "embeds"  # the evaltype that a name alone means
# Between 0 and 1, and written in percent.
SHARES = re.compile(
    r"((c|aqe|alphaqe|rerank)_)?"
    r"(e_recall|recall|superclass_recall|precision|r_precision|mAP|nmi|ami|f1)"
)


class Metric(NamedTuple):
    """
    Attributes:
        key: as in results.json, `embeds_e_recall: e_recall@1`.
        name: as in --evaluation_metrics; with `avg_features:` before it where it is theirs.
    """

    key: str
    name: str

    @property
    def is_share(self) -> bool:
        return bool(SHARES.match(self._bare))

    @property
    def lower_is_better(self) -> bool:
        return self._bare.startswith(LOWER_IS_BETTER)

    @property
    def reads_texts(self) -> bool:
        return self._bare in TEXT_METRICS

    @property
    def _bare(self) -> str:
        return self.key.rpartition(": ")[2]


def named_by(key: str) -> Metric:
    """The metric of a key of results.json."""
    family, _, metric = key.rpartition(": ")
    evaltype = family.removesuffix(f"_{metric.split('@')[0]}")
    is_plain = not family or evaltype == EMBEDDINGS or metric.endswith(f"@{evaltype}")
    return Metric(key, metric if is_plain else f"{evaltype}:{metric}")


def resolve(asked: Sequence[str], keys: Iterable[str], split: str) -> list[Metric]:
    """The metrics asked for, by name or key, of those that runs have; usual ones unasked.

    Raises UserError for one that no run has, or where they have none.
    """
    known = {metric.name: metric for metric in map(named_by, keys)}
    if not known:
        raise UserError(f"No run has any metric of the split {split}.")
    chosen = [_one(name, known, split) for name in asked] or _usual(known)
    return list(dict.fromkeys(chosen))


def _one(asked: str, known: dict[str, Metric], split: str) -> Metric:
    by_key = {metric.key: metric for metric in known.values()}
    name = re.sub(r"\s*:\s*", ":", asked.strip()).removeprefix(f"{EMBEDDINGS}:")
    metric = by_key.get(asked) or known.get(name)
    if metric is None:
        raise UserError(
            f"No run has the metric {asked} of the split {split}{nearest(name, known)}; they have: "
            f"{', '.join(known)}."
        )
    return metric


def _usual(known: dict[str, Metric]) -> list[Metric]:
    usual = [known[name] for name in USUAL if name in known]
    return usual or list(known.values())[:MOST_UNASKED]
