"""What a run says on the console."""

import inspect
import logging
import sys
from collections.abc import Callable
from typing import TextIO

import torch

from utilities.errors import UserError
from utilities.meters import NonFiniteLoss

LOG = logging.getLogger(__name__)


def configure_logging(stream: TextIO | None = None) -> None:
    """Plain sentences on standard output, or another stream."""
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", stream=stream or sys.stdout, force=True
    )
    for room in (
        "main",
        "build",
        "datasets",
        "evaluation",
        "language_guidance",
        "utilities",
    ):  # libraries tell of things nobody asked
        logging.getLogger(room).setLevel(logging.INFO)
    logging.getLogger("huggingface_hub").setLevel(
        logging.ERROR
    )  # its retries end in a message of ours
    sys.stdout.reconfigure(
        line_buffering=True
    )  # a log file shows an epoch when it ends, not when the run does


def exit_status(run: Callable, *arguments, program: str = "main.py") -> int:
    """Run, and turn what ends it into a sentence on standard error and the exit status of the program."""
    try:
        run(*arguments)
    except UserError as error:
        message, status = f"error: {error}", 2
    except torch.OutOfMemoryError:
        message, status = (
            "error: the GPU is out of memory; lower --bs (or --image_size in training), or use --precision bf16.",
            2,
        )
    except NonFiniteLoss as error:
        message, status = (
            f"stopped: {error}; lower --lr or --language_distill_w, or use --precision fp32.",
            1,
        )
    except KeyboardInterrupt as interrupt:
        message, status = f"interrupted{interrupt}", 130
    else:
        return 0
    print(f"{program}: {message}", file=sys.stderr)
    return status


def first_line(documented) -> str:
    """What a class or function does, in a line: the first of its docstring."""
    return inspect.getdoc(documented).splitlines()[0]


def print_catalogue(sections: dict[str, dict[str, str]]) -> None:
    """Title -> name -> line, aligned."""
    width = max(len(name) for lines in sections.values() for name in lines)
    for title, lines in sections.items():
        LOG.info(
            "%s",
            "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in lines.items()), ""]),
        )


def print_summary(
    settings: dict,
    splits,
    *,
    mined: bool,
    weights: int,
    device: str,
    texts: list[list[str]],
    folder,
) -> None:
    """What is about to run, line by line.

    Args:
        splits: training, validation, testing. mined: whether the objective uses the batch miner.
            weights: of the network.
        texts: class texts or pseudolabels of each training class, empty without guidance.
    """
    named = {"train": splits.training, "validation": splits.validation, "test": splits.testing}
    lines = {
        f"{settings['dataset']} ({name})": f"{len(split.class_texts)} classes, {len(split)} images"
        for name, split in named.items()
        if split
    }
    lines |= {
        "objective": settings["loss"],
        "miner": settings["batch_mining"] if mined else "none (the objective uses the whole batch)",
        "sampler": settings["data_sampler"],
        "trunk": f"{settings['arch']}, {weights:,} weights",
        "device": device,
    }
    if texts:
        source = "class names"
        if settings["language_pseudoclass"]:
            source = f"top-{settings['language_pseudoclass_topk']} pseudolabels of {settings['language_pseudoclass_arch']}"
        lines["guidance"] = (
            f"{settings['language_distill_w']:g} x {settings['language_distill_dir']} from {settings['language_model']}, {source}"
        )
        lines |= {
            f"  {name}": ", ".join(ranked)
            for name, ranked in list(zip(splits.training.class_texts, texts))[:3]
        }
    lines["run folder"] = str(folder)
    width = max(map(len, lines))
    LOG.info(
        "%s", "\n".join(["", *(f"{name:<{width}}  {text}" for name, text in lines.items()), ""])
    )


def print_epoch(epoch: int, epochs: int, evaltypes: list[str], losses: dict, values: dict) -> None:
    """One line for the losses, and those of `print_values`."""
    seconds = losses["time"]["time"]
    shown = "  ".join(
        f"{name} {metrics[name]:.4f}" for name, metrics in losses.items() if name != "time"
    )
    LOG.info("Epoch %d of %d: %s  (training %.1f s)", epoch, epochs, shown, seconds)
    print_values(evaltypes, values)


def print_values(evaltypes: list[str], values: dict) -> None:
    """A line for each evaluated split and evaltype."""
    for split, families in values.items():
        for evaltype in evaltypes:
            numbers = "  ".join(
                f"{name} {value:.4f}"
                for family, metrics in families.items()
                if family.startswith(f"{evaltype}_")
                for name, value in metrics.items()
            )
            LOG.info("  %-5s %s  %s", split, evaltype, numbers)


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


def print_results(summary: dict, folder) -> None:
    """The values of each metric with their epochs, and where everything lies."""
    known = {name for metrics in summary.values() for values in metrics.values() for name in values}
    columns = {title: names for title, names in THREE_VALUES.items() if names[0] in known}
    rows = [
        (
            split,
            metric,
            *(
                f"{values[value]:.4f} (epoch {values[epoch]})" if value in values else ""
                for value, epoch, _ in columns.values()
            ),
        )
        for split, metrics in summary.items()
        for metric, values in metrics.items()
    ]
    meanings = "; ".join(f"{title}: {meaning}" for title, (*_, meaning) in columns.items())
    LOG.info(
        "\n%s\n\n%s.\nResults: %s (results.json, CSV_Logs/, Progression_Plots/, checkpoint_last.pth.tar, args.yaml)",
        table(rows, ("split", "metric", *columns)),
        meanings,
        folder,
    )


def table(rows: list[tuple], header: tuple) -> str:
    """Aligned columns; floats with four digits after the point."""
    cells = [
        tuple(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row)
        for row in [header, *rows]
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def merge(first: dict, second: dict) -> dict:
    """Two `Values` as one; the splits of both keep all their families."""
    return {split: first.get(split, {}) | second.get(split, {}) for split in {**first, **second}}
