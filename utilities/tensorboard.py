"""Event files for TensorBoard in a run folder: the only file that knows it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from utilities import durable
from utilities.errors import UserError, in_escapes
from utilities.logger import EPOCHS, STEPS, Summary, Values, by_key
from utilities.rows import Picture, Row

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from torch.utils.tensorboard import SummaryWriter

EVENTS = "events.out.tfevents.*"
FLUSH_SECONDS = 15  # after which losses of steps can be seen
MOST_ROWS = 1000  # of a table, which is shown as text


class EventFiles:
    """Event files of one run.

    A resumed run writes others beside them, which replace what it makes again.

    Losses of steps lie in a folder of their own, because they are counted otherwise: what begins
    anew with an epoch is not what begins anew with a step of the same number.

    Args:
        settings: of the run, shown as its hyper-parameters.
        first: the epoch that this process makes first, counted from 1.
    """

    def __init__(self, folder: Path, settings: dict[str, object], *, first: int = 1):
        self.folder, self.settings = folder, settings
        self.is_new = not any(folder.glob(EVENTS))
        self.known = 0 if self.is_new else _last_epoch(folder)
        # The last epoch whose best values are there.
        self.summarised = -1 if self.is_new else first - 1
        self.ending: Message | None = None
        with self._written():
            self.epochs = _writer(folder, first)
        self.steps: SummaryWriter | None = None

    @staticmethod
    def require_possible() -> None:
        """Fail before any work if event files cannot be written."""
        try:
            import tensorboard
        except ImportError as error:
            raise UserError(
                "--tensorboard needs the package tensorboard: pip install tensorboard, or drop the "
                "flag."
            ) from error
        assert tensorboard

    @property
    def run_id(self) -> None:
        """Files need none to be gone on with."""

    def log(self, epoch: int, step: int, values: Values) -> None:
        """Values of an epoch, by the same keys as at W&B."""
        with self._written():
            for name, value in by_key(values).items():
                self._add_scalar(name, value, epoch)
            self.epochs.flush()

    def log_steps(self, step: int, losses: dict[str, float]) -> None:
        """Losses of a step of training, "Steps/loss"."""
        with self._written():
            self.steps = self.steps or _writer(self.folder / "steps", step)
            for name, loss in losses.items():
                self.steps.add_scalar(STEPS + name, loss, step)

    def log_table(self, epoch: int, name: str, rows: list[Row]) -> None:
        """A table as text, with the captions of its pictures; the first rows of a long one."""
        with self._written():
            self.epochs.add_text(name, _as_markdown(rows), epoch)

    def log_figures(self, epoch: int, figures: dict[str, Path]) -> None:
        with self._written():
            for name, file in figures.items():
                with Image.open(file) as image:
                    pixels = np.asarray(image.convert("RGB"))
                self.epochs.add_image(name, pixels, epoch, dataformats="HWC")

    def summarise(self, epoch: int, summary: Summary) -> None:
        """The best values so far of evaluated splits, "Test: embeds_nmi: nmi (best)".

        They are the metrics of the table of hyper-parameters.
        """
        best = {
            f"{split}: {metric} (best)": values["best"]
            for split, metrics in summary.items()
            for metric, values in metrics.items()
            if split != "Train" and "best" in values
        }
        if epoch <= self.summarised:
            return
        with self._written():
            if best and self.ending is None:
                self._add_settings(best)
            for name, value in best.items():
                self._add_scalar(name, value, epoch)
            self.epochs.flush()
        self.summarised = epoch

    def finish(self, exit_code: int = 0) -> None:
        with self._written():
            if self.ending is not None and exit_code == 0:
                self._add(self.ending)
            self.epochs.close()
            if self.steps:
                self.steps.close()

    def _add_scalar(self, name: str, value: float, epoch: int) -> None:
        if value == value:  # a metric without a value has no point
            self.epochs.add_scalar(name, value, epoch)

    def _add_settings(self, metrics: dict[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams

        experiment, beginning, self.ending = hparams(_as_hyperparameters(self.settings), metrics)
        self._add(experiment)
        self._add(beginning)

    def _add(self, summary: "Message") -> None:
        self.epochs._get_file_writer().add_summary(summary)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Raises UserError for a full disk."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"--tensorboard: the event files in {self.folder} cannot be written "
                f"{durable.why(error)}"
            ) from error


def _writer(folder: Path, first: int) -> "SummaryWriter":
    """Where there are event files, what they have from the number `first` on is taken back."""
    from torch.utils.tensorboard import SummaryWriter

    goes_on = any(folder.glob(EVENTS))
    return SummaryWriter(
        str(folder), purge_step=first if goes_on else None, flush_secs=FLUSH_SECONDS
    )


def _last_epoch(folder: Path) -> int:
    """That there are values of, 0 for none: a run may have gone on without being shown."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 1, "images": 1}).Reload()
    return found.Scalars(EPOCHS)[-1].step if EPOCHS in found.Tags()["scalars"] else 0


def _as_hyperparameters(settings: dict[str, object]) -> dict[str, str | float | None]:
    """Numbers stay; all else is said in words, and an absent value is none."""
    return {name: _as_hyperparameter(value) for name, value in settings.items()}


def _as_hyperparameter(value: object) -> str | float | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, int | float):
        return value
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return in_escapes(text)


def _as_markdown(rows: list[Row]) -> str:
    """A table, and below it how many rows are left out."""
    lines = [_line(rows[0]), "|---" * len(rows[0]) + "|", *(_line(row.values()) for row in rows)]
    left_out = len(rows) - MOST_ROWS
    note = [f"\n{left_out:,} more rows are not shown."] if left_out > 0 else []
    return "\n".join([*lines[: MOST_ROWS + 2], *note])


def _line(cells: Iterable[object]) -> str:
    return "".join(f"| {_in_cell(cell)} " for cell in cells) + "|"


def _in_cell(cell: object) -> str:
    text = cell.caption if isinstance(cell, Picture) else str(cell)
    return " ".join(text.replace("|", "\\|").split())
