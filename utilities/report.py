"""What a run says on the console."""

import io
import logging
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from utilities import processes, signals
from utilities.errors import (
    OF_A_RUN,
    MemoryAdvice,
    NonFiniteLoss,
    UserError,
    of_compiling,
    of_loading,
    of_memory,
    of_norms,
    on_one_line,
    reason,
)
from utilities.log_file import LogFile, current, overhearing
from utilities.progress import allow_bars
from utilities.signals import Stopped
from utilities.streams import PatientStream, open_closed, patient_errors, reader_may_leave

if TYPE_CHECKING:
    from utilities.costs import Costs, Pace
    from utilities.logger import Families, Summary, Values

LOG = logging.getLogger(__name__)
WIDTH = 100  # columns of a line
RESULT = (logging.INFO + logging.WARNING) // 2  # level of what a run is for
# Of a run folder, what people look for first; all else stands behind it.
CONTENTS = (
    "results.json",
    "log.txt",
    "CSV_Logs/",
    "class_texts.csv",
    "Language/",
    "Progression_Plots/",
    "Figures/",
    "checkpoint_last.pth.tar",
    "args.yaml",
    "Parameter_Info.txt",
)
LAYER = re.compile(r" layer \d+ of \d+$")  # at the end of a group's name
SEVERAL = ("checkpoint_*.pth.tar", "events.out.tfevents.*")  # of which one name stands for all
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


def configure_logging(stream: TextIO | None = None, *, quiet: bool = False) -> None:
    """Plain sentences on standard output, or another stream, and all of them in the log file.

    Of several processes the first speaks.

    Args:
        quiet: the stream gets results and warnings only.
    """
    open_closed()
    if processes.is_other():
        logging.basicConfig(handlers=[logging.NullHandler()], force=True)
        allow_bars(False)
        return
    console = logging.StreamHandler(PatientStream(stream or sys.stdout))
    console.setLevel(RESULT if quiet else logging.INFO)
    console.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[console, LogFile()], force=True)
    allow_bars(not quiet)
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of images that can be read all the same
    # The hub client's retries end in a message of ours.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A log file shows an epoch when it ends, not when the run does; a name of bytes that are
        # no text is said in escapes.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def exit_status(
    run: Callable[..., None],
    *arguments: Any,
    program: str = "main.py",
    advice: MemoryAdvice = OF_A_RUN,
) -> int:
    """Run, and turn what ends it into the exit status of the program.

    What went wrong is a sentence on standard error. Whoever reads what is said may leave.

    Args:
        advice: names flags of the program that need less memory.
    """
    status = 0  # of work that prints after its reader has left
    with signals.answered(), reader_may_leave(), patient_errors(), overhearing():
        try:
            status = _exit_status(run, arguments, program, advice)
        except KeyboardInterrupt:  # while the sentence was printed
            status = 130
        except Stopped as stopped:
            status = stopped.status
    return status


def _exit_status(
    run: Callable[..., None], arguments: tuple[Any, ...], program: str, advice: MemoryAdvice
) -> int:
    try:
        run(*arguments)
    except UserError as error:
        message, status = f"error: {error}", 2
    except NonFiniteLoss as error:
        message, status = (
            f"stopped: {error}; lower --lr or --language_distill_w, or use --precision fp32.",
            1,
        )
    except BrokenPipeError:  # the reader of what is printed has left
        raise
    except OSError as error:  # a file, a disk or a network that fails unexpectedly
        what = f"{error.filename}: " if error.filename else ""
        message, status = f"error: {what}{error.strerror or reason(error)}.", 2
    except (RuntimeError, ValueError, MemoryError) as error:
        if not (sentence := _known(error, advice)):
            raise
        message, status = f"error: {sentence}.", 2
    except KeyboardInterrupt as interrupt:
        message, status = f"interrupted{interrupt}", 130
    except Stopped as stopped:
        message, status = f"stopped by {stopped}", stopped.status
    else:
        return 0
    _tell(f"{program}: {on_one_line(message)}", of_signal=status > 128)
    return status


def _known(error: BaseException, advice: MemoryAdvice) -> str | None:
    """What has happened, as a sentence without its point, where that is not a fault of ours."""
    of_run = of_loading(error) or processes.of_others(error) or of_norms(error)
    return of_run or of_memory(error, advice) or of_compiling(error)


def _tell(sentence: str, *, of_signal: bool) -> None:
    """What ended the program, once where several processes end."""
    if processes.is_first_to_tell(sentence, of_signal=of_signal):
        print(sentence, file=sys.stderr)
    elif log := current():
        log.say(processes.what_was_told())


def aligned(lines: dict[str, str], indent: str = "") -> str:
    """A line for each name, with what stands behind it in one column."""
    width = max(map(len, lines))
    return "\n".join(f"{indent}{name:<{width}}  {text}".rstrip() for name, text in lines.items())


def print_summary(lines: dict[str, str]) -> None:
    """What is about to run."""
    LOG.info("\n%s\n", aligned(lines))


def print_epoch(
    epoch: int,
    epochs: int,
    evaltypes: list[str],
    losses: dict[str, float],
    values: "Values",
    costs: "Costs",
    pace: "Pace",
) -> None:
    """What an epoch gave and took, and the lines of `print_values`."""
    parts = [f"{name} {loss:.4f}" for name, loss in losses.items() if name != "time"]
    speed_digits = 1 if costs.images_per_second < 10 else 0
    parts += [_rates(costs.learning_rates), f"training {losses['time']:.1f} s"]
    parts += [
        f"{costs.images_per_second:,.{speed_digits}f} images/s",
        f"memory {_memory(costs.peak_memory)}",
    ]
    if pace.ahead:
        parts.append(f"{'at least ' * pace.is_lower_bound()}{duration(pace.remaining())} left")
    LOG.info("%s", in_lines(parts, f"Epoch {epoch + 1} of {epochs}: "))
    print_values(evaltypes, values)


def print_values(evaltypes: list[str], values: "Values", level: int = logging.INFO) -> None:
    """Lines for each evaluated split and evaltype."""
    for split, families in values.items():
        for evaltype in evaltypes:
            numbers = _of_evaltype(evaltype, families)
            parts = [f"{name} {value:.4f}" for name, value in numbers.items()]
            LOG.log(level, "%s", in_lines(parts, f"  {split:<5} {evaltype}  "))


def _rates(learning_rates: dict[str, float]) -> str:
    """One rate if all groups have it, else each with the groups that have it.

    Layers of the trunk are one group, with the least and the greatest of their rates, and what has
    no decay (`vectors`) is of the group that it was taken from.
    """
    of_parts: dict[str, list[float]] = {}
    for name, rate in learning_rates.items():
        part = LAYER.sub("", name.removesuffix(", vectors"))
        of_parts.setdefault(part, []).append(rate)
    groups: dict[str, list[str]] = {}
    for part, rates in of_parts.items():
        least, greatest = f"{min(rates):g}", f"{max(rates):g}"
        said = least if least == greatest else f"{least} to {greatest}"
        groups.setdefault(said, []).append(part)
    if len(groups) == 1:
        return f"lr {next(iter(groups))}"
    return "lr " + ", ".join(f"{said} ({', '.join(parts)})" for said, parts in groups.items())


def _memory(peaks: dict[str, float]) -> str:
    if "gpu_gb" not in peaks:
        return f"{peaks['host_gb']:.1f} GB"
    return f"{peaks['host_gb']:.1f} GB, GPU {peaks['gpu_gb']:.1f} GB"


def duration(seconds: float) -> str:
    """In two units at most: "8 s", "3 min 20 s", "2 h 5 min", "1 d 3 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, smaller, length, part in (("min", "s", 60, 1), ("h", "min", 3600, 60)):
        if whole < length * (60 if unit == "min" else 24):
            return f"{whole // length} {unit} {whole % length // part} {smaller}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def in_lines(parts: list[str], beginning: str = "") -> str:
    """Parts in lines of at most WIDTH columns; lines after the first are indented."""
    lines, indent = [beginning], " " * min(len(beginning), 4)
    for part in parts:
        is_first = lines[-1] in (beginning, indent)
        extended = lines[-1] + ("" if is_first else "  ") + part
        if is_first or len(extended) <= WIDTH:
            lines[-1] = extended
        else:
            lines.append(indent + part)
    return "\n".join(lines)


def _of_evaltype(evaltype: str, families: "Families") -> dict[str, float]:
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


def print_results(summary: "Summary", folder: Path) -> None:
    """The values of each metric with their epochs, and where everything lies."""
    known = {name for metrics in summary.values() for values in metrics.values() for name in values}
    columns = {title: names for title, names in THREE_VALUES.items() if names[0] in known}
    rows = []
    for split, metrics in summary.items():
        for metric, values in metrics.items():
            cells = [_with_epoch(values, value, epoch) for value, epoch, _ in columns.values()]
            rows.append((split, metric, *cells))
    header = ("split", "metric", *columns)
    meanings = [f"{title}: {meaning}" for title, (*_, meaning) in columns.items()]
    LOG.log(
        RESULT,
        "\n%s\n\n%s.\n%s",
        table(_narrow(rows, header), header),
        "\n".join(textwrap.wrap("; ".join(meanings), WIDTH - 1)),
        results_in(folder),
    )


def results_in(folder: Path) -> str:
    """Where a run lies, and in lines below it what is there."""
    names = _contents(folder)
    lines = textwrap.wrap(
        ", ".join(names), WIDTH - 2, break_long_words=False, break_on_hyphens=False
    )
    return "\n  ".join([f"Results: {folder}", *lines])


def _contents(folder: Path) -> list[str]:
    """Names of files, and of folders with a slash behind them."""
    listed = Path(folder).iterdir() if Path(folder).is_dir() else []
    names = {f"{path.name}/" if path.is_dir() else path.name for path in listed}
    first = [name for name in CONTENTS if name in names]
    others: dict[str, None] = {}
    for name in sorted(names.difference(first)):
        pattern = next((pattern for pattern in SEVERAL if fnmatchcase(name, pattern)), name)
        others[pattern] = None
    return [*first, *map(on_one_line, others)]


def _narrow(rows: list[tuple[str, ...]], header: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Rows whose table is at most WIDTH columns wide: the second column goes on in rows below."""
    others = [column for number, column in enumerate(zip(header, *rows)) if number != 1]
    taken = sum(2 + max(map(len, column)) for column in others)
    narrow = []
    for split, metric, *values in rows:
        first, *rest = _pieces(metric, max(WIDTH - taken, 12))
        narrow += [(split, first, *values), *(("", f"  {piece}", "", "", "") for piece in rest)]
    return [row[: len(header)] for row in narrow]


def _pieces(name: str, width: int) -> list[str]:
    """A name in pieces that fit a width, those after the first with an indent of two.

    It is divided behind the family of the metric, or else behind any mark in it.
    """
    if len(name) <= width:
        return [name]
    family, _, metric = name.partition(" ")
    if len(family) <= width and len(metric) <= width - 2:
        return [family, metric]
    pieces = [""]
    for word in re.findall(r"[^\s_@]*[\s_@]|[^\s_@]+", name):
        for part in textwrap.wrap(word, width - 2, drop_whitespace=False):
            if len(pieces[-1] + part) > width - 2:
                pieces.append("")
            pieces[-1] += part
    return [piece.rstrip() for piece in pieces]


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
