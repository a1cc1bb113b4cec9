"""Runs beside each other: means over seeds, differences to a baseline, published numbers, curves.

python -m programs.compare Training_Results/cub200 --baseline cub200-rn128_msim_baseline
python -m programs.compare RUN_FOLDER RUN_FOLDER --metrics e_recall@1 mAP_1000 --to table.tex
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from programs import command_line
from programs.constants import COMPARISON_FILES, CURVE_FILES, SPLITS, VALUES

if TYPE_CHECKING:
    from programs.results.comparison import Comparison

LOG = logging.getLogger("programs.compare")


class Flags(argparse.Namespace):
    places: list[str]
    baseline: str | None
    metrics: list[str]
    split: str
    value: str
    evaluations: bool
    format: str | None
    seeds_shown: bool
    to: Path | None
    curves: Path | None


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong flag or file, 130 interrupted."""
    return command_line.run("compare", run, parse(argv))


def parse(argv: list[str] | None) -> Flags:
    parser = command_line.build_parser(
        "compare",
        "Compare finished runs by group over their seeds: mean and standard deviation of metrics, "
        "difference to a baseline over the same seeds with its 95 % interval, settings that "
        "differ, and what the paper reports of the same setting. All that is left out is told.",
    )
    parser.add_argument(
        "places",
        metavar="RUN|FOLDER",
        nargs="+",
        help="Run folders of main.py, or folders that hold some at any depth.",
    )
    parser.add_argument(
        "--baseline", metavar="GROUP", help="The group that others are held against."
    )
    parser.add_argument(
        "--metrics",
        metavar="NAME",
        action="extend",
        nargs="+",
        default=[],
        help="Names as in --evaluation_metrics of main.py, with avg_features: before them for "
        "that evaltype, or keys of results.json. By default e_recall@1, mAP_1000, mAP@R and nmi, "
        "as far as runs have them.",
    )
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0], help="Default: %(default)s.")
    parser.add_argument(
        "--value",
        choices=VALUES,
        default=VALUES[0],
        help="Of which the difference is: the best epoch (the default), the epoch that the "
        "validation split chooses, or the last.",
    )
    parser.add_argument(
        "--evaluations",
        action="store_true",
        help="Take what --evaluate_only made too, as groups of their own.",
    )
    _add_output(parser)
    return _checked(parser, parser.parse_args(argv, Flags()))


def run(flags: Flags) -> None:
    """Read the runs, compare them, write table and curves."""
    from programs.results import runs, tables
    from programs.results.comparison import compare

    compared = compare(
        runs.find(flags.places),
        flags.baseline,
        flags.metrics,
        flags.split,
        value=flags.value,
        evaluations=flags.evaluations,
    )
    written = tables.document(compared, flags.format or "text", seeds_shown=flags.seeds_shown)
    if flags.to:
        _write(flags.to, written)
    else:
        print(written, end="")
    if flags.curves:
        _draw(compared, flags.curves)
    if flags.to or flags.format not in (None, "text"):
        for sentence in (*compared.left_out, *compared.warnings):
            LOG.info("%s", sentence)


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--format",
        choices=list(COMPARISON_FILES.values()),
        help="text (the default) fits 100 columns; csv and json hold all numbers, as results.json "
        "has them. The ending of --to chooses it as well.",
    )
    group.add_argument(
        "--seeds_shown", action="store_true", help="Show the value of each seed in tables, too."
    )
    group.add_argument(
        "--to",
        metavar="FILE",
        type=command_line.output,
        help="Write there instead of to standard output.",
    )
    group.add_argument(
        "--curves",
        metavar=f"FILE{'|'.join(CURVE_FILES)}",
        type=command_line.output,
        help="Draw the metrics over the epochs, a line for each group, with a band of one "
        "standard deviation over its seeds.",
    )


def _checked(parser: argparse.ArgumentParser, flags: Flags) -> Flags:
    """With the format that --to implies; ends the program where a file cannot be written."""
    for name, file in {"to": flags.to, "curves": flags.curves}.items():
        if file and (file.is_dir() or not file.parent.is_dir()):
            why = "it is a folder" if file.is_dir() else f"there is no folder {file.parent}"
            parser.error(f"argument --{name}: {file}: {why}")
    if flags.curves and flags.curves.suffix not in CURVE_FILES:
        parser.error(f"argument --curves: {flags.curves} must end in {', '.join(CURVE_FILES)}")
    if flags.to and not flags.format:
        flags.format = COMPARISON_FILES.get(flags.to.suffix)
        if not flags.format:
            endings = ", ".join(COMPARISON_FILES)
            parser.error(f"argument --to: {flags.to} must end in {endings}, or give --format")
    return flags


def _draw(compared: "Comparison", file: Path) -> None:
    from programs.results import curves

    said = _said_of(file)
    for sentence in curves.draw(compared, file):
        LOG.info("%s", sentence)
    LOG.info("%s: %s", said, file)


def _write(file: Path, content: str) -> None:
    from utilities.run_folder import write_atomically

    said = _said_of(file)
    write_atomically(file, content)
    LOG.info("%s: %s", said, file)


def _said_of(file: Path) -> str:
    return "Replaced" if file.exists() else "Written"


if __name__ == "__main__":
    sys.exit(main())
