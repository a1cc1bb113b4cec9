"""Run folders that no run made: what a page is written from, in a millisecond."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

import parameters

Curves = Mapping[str, Mapping[str, Sequence[float]]]
CURVES: Curves = {
    "Test_embeds_e_recall": {"e_recall@1": [0.25, 0.5, 0.375], "e_recall@2": [0.5, 0.625, 0.75]},
    "Test_embeds_dists": {"dists@intra": [0.9, 0.7, 0.8]},
    "Train_loss": {"loss": [3.0, 2.0, 1.0]},
    "Train_learning_rate": {"trunk": [1e-5, 1e-5, 1e-6], "head": [1e-4, 1e-4, 1e-5]},
    "Train_time": {"time": [10.0, 11.0, 12.0]},
}


def settings(**others: object) -> dict[str, object]:
    """Of a run, as they are stored."""
    return parameters.stored(parameters.parse([])) | others


def begun(folder: Path, curves: Curves = CURVES, **others: object) -> Path:
    """A run that has not ended."""
    (folder / "CSV_Logs").mkdir(parents=True)
    (folder / "args.yaml").write_text(yaml.safe_dump(settings(**others)))
    for name, columns in curves.items():
        with (folder / "CSV_Logs" / f"Data_{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *columns])
            writer.writerows(
                [epoch, *values] for epoch, values in enumerate(zip(*columns.values()), start=1)
            )
    return folder


def finished(
    folder: Path,
    curves: Curves = CURVES,
    facts: Mapping[str, object] | None = None,
    **others: object,
) -> Path:
    """A run with results.json, whose best epoch is the one with the largest value."""
    begun(folder, curves, **others)
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for name, columns in curves.items():
        split, _, family = name.partition("_")
        for metric, values in columns.items():
            key = metric if metric == family else f"{family}: {metric}"
            best = max(values)
            metrics.setdefault(split, {})[key] = {
                "best": best,
                "best_epoch": list(values).index(best) + 1,
                "last": values[-1],
                "last_epoch": len(values),
            }
    results = {
        "command": "python main.py --lr 1e-4",
        "settings": settings(**others),
        "epochs": 3,
        "metrics": metrics,
        "seconds": 75,
        "finished": "2026-11-26T10:00:00+00:00",
        "git_revision": "0123456789abcdef",
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
    }
    (folder / "results.json").write_text(json.dumps(results | dict(facts or {})))
    return folder
