"""A page to show, of a run or of several beside each other.

python -m programs.report RUN
python -m programs.report Training_Results/cub200 --to cub200.html
"""

import logging
import sys
from pathlib import Path

from programs import command_line
from programs.page.panels import Asked
from programs.page.text import counted
from utilities.errors import UserError

LOG = logging.getLogger("programs.report")
USUAL_NAME = "report.html"
PANELS = 60


class Flags(command_line.EmbeddingFlags):
    place: Path
    to: Path | None
    baseline: str | None
    panels: int | None
    source_path: Path | None


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong flag or file, 130 interrupted."""
    return command_line.run("report", run, parse(argv))


def parse(argv: list[str] | None) -> Flags:
    parser = command_line.build_parser(
        "report",
        "Write one HTML file that shows a run: numbers, curves, what it retrieves, its settings "
        "and how to reproduce it; of a folder with several runs, their comparison. It needs no "
        "network and can be sent around.",
    )
    parser.add_argument(
        "place",
        metavar="RUN|FOLDER",
        type=command_line.place,
        help="A run folder, or a folder that holds some at any depth.",
    )
    parser.add_argument(
        "--to",
        metavar="FILE.html",
        type=command_line.output,
        help=f"File to write ({USUAL_NAME} in the folder). A page of before is written anew, no "
        "other file.",
    )
    parser.add_argument(
        "--baseline",
        metavar="GROUP",
        help="Of several runs: the group that others are held against, over the seeds of both.",
    )
    parser.add_argument(
        "--panels",
        type=command_line.at_least(0),
        help=f"Queries of the test split to show with their neighbours, at most ({PANELS}). They "
        "are embedded again from the checkpoint of a run; 0 embeds nothing. Not for several runs.",
    )
    parser.add_argument(
        "--source_path",
        metavar="DIR",
        type=command_line.place,
        help="Where the data lies, if not where the run read it.",
    )
    command_line.add_embedding_flags(parser)
    flags = parser.parse_args(argv, Flags())
    if flags.to and flags.to.suffix not in (".html", ".htm"):
        parser.error(f"argument --to: {flags.to} must end in .html")
    return flags


def run(flags: Flags) -> None:
    """Find the runs, read them, and write the page."""
    from programs.page import comparison_page, run_page, writing
    from programs.results import runs

    found = runs.find([flags.place])
    file = flags.to or flags.place / USUAL_NAME
    writing.require_free(file)
    _require_effect(flags, len(found))
    if len(found) == 1:
        size = run_page.write(found[0], file, _asked(flags))
    else:
        size = comparison_page.write(flags.place, found, file, flags.baseline)
    LOG.info("%s: %s, %.1f MB.", file, counted(len(found), "run"), size / 1e6)


def _require_effect(flags: Flags, count: int) -> None:
    """Raises UserError for a flag of one run with several, or of several with one."""
    holds = f"and {flags.place} holds {counted(count, 'run')}"
    if count == 1 and flags.baseline is not None:
        raise UserError(f"--baseline is for several runs, {holds}; leave it out.")
    if count > 1 and flags.panels:
        raise UserError(f"--panels is for one run, {holds}; leave it out.")


def _asked(flags: Flags) -> Asked:
    source = flags.source_path
    return Asked(
        PANELS if flags.panels is None else flags.panels,
        str(source) if source else None,
        flags.device,
        flags.gpu_index,
        flags.precision,
        flags.bs,
        flags.kernels,
        flags.on_bad_image,
    )


if __name__ == "__main__":
    sys.exit(main())
