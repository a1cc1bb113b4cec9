"""What a run says on the console."""

import io
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch

from utilities.errors import UserError, of_loading, on_one_line
from utilities.logger import Families, Summary, Values
from utilities.meters import NonFiniteLoss
from utilities.streams import PatientStream, patient_errors, reader_may_leave

LOG = logging.getLogger(__name__)
# Rooms whose sentences are shown; libraries tell of things nobody asked.
ROOMS = (
    "main",
    "build",
    "datasets",
    "evaluation",
    "language_guidance",
    "programs",
    "training",
    "utilities",
)


def configure_logging(stream: TextIO | None = None) -> None:
    """Plain sentences on standard output, or another stream."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        stream=PatientStream(stream or sys.stdout),
        force=True,
    )
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of images that can be read all the same
    # The hub client's retries end in a message of ours.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A log file shows an epoch when it ends, not when the run does; a name of bytes that are
        # no text is said in escapes.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def exit_status(run: Callable[..., None], *arguments: Any, program: str = "main.py") -> int:
    """Run, and turn what ends it into the exit status of the program.

    What went wrong is a sentence on standard error. Whoever reads what is said may leave.
    """
    status = 0  # of work that prints after its reader has left
    with reader_may_leave(), patient_errors():
        status = _exit_status(run, arguments, program)
    return status


def _exit_status(run: Callable[..., None], arguments: tuple[Any, ...], program: str) -> int:
    try:
        run(*arguments)
    except UserError as error:
        message, status = f"error: {error}", 2
    except torch.OutOfMemoryError:
        message, status = (
            "error: the GPU is out of memory; lower --bs (or --image_size in training), or use "
            "--precision bf16.",
            2,
        )
    except NonFiniteLoss as error:
        message, status = (
            f"stopped: {error}; lower --lr or --language_distill_w, or use --precision fp32.",
            1,
        )
    except RuntimeError as error:
        if not (sentence := of_loading(error)):
            raise
        message, status = f"error: {sentence}.", 2
    except KeyboardInterrupt as interrupt:
        message, status = f"interrupted{interrupt}", 130
    else:
        return 0
    print(f"{program}: {on_one_line(message)}", file=sys.stderr)
    return status


def aligned(lines: dict[str, str], indent: str = "") -> str:
    """A line for each name, with what stands behind it in one column."""
    width = max(map(len, lines))
    return "\n".join(f"{indent}{name:<{width}}  {text}".rstrip() for name, text in lines.items())


def print_summary(lines: dict[str, str]) -> None:
    """What is about to run."""
    LOG.info("\n%s\n", aligned(lines))


def print_epoch(
    epoch: int, epochs: int, evaltypes: list[str], losses: dict[str, float], values: Values
) -> None:
    """One line for the losses, and those of `print_values`."""
    shown = "  ".join(f"{name} {loss:.4f}" for name, loss in losses.items() if name != "time")
    LOG.info("Epoch %d of %d: %s  (training %.1f s)", epoch, epochs, shown, losses["time"])
    print_values(evaltypes, values)


def print_values(evaltypes: list[str], values: Values) -> None:
    """A line for each evaluated split and evaltype."""
    for split, families in values.items():
        for evaltype in evaltypes:
            numbers = _of_evaltype(evaltype, families)
            shown = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
            LOG.info("  %-5s %s  %s", split, evaltype, shown)


def _of_evaltype(evaltype: str, families: Families) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for family, metrics in families.items():
        if family.startswith(f"{evaltype}_"):
            numbers |= metrics
    return numbers


# The values of a metric over the epochs: their column, their names in the summary, and how the
# epoch was chosen.
THREE_VALUES = {
    "best": ("best", "best_epoch", "of all epochs, chosen on the split itself"),
    "at best validation": (
        "at_best_val",
        "best_val_epoch",
        "of the epoch that the validation split chooses",
    ),
    "last": ("last", "last_epoch", "of the last epoch"),
}


def print_results(summary: Summary, folder: Path) -> None:
    """The values of each metric with their epochs, and where everything lies."""
    known = {name for metrics in summary.values() for values in metrics.values() for name in values}
    columns = {title: names for title, names in THREE_VALUES.items() if names[0] in known}
    rows = []
    for split, metrics in summary.items():
        for metric, values in metrics.items():
            cells = [_with_epoch(values, value, epoch) for value, epoch, _ in columns.values()]
            rows.append((split, metric, *cells))
    meanings = "; ".join(f"{title}: {meaning}" for title, (*_, meaning) in columns.items())
    LOG.info(
        "\n%s\n\n%s.\nResults: %s (results.json, CSV_Logs/, Progression_Plots/, "
        "checkpoint_last.pth.tar, args.yaml)",
        table(rows, ("split", "metric", *columns)),
        meanings,
        folder,
    )


def table(rows: list[tuple], header: tuple) -> str:
    """Aligned columns; floats with four digits after the point."""
    cells = [tuple(map(_cell, row)) for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths))
        lines.append("  ".join(padded).rstrip())
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _with_epoch(values: dict[str, float], value: str, epoch: str) -> str:
    """A value and its epoch; of a metric that never had any value, this."""
    if not values:
        return "no value"
    return f"{values[value]:.4f} (epoch {values[epoch]})" if value in values else ""
