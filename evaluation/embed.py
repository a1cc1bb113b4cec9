"""Embeddings of images, by the network of a checkpoint.

python -m evaluation.embed RUN_FOLDER --from PHOTOS --to photos.npz
python -m evaluation.embed CHECKPOINT --dataset cub200 --source_path DATA --split test --to
cub200.parquet
"""

import argparse
import logging
import sys
from pathlib import Path

import datasets
from datasets.images import ImageSplit
from evaluation import command_line, embedding_file, trained
from utilities.runtime import select_device

LOG = logging.getLogger("evaluation.embed")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong flag or file, 130 interrupted."""
    return command_line.run("embed", run, parse(argv))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.build_parser(
        "embed", "Write the embeddings of images to a file, with their paths and classes."
    )
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--from",
        dest="folder",
        metavar="FOLDER",
        help="Embed all images below this folder; its sub-folders, if any, are the classes.",
    )
    images.add_argument(
        "--dataset",
        metavar="NAME",
        help="Embed a dataset of main.py instead, found by --source_path.",
    )
    parser.add_argument("--source_path", metavar="DIR", help="With --dataset: as in main.py.")
    parser.add_argument(
        "--split",
        choices=("train", "test"),
        default="test",
        help="With --dataset: which part (%(default)s).",
    )
    parser.add_argument(
        "--to",
        metavar="FILE",
        type=Path,
        required=True,
        help="File to write: .npz (arrays embeddings [N, D] float32, paths, labels, class_names; "
        "label -1 is no class) or .parquet (columns path, label, class_name, embedding).",
    )
    parser.add_argument(
        "--evaltype",
        choices=("embeds", "avg_features"),
        default="embeds",
        help="The embedding (the default), or the pooled features below it.",
    )
    command_line.add_embedding_flags(parser)
    flags = parser.parse_args(argv)
    if flags.to.suffix not in embedding_file.SUFFIXES:
        parser.error(
            f"argument --to: {flags.to} must end in {' or '.join(embedding_file.SUFFIXES)}"
        )
    if bool(flags.dataset) != bool(flags.source_path):
        parser.error("--dataset and --source_path go together")
    return flags


def run(flags: argparse.Namespace) -> None:
    """Find the images, load the network, and write each batch as it comes."""
    split = dataset_split(flags) if flags.dataset else trained.images_below(flags.folder, "--from")
    split = trained.whole(split, "--dataset" if flags.dataset else "--from", flags.on_bad_image)
    network = trained.load(flags.checkpoint, select_device(flags.device, flags.gpu))
    rows = trained.embed(
        network,
        split,
        evaltype=flags.evaltype,
        batch_size=flags.bs,
        workers=flags.kernels,
        precision=flags.precision,
    )
    dim = trained.dimension(network, flags.evaltype)
    embedding_file.write(
        flags.to, rows, dim, trained.source(network, split, flags.evaltype), "--to"
    )
    LOG.info(
        "%s: %s of %d images, %d numbers each, %d classes.",
        flags.to,
        flags.evaltype,
        len(split),
        dim,
        len(split.class_texts),
    )


def dataset_split(flags: argparse.Namespace) -> ImageSplit:
    """What --dataset, --source_path and --split name."""
    splits = datasets.select(flags.dataset, flags.source_path)
    return splits.training if flags.split == "train" else splits.testing


if __name__ == "__main__":
    sys.exit(main())
