"""A run at Weights & Biases: the only file that knows wandb."""

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from utilities.errors import UserError, reason
from utilities.logger import EPOCHS, STEPS, Summary, Values, by_key
from utilities.rows import Picture, Row

ONLINE = ("online", "shared", "run")  # of WANDB_MODE, as W&B reads it
MODES = (*ONLINE, "offline", "dryrun", "disabled")
SPLITS = ("Train", "Val", "Test")
STEP = "step"  # of training, from the beginning of the run


class Labels(NamedTuple):
    """By what a run is found at W&B; what is None or empty, W&B's environment variables may say."""

    project: str
    group: str
    name: str
    job_type: str
    entity: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None

    def of_init(self, run_id: str | None) -> dict[str, Any]:
        """Arguments of `wandb.init`.

        The agent of a sweep has said itself which run this is, and of which project.
        """
        said = self._asdict() | {"id": run_id, "tags": self.tags or None}
        said["job_type"] = os.environ.get("WANDB_JOB_TYPE") or self.job_type
        if is_of_sweep():
            said |= {"project": None, "entity": None, "id": None}
        return said


def is_of_sweep() -> bool:
    """Whether the agent of a W&B sweep has started this process."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


class OnlineRun:
    """A Weights & Biases run. The key comes from the environment; WANDB_MODE=offline needs none.

    Raises UserError if it cannot be started.

    Args:
        settings: and whatever else describes the run: its config at W&B.
        run_id: of the W&B run that goes on, None for a new one.
        by_steps: a step at W&B is a step of training instead of an epoch, because losses of steps
            come in between.
        quiet: W&B says nothing on the console.
    """

    def __init__(
        self,
        labels: Labels,
        settings: dict[str, object],
        folder: Path,
        *,
        run_id: str | None = None,
        by_steps: bool = False,
        quiet: bool = False,
    ):
        import wandb

        mode: Any = os.environ.get("WANDB_MODE")  # said, because wandb keeps that of its first use
        try:
            self.run = wandb.init(
                config=settings,
                dir=str(folder),
                resume="allow",
                mode=mode,
                settings=wandb.Settings(silent=True) if quiet else None,
                **labels.of_init(run_id),
            )
        except Exception as error:  # wandb raises types of its own for a wrong key or no network
            raise UserError(
                f"--log_online: W&B does not start ({reason(error)}); check WANDB_API_KEY and the "
                "network, or set WANDB_MODE=offline."
            ) from error
        self.is_new, self.by_steps = run_id is None, by_steps
        self.known = 0 if self.is_new else math.inf
        self.place: int | None = 0 if self.is_new else None  # W&B's step of what was logged last
        self.shift: int | None = 0 if self.is_new else None  # of W&B's steps from ours
        self._define_metrics()

    @staticmethod
    def require_possible() -> None:
        """Fail before any work if online logging cannot work."""
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "--log_online needs the package wandb: pip install wandb, or drop the flag."
            ) from error
        mode = os.environ.get("WANDB_MODE") or "online"
        if mode not in MODES:
            raise UserError(f"--log_online: WANDB_MODE={mode} is none of {', '.join(MODES)}.")
        if mode in ONLINE and not wandb.api.api_key:
            raise UserError(
                "--log_online needs a W&B key: set WANDB_API_KEY in the environment, or "
                "WANDB_MODE=offline to log without a network."
            )

    @property
    def run_id(self) -> str | None:
        """None of a disabled run, with which no other one goes on."""
        return None if self.run.disabled else self.run.id

    @property
    def config(self) -> dict[str, object]:
        """As W&B has it: under a sweep with the values that its agent has chosen."""
        return dict(self.run.config)

    def log(self, epoch: int, step: int, values: Values) -> None:
        """Values of an epoch.

        Keys as in the paper's code: "Test: embeds_e_recall: e_recall@1", "Train: loss".
        """
        place = step if self.by_steps else epoch
        if self.shift is None:
            self.shift = self._shift(epoch, place)
        self.place = place + self.shift
        self.run.log(by_key(values), step=self.place)

    def log_steps(self, step: int, losses: dict[str, float]) -> None:
        """Losses of a step of training, "Steps/loss"."""
        self.run.log(
            {STEP: step, **{STEPS + name: loss for name, loss in losses.items()}},
            step=step + (self.shift or 0),
        )

    def log_table(self, epoch: int, name: str, rows: list[Row]) -> None:
        """A table beside the values of an epoch; pictures are shown in its cells."""
        import wandb

        cells = [[_as_cell(cell) for cell in row.values()] for row in rows]
        table = wandb.Table(columns=list(rows[0]), data=cells)
        self._log_beside(epoch, {name: table})

    def log_figures(self, epoch: int, figures: dict[str, Path]) -> None:
        """Pictures beside the values of an epoch."""
        import wandb

        pictures = {name: wandb.Image(str(file)) for name, file in figures.items()}
        self._log_beside(epoch, pictures)

    def summarise(self, epoch: int, summary: Summary) -> None:
        """The three values of each metric so far, e.g. "Test: embeds_nmi: nmi (at_best_val)".

        W&B's own best values of `define_metric` would take the key itself, under which the paper's
        code has the last value.
        """
        named = {}
        for split, metrics in summary.items():
            for metric, values in metrics.items():
                for name in ("best", "at_best_val", "last"):
                    if name in values:
                        named[f"{split}: {metric} ({name})"] = values[name]
        self.run.summary.update(named)

    def finish(self, exit_code: int = 0) -> None:
        self.run.finish(exit_code=exit_code)

    def _define_metrics(self) -> None:
        """Epochs, or steps of training, are the axis of all that is logged over them."""
        for name in (EPOCHS, STEP):
            self.run.define_metric(name, hidden=True)
        for split in SPLITS:
            self.run.define_metric(f"{split}: *", step_metric=EPOCHS)
        self.run.define_metric(f"{STEPS}*", step_metric=STEP)

    def _log_beside(self, epoch: int, media: dict[str, Any]) -> None:
        """Where this process has logged no epoch yet, behind all that is there."""
        self.run.log({**media, EPOCHS: epoch}, step=self.place)

    def _shift(self, epoch: int, place: int) -> int:
        """By how much a W&B run that goes on is ahead, at the end of its first epoch from there.

        What W&B knows already of the epoch that is made again, it passes over. Beyond that its run
        was counted otherwise, and would pass over all that comes; so it would where it has the
        losses of the last step, and was left before the epoch's own values came beside them.
        """
        ahead = self.run.starting_step - place
        knows_epoch = ahead == 1 and self.run.summary.get(EPOCHS, 0) >= epoch
        return 0 if ahead < 1 or knows_epoch else ahead


def _as_cell(cell: object) -> object:
    """Pictures as W&B shows them; one that cannot be read is left out."""
    if not isinstance(cell, Picture):
        return cell
    import wandb

    image = cell.read()
    return wandb.Image(image, caption=cell.caption) if image else None
