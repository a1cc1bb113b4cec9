"""python -m datasets.prepare NAME --from PATH... --to DIR"""

import argparse
import logging
import sys
from pathlib import Path

from datasets import BENCHMARKS
from datasets.prepare import download, layouts, prepare
from utilities.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.prepare",
        description="Make <DIR>/<NAME> of a benchmark as you have it: archives or folders.",
        epilog=_known(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "name", metavar="NAME", choices=BENCHMARKS, help=f"One of: {', '.join(BENCHMARKS)}."
    )
    parser.add_argument(
        "--from",
        dest="sources",
        metavar="PATH",
        type=Path,
        nargs="+",
        default=[],
        help="Archives (zip, tar), folders and single files that belong to it. They are only read.",
    )
    parser.add_argument(
        "--to",
        dest="target",
        metavar="DIR",
        type=Path,
        required=True,
        help="Folder in which <NAME> is made: the --source_path of training.",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="Fetch the archive into DIR from its official address; a broken download goes on where it stopped.",
    )
    parser.add_argument(
        "--short_side",
        metavar="N",
        type=int,
        default=0,
        help="Reduce larger images to N pixels on their short side (256 is what evaluation at 224 reads); without it all stay as they are.",
    )
    parser.add_argument(
        "--allow_partial",
        action="store_true",
        help="Accept counts and checksums other than the published ones.",
    )
    return parser


def _known() -> str:
    lines = []
    for name, dataset in BENCHMARKS.items():
        lines.append(
            f"{name}: from {dataset.FACTS.source}{' (--download)' if dataset.FACTS.url else ''}"
        )
        lines += [f"  - {layout.title}" for layout in layouts.LAYOUTS[name]]
    return "\n".join(["Layouts that are recognised, nested or not:", *lines])


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong setting or file, 130 interrupted."""
    parser = build_parser()
    asked = parser.parse_args(argv)
    if asked.short_side < 0:
        parser.error(f"--short_side must be at least 0, not {asked.short_side}.")
    if not asked.sources and not asked.download:
        parser.error("give what you have with --from, or --download.")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    try:
        is_there = (asked.target / asked.name).exists()
        sources = asked.sources + (
            [_downloaded(asked.name, asked.target)] if asked.download and not is_there else []
        )
        prepare(
            asked.name,
            sources,
            asked.target,
            short_side=asked.short_side,
            allow_partial=asked.allow_partial,
        )
    except UserError as error:
        return _stop(f"error: {error}", 2)
    except OSError as error:  # a full disk, a folder that may not be written
        return _stop(f"error: {error.filename or asked.target}: {error.strerror or error}.", 2)
    except KeyboardInterrupt:
        return _stop(
            "interrupted; nothing half made is left, and a download goes on when the same command is given again.",
            130,
        )
    return 0


def _downloaded(name: str, folder: Path) -> Path:
    facts = BENCHMARKS[name].FACTS
    if not facts.url:
        raise UserError(
            f"--download: {name} has no address that can be fetched from; get it from {facts.source}, and pass it with --from."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return download.fetch(facts.url, folder, facts.files[facts.url.rpartition("/")[2]])


def _stop(message: str, status: int) -> int:
    print(f"prepare: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
