"""Run folders as main.py leaves them, made without training."""

import csv
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import parameters
from utilities import run_folder
from utilities.run_names import run_name

COUNTS = {"Train": {"classes": 64, "images": 1920}, "Test": {"classes": 64, "images": 1920}}
R1, MAP = "embeds_e_recall: e_recall@1", "embeds_mAP_1000: mAP_1000"


@cache
def default_settings() -> str:
    return json.dumps(parameters.stored(parameters.parse(["--dataset", "shapes"])))


def make_run(
    place: Path,
    group: str,
    seed: int,
    curves: Mapping[str, Sequence[float]] | None = None,
    *,
    every: int = 1,
    best_val: int | None = None,
    facts: Mapping[str, Any] | None = None,
    **flags: Any,
) -> Path:
    """A finished run, in the folder below a place that main.py would have given it.

    Args:
        curves: key of results.json -> values at epochs `every`, 2 `every`, ...; higher is better.
        best_val: number of the epoch that a validation split chooses.
        facts: in the place of those in results.json.
    """
    curves = {R1: [0.5]} if curves is None else curves
    epochs = every * max(map(len, curves.values()))
    settings = json.loads(default_settings())
    settings |= {"group": group, "seed": seed, "n_epochs": epochs} | flags
    name = run_name(settings["savename"], group, seed)
    folder = run_folder.create(str(place), settings["dataset"], name)
    (folder / "args.yaml").write_text(json.dumps(settings))  # which is YAML, and fast
    (folder / "CSV_Logs").mkdir()
    losses = [1 / epoch for epoch in range(1, epochs + 1)]
    _write_table(folder, "Train", "loss: loss", losses, 1)
    for key, values in curves.items():
        _write_table(folder, "Test", key, values, every)
    results = {
        "dataset": settings["dataset"],
        "settings": settings,
        "data": COUNTS,
        "epochs": epochs,
        "metrics": {
            "Train": {"loss": _three(losses, 1, None) | {"best": losses[-1], "best_epoch": epochs}},
            "Test": {key: _three(values, every, best_val) for key, values in curves.items()},
        },
        "finished": "2026-11-26T10:00:00+00:00",
    }
    (folder / run_folder.RESULTS).write_text(json.dumps(results | dict(facts or {})))
    return folder


def unfinished(folder: Path, log: str = "") -> Path:
    """The run as though it had not ended."""
    (folder / run_folder.RESULTS).unlink()
    if log:
        (folder / "log.txt").write_text(log)
    return folder


def _three(values: Sequence[float], every: int, best_val: int | None) -> dict[str, float]:
    if not values:
        return {}
    best = max(range(len(values)), key=lambda place: values[place])
    three = {"best": values[best], "best_epoch": every * (best + 1)}
    three |= {"last": values[-1], "last_epoch": every * len(values)}
    if best_val is not None:
        three |= {"at_best_val": values[best_val // every - 1], "best_val_epoch": best_val}
    return three


def _write_table(folder: Path, split: str, key: str, values: Sequence[float], every: int) -> None:
    family, _, metric = key.partition(": ")
    with (folder / "CSV_Logs" / f"Data_{split}_{family}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", metric])
        writer.writerows([every * number, value] for number, value in enumerate(values, 1))
