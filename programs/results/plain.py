"""A comparison as plain values for other programs: CSV, JSON.

Numbers are those of results.json, shares between 0 and 1; what the paper reports is in percent.
"""

import json
from typing import Any

from programs.results import settings
from programs.results.comparison import Comparison, Group, Measured
from programs.results.statistics import CONFIDENCE
from utilities.errors import on_one_line
from utilities.rows import csv_text


def comma_separated(comparison: Comparison) -> str:
    """A row for each group, metric and kind of value; the last columns are of the seeds."""
    seeds = sorted({seed for group in comparison.groups for seed in group.runs})
    rows = [
        _plain_row(comparison, group, measured, kind)
        | {f"seed {seed}": measured.values[kind].get(seed) for seed in seeds}
        for group in comparison.groups
        for measured in group.measured.values()
        for kind in measured.values
    ]
    return csv_text(rows)


def as_json(comparison: Comparison) -> str:
    """All there is, as `plain` has it."""
    return json.dumps(plain(comparison), indent=1, allow_nan=False) + "\n"


def plain(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain values."""
    return {
        "split": comparison.split,
        "value": comparison.value,
        "baseline": comparison.baseline,
        "confidence": CONFIDENCE,
        "groups": [_plain_group(group) for group in comparison.groups],
        "left_out": comparison.left_out,
        "warnings": comparison.warnings,
    }


def _plain_group(group: Group) -> dict[str, Any]:
    return {
        "dataset": on_one_line(group.dataset),
        "group": on_one_line(group.name),
        "runs": {str(seed): on_one_line(str(run.folder)) for seed, run in group.runs.items()},
        "settings": {name: on_one_line(value) for name, value in group.settings.items()},
        "metrics": {name: _plain_measured(each) for name, each in group.measured.items()},
    }


def _plain_measured(measured: Measured) -> dict[str, Any]:
    difference, published = measured.difference, measured.published
    return {
        "key": measured.metric.key,
        "is_share": measured.metric.is_share,
        "lower_is_better": measured.metric.lower_is_better,
        **{
            kind: {**measured.spreads[kind]._asdict(), "values": values}
            for kind, values in measured.values.items()
        },
        "difference": difference._asdict() if difference else None,
        "published": published._asdict() if published else None,
    }


def _plain_row(
    comparison: Comparison, group: Group, measured: Measured, kind: str
) -> dict[str, object]:
    difference = measured.difference if kind == comparison.value else None
    low, high = (difference and difference.interval) or (None, None)
    published = measured.published
    return {
        "dataset": on_one_line(group.dataset),
        "group": on_one_line(group.name),
        "split": comparison.split,
        "metric": measured.metric.name,
        "value": kind,
        **measured.spreads[kind]._asdict(),
        "baseline": on_one_line(comparison.baseline or ""),
        "difference": difference.mean if difference else None,
        "low": low,
        "high": high,
        "pairs": len(difference.seeds) if difference else None,
        "published_percent": published.mean if published else None,
        "published_std_percent": published.std if published else None,
        "settings": on_one_line(settings.as_flags(group.settings)),
    }
