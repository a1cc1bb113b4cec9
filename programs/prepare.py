"""A benchmark as it is passed around, made into the layout that training reads.

python -m programs.prepare cub200 --download --to DATA
python -m programs.prepare cars196 --from car_ims.tgz cars_annos.mat --to DATA
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from programs import command_line
from utilities import processes
from utilities.errors import UserError, on_one_line


class Known(NamedTuple):
    """What `--help` says of a benchmark.

    Repeated here from `datasets`, which loads torch; the tests hold it against that.

    Attributes:
        source: where its files come from. has_address: whether `--download` can fetch them.
        layouts: titles of those that are recognised.
    """

    source: str
    has_address: bool
    layouts: tuple[str, ...]


KNOWN = {
    "cub200": Known(
        "https://data.caltech.edu/records/65de6-vp158",
        True,
        (
            "CUB_200_2011 as published: images/ with images.txt and image_class_labels.txt",
            "images in folders that are all called NNN.Name",
        ),
    ),
    "cars196": Known(
        "a mirror, because the authors' page is gone since 2023; any of these does: car_ims with "
        "cars_annos.mat, cars_train and cars_test with the devkit and "
        "cars_test_annos_withlabels.mat, or images in a folder per class",
        False,
        (
            "car_ims/ with cars_annos.mat",
            "cars_train/ and cars_test/ with cars_meta.mat, cars_train_annos.mat and "
            "cars_test_annos_withlabels.mat",
            "images in a folder per class, below train/ and test/ or not",
        ),
    ),
    "online_products": Known(
        "https://cvgl.stanford.edu/projects/lifted_struct/",
        True,
        ("<super-class>_final/ folders with Ebay_train.txt and Ebay_test.txt",),
    ),
    "inshop": Known(
        "the folder 'In-shop Clothes Retrieval Benchmark' that "
        "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html links to: Img/img.zip "
        "(not img_highres.zip, which needs a password), Eval/list_eval_partition.txt and, for "
        "guidance by descriptions, Anno/list_description_inshop.json",
        False,
        ("img/ (of img.zip) with list_eval_partition.txt",),
    ),
}


class Flags(argparse.Namespace):
    name: str
    sources: list[Path]
    target: Path
    download: bool
    short_side: int
    allow_partial: bool


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong setting or file, 130 interrupted."""
    flags = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of images that can be read all the same
    try:
        run(flags)
    except UserError as error:
        return _stop(f"error: {error}", 2)
    except OSError as error:  # a full disk, a folder that may not be written
        return _stop(f"error: {error.filename or flags.target}: {error.strerror or error}.", 2)
    except KeyboardInterrupt:
        return _stop(
            "interrupted; nothing half made is left, and a download goes on when the same command "
            "is given again.",
            130,
        )
    return 0


def parse(argv: list[str] | None) -> Flags:
    parser = command_line.build_parser(
        "prepare", "Make <DIR>/<NAME> of a benchmark as you have it: archives or folders."
    )
    parser.epilog = layouts_by_benchmark()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "name", metavar="NAME", choices=tuple(KNOWN), help=f"One of: {', '.join(KNOWN)}."
    )
    parser.add_argument(
        "--from",
        dest="sources",
        metavar="PATH",
        type=command_line.place,
        action="extend",
        nargs="+",
        default=[],
        help="Archives (zip, tar), folders and single files that belong to it. They are only read.",
    )
    parser.add_argument(
        "--to",
        dest="target",
        metavar="DIR",
        type=command_line.place,
        required=True,
        help="Folder in which <NAME> is made: the --source_path of training.",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="Fetch the archive into DIR from its official address; a broken download goes on "
        "where it stopped.",
    )
    parser.add_argument(
        "--short_side",
        metavar="N",
        type=command_line.at_least(0),
        default=0,
        help="Reduce larger images to N pixels on their short side (256 is what evaluation at 224 "
        "reads); without it all stay as they are.",
    )
    parser.add_argument(
        "--allow_partial",
        action="store_true",
        help="Accept counts and checksums other than the published ones.",
    )
    flags = parser.parse_args(argv, Flags())
    if not flags.sources and not flags.download:
        parser.error("give what you have with --from, or --download.")
    return flags


def layouts_by_benchmark() -> str:
    """Where each benchmark comes from, and in which layouts it is recognised."""
    lines = ["Layouts that are recognised, nested or not:"]
    for name, known in KNOWN.items():
        lines.append(f"{name}: from {known.source}{' (--download)' if known.has_address else ''}")
        lines += [f"  - {layout}" for layout in known.layouts]
    return "\n".join(lines)


def run(flags: Flags) -> None:
    """Fetch the archive if that is asked for, and make the dataset."""
    from datasets.prepare import prepare

    processes.require_alone("python -m programs.prepare")
    sources = list(flags.sources)
    if flags.download and not (flags.target / flags.name).exists():
        sources.append(_downloaded(flags.name, flags.target))
    prepare(
        flags.name,
        sources,
        flags.target,
        short_side=flags.short_side,
        allow_partial=flags.allow_partial,
    )


def _downloaded(name: str, folder: Path) -> Path:
    from datasets import BENCHMARKS
    from datasets.prepare import download

    facts = BENCHMARKS[name].FACTS
    if not facts.url:
        raise UserError(
            f"--download: {name} has no address that can be fetched from; get it from "
            f"{facts.source}, and pass it with --from."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return download.fetch(facts.url, folder, facts.files[facts.url.rpartition("/")[2]])


def _stop(message: str, status: int) -> int:
    if processes.speaks_for_machine():
        print(f"python -m programs.prepare: {on_one_line(message)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
