"""What the paper reports, for runs that are one of its rows."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from programs.results.settings import Effective
from utilities.flags import entries_of

FILE = Path(__file__).with_name("published.yaml")


class Published(NamedTuple):
    """Mean and standard deviation in percent, and where they stand."""

    mean: float
    std: float
    source: str


def of(dataset: str, runs: Iterable[Effective]) -> dict[str, Published]:
    """Metric -> what the paper reports of the one row that all of some runs are; else nothing.

    A row is known by dataset, network, protocol, objective and kind of guidance, whose settings
    are in the table; those that it does not have may be any.
    """
    rows = {_row(dataset, run) for run in runs}
    row = rows.pop() if len(rows) == 1 else None
    if row is None:
        return {}
    objective, guidance = row
    values = _table()["rows"][dataset][objective][guidance]
    source = _table()["source"]
    return {metric: Published(mean, std, source) for metric, (mean, std) in values.items()}


def _row(dataset: str, run: Effective) -> tuple[str, str] | None:
    """Objective and guidance of the row, where the run is one."""
    table = _table()
    if dataset not in table["rows"] or not _has(run, table["settings"]):
        return None
    objective = _first(run, table["objectives"])
    is_guided = run["language_distill_w"] != [0]
    kinds = {kind: needs for kind, needs in table["guidance"].items() if bool(needs) == is_guided}
    guidance = _first(run, kinds)
    return (objective, guidance) if objective and guidance else None


def _first(run: Effective, kinds: Mapping[str, Mapping[str, object]]) -> str | None:
    """The kind whose settings a run has."""
    return next((kind for kind, needs in kinds.items() if _has(run, needs)), None)


def _has(run: Effective, needs: Mapping[str, object]) -> bool:
    return all(run.get(name, []) == entries_of(value) for name, value in needs.items())


@cache
def _table() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())
