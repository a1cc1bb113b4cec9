"""The records of a run: CSV tables, plots, results.json and, on request, Weights & Biases (the only file that knows it)."""

import csv
import io
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from utilities.errors import UserError, reason
from utilities.run_folder import RESULTS, write_atomically

# Values of one epoch: split -> family -> metric -> value, e.g. {"Test": {"embeds_e_recall":
# {"e_recall@1": 0.5}}}.
Families = dict[str, dict[str, float]]
Values = dict[str, Families]
PLOT_INTERVAL = 60  # seconds between redrawings: drawing must not slow short epochs down
LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "faiss-cpu",
    "faiss-gpu",
    "numpy",
    "scikit-learn",
    "pillow",
    "transformers",
    "open_clip_torch",
    "wandb",
)
LOWER_IS_BETTER = (
    "loss",
    "objective",
    "guidance",
    "time",
    "dists@intra",
    "rho_spectrum",
)  # beginnings of names
COUNTERS = ("epochs", "time")


class RunLog:
    """Appends the values of each epoch to every record; `history` of a checkpoint makes a resumed run's records whole.

    Args:
        folder: run folder. history: split -> family -> metric -> values so far. online: a started
            `OnlineRun`, or None.
    """

    def __init__(
        self, folder: Path, history: dict | None = None, online: "OnlineRun | None" = None
    ):
        self.folder, self.online = folder, online
        self.history: dict[str, dict[str, dict[str, list[float]]]] = history or {}
        self.last_drawn = time.monotonic()
        (folder / "CSV_Logs").mkdir(exist_ok=True)
        (folder / "Progression_Plots").mkdir(exist_ok=True)

    def log(self, epoch: int, values: Values) -> None:
        """Record the values of an epoch."""
        done = len(self._epochs())
        for split, families in values.items():
            for family, metrics in families.items():
                for metric, value in metrics.items():
                    series = (
                        self.history.setdefault(split, {})
                        .setdefault(family, {})
                        .setdefault(metric, [])
                    )
                    # A metric that a resumed run asks for anew has no value in the epochs before.
                    series += [math.nan] * (done - len(series)) + [float(value)]
        for series in self._series():
            series += [math.nan] * (done + 1 - len(series))  # no longer asked for
        self._write_tables()
        if time.monotonic() - self.last_drawn > PLOT_INTERVAL:
            self.draw()
        if self.online:
            self.online.log(epoch, values)

    def improved(self, split: str, family: str, metric: str) -> bool:
        """Whether the last logged value is better than all before it."""
        *before, last = self.history[split][family][metric]
        sign = -1 if metric.startswith(LOWER_IS_BETTER) else 1
        return sign * last > max(
            (sign * value for value in before if not math.isnan(value)), default=-math.inf
        )

    def improvements(
        self, splits: Iterable[str], evaltypes: list[str], metrics: list[str]
    ) -> list[Path]:
        """The checkpoints to write because a metric of a split is the best so far."""
        return [
            self.folder / f"checkpoint_{split}_{evaltype}_{metric}.pth.tar"
            for split in splits
            for evaltype in evaltypes
            for metric in metrics
            if self.improved(split, f"{evaltype}_{metric.split('@')[0]}", metric)
        ]

    def draw(self) -> None:
        """One figure per table."""
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot

        for split, families in self.history.items():
            for family, metrics in families.items():
                if family in COUNTERS:
                    continue
                figure, axes = pyplot.subplots(figsize=(7, 4.5))
                for metric, series in metrics.items():
                    epochs, known = zip(*self._known(series))
                    axes.plot(epochs, known, marker=".", label=f"{metric} (last {known[-1]:.4f})")
                axes.set(title=f"{split}: {family}", xlabel="epoch")
                axes.grid(alpha=0.3)
                axes.legend()
                figure.savefig(self.folder / "Progression_Plots" / f"Graph_{split}_{family}.svg")
                pyplot.close(figure)
        self.last_drawn = time.monotonic()

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """split -> "<family>: <metric>" -> three values and their epochs, counted from 0.

        `best` is the best over the epochs of the split itself, the field's habit, which chooses on
        the test set; `at_best_val` is the value at the epoch that is best on the validation split,
        where there is one; `last` chooses nothing.
        """
        return {
            split: {
                self._key(family, metric): self._three_values(family, metric, series)
                for family, metrics in families.items()
                if family not in COUNTERS
                for metric, series in metrics.items()
            }
            for split, families in self.history.items()
        }

    def finish(self, run: dict, seconds: float) -> None:
        """Draw and write results.json. `run` says what was run."""
        self.draw()
        summary = self.summary()
        if self.online:
            self.online.summarise(summary)
        results = {**run, "metrics": summary, "seconds": round(seconds, 2), **environment()}
        write_atomically(self.folder / RESULTS, json.dumps(results, indent=1) + "\n")

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> None:
        """End the online run, as failed if an exception passes; the files need no closing."""
        if self.online:
            self.online.finish(exit_code=1 if kind else 0)

    def _write_tables(self) -> None:
        for split, families in self.history.items():
            for family, metrics in families.items():
                table = io.StringIO(newline="")
                writer = csv.writer(table, lineterminator="\n")
                writer.writerow(metrics)
                writer.writerows(
                    zip(
                        *(
                            [("" if math.isnan(value) else value) for value in series]
                            for series in metrics.values()
                        )
                    )
                )
                write_atomically(
                    self.folder / "CSV_Logs" / f"Data_{split}_{family}.csv", table.getvalue()
                )

    def _epochs(self) -> list[float]:
        return self.history.get("Train", {}).get("epochs", {}).get("epochs", [])

    def _series(self) -> Iterator[list[float]]:
        return (
            series
            for families in self.history.values()
            for metrics in families.values()
            for series in metrics.values()
        )

    def _three_values(self, family: str, metric: str, series: list[float]) -> dict[str, float]:
        known = self._known(series)
        best_epoch, best = self._best(metric, known)
        last_epoch, last = known[-1]
        values = {"best": best, "best_epoch": best_epoch, "last": last, "last_epoch": last_epoch}
        if validation := self._known(self.history.get("Val", {}).get(family, {}).get(metric, [])):
            chosen, _ = self._best(metric, validation)
            values |= (
                {"at_best_val": dict(known)[chosen], "best_val_epoch": chosen}
                if chosen in dict(known)
                else {}
            )
        return values

    @staticmethod
    def _best(metric: str, known: list[tuple[int, float]]) -> tuple[int, float]:
        """The first epoch with the best value, and the value."""
        return (min if metric.startswith(LOWER_IS_BETTER) else max)(known, key=lambda pair: pair[1])

    def _known(self, series: list[float]) -> list[tuple[int, float]]:
        """Epoch and value where there is one: not every epoch is evaluated."""
        return [
            (int(epoch), value)
            for epoch, value in zip(self._epochs(), series)
            if not math.isnan(value)
        ]

    @staticmethod
    def _key(family: str, metric: str) -> str:
        return metric if family == metric else f"{family}: {metric}"


class OnlineRun:
    """A Weights & Biases run. The key comes from the environment; WANDB_MODE=offline needs none.

    Raises UserError if wandb is not installed or no key is there.
    """

    def __init__(
        self,
        *,
        project: str,
        group: str,
        name: str,
        settings: dict,
        folder: Path,
        run_id: str | None = None,
    ):
        import wandb

        try:
            self.run = wandb.init(
                project=project,
                group=group,
                name=name,
                config=settings,
                dir=str(folder),
                id=run_id,
                resume="allow",
                mode=os.environ.get("WANDB_MODE"),
            )  # by name: wandb remembers the mode of its first use
        except Exception as error:  # wandb raises types of its own for a wrong key or no network
            raise UserError(
                f"--log_online: W&B does not start ({reason(error)}); "
                "check WANDB_API_KEY and the network, or set WANDB_MODE=offline."
            ) from error

    @staticmethod
    def require_possible() -> None:
        """Fail before any work if online logging cannot work."""
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "--log_online needs the package wandb: pip install wandb, or drop the flag."
            ) from error
        if os.environ.get("WANDB_MODE", "online") in ("online", "shared") and not wandb.api.api_key:
            raise UserError(
                "--log_online needs a W&B key: set WANDB_API_KEY in the environment, or WANDB_MODE=offline to log without a network."
            )

    @property
    def run_id(self) -> str:
        return self.run.id

    def log(self, epoch: int, values: Values) -> None:
        """Keys as in the paper's code: "Test: embeds_e_recall: e_recall@1", "Train: loss"."""
        self.run.log(
            {
                f"{split}: {RunLog._key(family, metric)}": value
                for split, families in values.items()
                for family, metrics in families.items()
                for metric, value in metrics.items()
            },
            step=epoch,
        )

    def summarise(self, summary: dict[str, dict[str, dict[str, float]]]) -> None:
        """The three values of each metric, e.g. "Test: embeds_nmi: nmi (at_best_val)"."""
        self.run.summary.update(
            {
                f"{split}: {metric} ({name})": values[name]
                for split, metrics in summary.items()
                for metric, values in metrics.items()
                for name in ("best", "at_best_val", "last")
                if name in values
            }
        )

    def log_figures(self, epoch: int, split: str, figures: dict[str, Path]) -> None:
        """Pictures of a split beside the values of an epoch, e.g. "Test: retrieval"."""
        import wandb

        self.run.log(
            {f"{split}: {name}": wandb.Image(str(file)) for name, file in figures.items()},
            step=epoch,
        )

    def finish(self, exit_code: int = 0) -> None:
        self.run.finish(exit_code=exit_code)


def environment() -> dict:
    """Git revision of the program, versions and machine, for results.json."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return {"git_revision": _git_revision(), "versions": versions, "platform": platform.platform()}


def _git_revision() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
